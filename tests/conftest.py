"""Fixtures for every ring: the real servers, started once per session and only when a test asks for them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.aio import run
from tests.localstack import localstack
from tests.servers import ministack, valkey
from tests.system import System


def pytest_configure() -> None:
    """No test ever uses the credentials or the settings of who runs it."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "CELLROUTER_", "CELL_"))]:
        if name != "AWS_CA_BUNDLE":
            del os.environ[name]
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    """The endpoint URL of a MiniStack shared by the session: name what you make uniquely."""
    with ministack() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def localstack_endpoint() -> Iterator[str]:
    """The endpoint URL of a LocalStack shared by the session, with SQS and S3."""
    with localstack("sqs", "s3") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The redis:// URL of a Valkey shared by the session: use key names of your own."""
    with valkey() as url:
        yield url


@pytest.fixture
def on_system(redis_url: str, aws_endpoint: str, tmp_path: Path) -> Callable[..., System]:
    """Runs a story on a system of its own, whose cells are up."""

    def on(
        story: Callable[[System], Awaitable[None]], *, cells: int = 2, fifo: bool = False, **settings: object
    ) -> System:
        system = System(redis_url, aws_endpoint, tmp_path, cells=cells, fifo=fifo)
        system.environ |= {f"CELLROUTER_{name.upper()}": str(value) for name, value in settings.items()}

        async def main() -> None:
            async with system.running():
                await story(system)

        run(main(), 180)
        return system

    return on
