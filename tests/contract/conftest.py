"""The stores that the suites of the Store port and of the sinks run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from cell_worker.store.dynamodb import DynamoStore
from tests.support.stores import Make, maker, on_table
from tests.support.strict_dynamodb import StrictDynamo, strict_dynamo


@pytest.fixture(params=["memory", "sqlite", "dynamodb", "strict dynamodb"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make stores of one kind, all on the same volume or table."""
    kind = str(request.param)
    if kind in ("memory", "sqlite"):
        yield maker(kind, tmp_path)
        return
    ministack = kind == "dynamodb"
    server = nullcontext((None, request.getfixturevalue("dynamodb_endpoint"))) if ministack else strict_dynamo()
    with server as (_, endpoint), on_table(endpoint, made=not ministack) as make:
        yield make


@pytest.fixture
def server() -> Iterator[tuple[StrictDynamo, Callable[[], DynamoStore]]]:
    """A strict server, and what makes stores on it."""
    with strict_dynamo() as (dynamo, endpoint), on_table(endpoint, made=True) as make:
        yield dynamo, make


@pytest.fixture
def dynamo(server: tuple[StrictDynamo, Callable[[], DynamoStore]]) -> StrictDynamo:
    """The strict server's state."""
    return server[0]
