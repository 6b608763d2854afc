"""Fixtures for every ring: the real servers, started once a run and only when a test asks for them.

Tests that ask for `redis_url` or `aws_endpoint` run on the kind of servers that `--servers` names, or on both kinds.
Tests marked `one_kind` run on the embedded ones unless one kind is named: docs/how-to/testing.md.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import pytest
import structlog

from tests.support import fuzz_table
from tests.support.aio import run
from tests.support.docker import has_engine
from tests.support.shared_servers import KINDS, Servers, shared
from tests.support.system import System

ALONE: Final = (
    "alone: it is about how soon something is done, or about a whole Docker engine, so nothing may run beside it"
)
ONE_KIND: Final = "one_kind: what the test is about is not the servers, so that the quickest kind of them is enough"
LONG: Final = "long: it takes minutes, and runs with --long only"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say on which servers tests run, and where failures are noted."""
    parser.addoption(
        "--servers",
        choices=["embedded", "containers", "both"],
        help="what tests of AWS and Redis run on: MiniStack and Valkey; LocalStack and Redis 7 in Docker; or each, as "
        "with CI=true. Without it: containers where Docker answers, embedded where not.",
    )
    parser.addoption("--long", action="store_true", help="run the tests too that are marked `long`")
    parser.addoption(
        "--note-failures",
        type=Path,
        metavar="FILE",
        help="append the name of every test that fails, one a line: tests/support/rings.py runs them again",
    )


class FailureNotes:
    """Notes the name of every test that fails, and of every file that can't be collected."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test whose set-up, call or tear-down failed."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that can't be imported."""
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            with self._file.open("a") as notes:
                notes.write(f"{report.nodeid}\n")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the credentials and settings of whoever runs the tests out of them, and let their processes hear Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts background jobs in this way
        signal.signal(signal.SIGINT, signal.default_int_handler)  # otherwise no process of a test would hear Ctrl-C
    notes = config.getoption("--note-failures")
    if notes is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailureNotes(notes))
    config.addinivalue_line("markers", ALONE)
    config.addinivalue_line("markers", ONE_KIND)
    config.addinivalue_line("markers", LONG)
    for name in [name for name in os.environ if name.startswith(("AWS_", "CELLROUTER_", "CELL_"))]:
        if name != "AWS_CA_BUNDLE":
            del os.environ[name]
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
    os.environ["XDG_STATE_HOME"] = os.devnull  # no system that runs here is any test's business


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what takes minutes, unless it was asked for."""
    if item.get_closest_marker("long") is not None and not item.config.getoption("--long"):
        pytest.skip("takes minutes: --long runs it")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show which readers were fuzzed, and with how much."""
    stats = terminalreporter.stats
    for line in fuzz_table.lines(stats.get("passed", []), stats.get("failed", [])):
        terminalreporter.write_line(line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that needs servers on each kind of servers that was asked for."""
    if "servers" in metafunc.fixturenames:
        one_kind = metafunc.definition.get_closest_marker("one_kind") is not None
        kinds = _kinds(metafunc.config.getoption("--servers"), one_kind=one_kind)
        fakes = [fake for fake in ("memory", "strict") if f"{fake}_too" in metafunc.fixturenames]
        metafunc.parametrize("servers", [*fakes, *kinds], indirect=True, scope="session")


def _kinds(asked: str | None, *, one_kind: bool) -> list[str]:
    if asked in {"embedded", "containers"}:
        return [asked]
    if one_kind:
        return ["embedded"]
    if asked == "both" or os.environ.get("CI") == "true":
        return ["embedded", "containers"]
    return ["containers" if has_engine() else "embedded"]


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Take back, after each test, how it has set up the log: its stream is closed, and the next test logs too."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Servers:
    """Return the kind of servers that the test runs on."""
    return KINDS[request.param]


@pytest.fixture(scope="session")
def run_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of pytest have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture(scope="session")
def aws_endpoint(servers: Servers, run_folder: Path) -> Iterator[str]:
    """The endpoint URL of an AWS shared by the whole run: name what you make uniquely. Empty for a fake in memory."""
    with shared(servers.aws, run_folder) if servers.aws else nullcontext("") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def redis_url(servers: Servers, run_folder: Path) -> Iterator[str]:
    """The redis:// URL of a server shared by the whole run: use key names of your own. Empty for a fake in memory."""
    with shared(servers.redis, run_folder) if servers.redis else nullcontext("") as url:
        yield url


@pytest.fixture(scope="session")
def dynamodb_endpoint(run_folder: Path) -> Iterator[str]:
    """The endpoint URL of a MiniStack shared by the whole run: LocalStack has no DynamoDB here."""
    with shared("ministack", run_folder) as endpoint:
        yield endpoint


@pytest.fixture
def memory_too() -> None:
    """A suite asks for this fixture to run on a fake in memory too; `aws_endpoint` is empty then."""


@pytest.fixture
def strict_too() -> None:
    """A suite asks for this fixture to run on the strict SQS too; `aws_endpoint` is empty then as well."""


@pytest.fixture
def on_system(redis_url: str, aws_endpoint: str, tmp_path: Path) -> Callable[..., System]:
    """Return a function that runs a story on a system of its own, whose cells serve."""

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
