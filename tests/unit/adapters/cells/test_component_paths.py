"""A component's name, which an instance gives itself, leads a restart to that component and nowhere else."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from yarl import URL

from router.adapters.cells.calls import CellCalls
from router.adapters.cells.control import HttpCellControl
from router.adapters.cells.ends import PLAIN
from router.core.errors import CellUnavailableError
from tests.support.aio import run
from tests.support.fake_clock import FakeClock
from tests.support.fuzz_answers import TARGET, Response
from tests.support.keys import ring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.mark.parametrize("name", ["../drain?", "..", ".", "a/../../drain", "x?y=1", "x#y", "%2e%2e", "a b", "@evil:1/"])
def test_a_name_is_one_part_of_the_path(name: str) -> None:
    """Or no request is made at all."""
    asked: list[URL] = []

    class Session:
        @asynccontextmanager
        async def request(self, _method: str, url: URL, **_: Any) -> AsyncIterator[Response]:
            asked.append(url)
            yield Response(b"{}", 200, "")

    with suppress(CellUnavailableError):
        calls = CellCalls(cast("Any", Session()), ring("live"), FakeClock(), ends=PLAIN)
        run(HttpCellControl(calls).restart(replace(TARGET, address="127.0.0.1:80"), name, 1))
    for url in asked:
        assert (url.host, url.port, url.query_string, url.fragment) == ("127.0.0.1", 80, "", "")
        assert url.raw_parts[:3] == ("/", "v1", "components")
        assert (len(url.raw_parts), url.parts[3], url.raw_parts[4]) == (5, name, "restart") or "/" in name
    assert bool(asked) is (name not in (".", ".."))
