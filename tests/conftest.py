"""Fixtures for every ring: the real servers, started once per session and only when a test asks for them.

Whatever asks for `redis_url` or `aws_endpoint` runs on the kind of servers that `--servers` names, or on each. What is
marked `one_kind` runs on the embedded ones, unless it is told otherwise: docs/testing.md.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.aio import run
from tests.support.containers import localstack, redis
from tests.support.docker import has_engine
from tests.support.servers import ministack, valkey
from tests.support.system import System

ALONE: Final = "alone: nothing may run beside it, since it is about how soon something is done, or about a whole engine"
ONE_KIND: Final = "one_kind: what the test is about is not the servers, so that the quickest kind of them is enough"


@dataclass(frozen=True, slots=True)
class Servers:
    """One kind: its AWS and its Redis."""

    aws_name: str
    aws: Callable[[], AbstractContextManager[str]]
    redis: Callable[[], AbstractContextManager[str]]


@contextmanager
def none() -> Iterator[str]:
    """No server: the test has a fake of its own."""
    yield ""


KINDS: Final = {
    "embedded": Servers("MiniStack", ministack, valkey),
    "containers": Servers("LocalStack", localstack, redis),
    "memory": Servers("", none, none),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which servers."""
    parser.addoption(
        "--servers",
        choices=["embedded", "containers", "both"],
        help="what tests of AWS and Redis run on: MiniStack and Valkey; LocalStack and Redis 7 in Docker; or each, as "
        "with CI=true. Without it: containers where Docker answers, embedded where not.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """No test ever uses the credentials or the settings of who runs it, or is deaf because its runner is."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else no process of a test would hear Ctrl-C
    config.addinivalue_line("markers", ALONE)
    config.addinivalue_line("markers", ONE_KIND)
    for name in [name for name in os.environ if name.startswith(("AWS_", "CELLROUTER_", "CELL_"))]:
        if name != "AWS_CA_BUNDLE":
            del os.environ[name]
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have whatever needs servers run on each kind that was asked for."""
    if "servers" in metafunc.fixturenames:
        one_kind = metafunc.definition.get_closest_marker("one_kind") is not None
        kinds = _kinds(metafunc.config.getoption("--servers"), one_kind=one_kind)
        fakes = ["memory"] * ("memory_too" in metafunc.fixturenames)
        metafunc.parametrize("servers", [*fakes, *kinds], indirect=True, scope="session")


def _kinds(asked: str | None, *, one_kind: bool) -> list[str]:
    if asked in {"embedded", "containers"}:
        return [asked]
    if one_kind:
        return ["embedded"]
    if asked == "both" or os.environ.get("CI") == "true":
        return ["embedded", "containers"]
    return ["containers" if has_engine() else "embedded"]


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Servers:
    """The kind that the test runs on."""
    return KINDS[request.param]


@pytest.fixture(scope="session")
def aws_endpoint(servers: Servers) -> Iterator[str]:
    """The endpoint URL of an AWS shared by the session: name what you make uniquely."""
    with servers.aws() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def redis_url(servers: Servers) -> Iterator[str]:
    """The redis:// URL of a server shared by the session: use key names of your own."""
    with servers.redis() as url:
        yield url


@pytest.fixture
def memory_too() -> None:
    """Asked for by suites of which a fake in memory is one more kind: `aws_endpoint` is empty then."""


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

        run(main(), 300)
        return system

    return on
