"""A router, a controller and a worker go on when nobody reads their log, or it can't be written at all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from cell_worker.contract.keys import cell_secret
from tests.support.aio import run, until
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY
from tests.support.servers import free_port
from tests.support.system import page

pytestmark = pytest.mark.one_kind  # it is about standard error

ROLES: Final = ("router", "controller", "worker")
EXIT_LIMIT_S: Final = 60
SHUT: Final = 'exec "$@" >&- 2>&-'


@dataclass
class Role:
    """A process, and the base URL of its API."""

    process: subprocess.Popen[bytes]
    url: str

    def get(self, path: str) -> str:
        """Return a page; empty when there is no answer."""
        return page(f"{self.url}{path}")

    async def answers(self) -> bool:
        """Whether it is there."""
        assert self.process.poll() is None, "it has ended"
        return '"status":"ok"' in self.get("/healthz")

    async def has_dropped(self) -> bool:
        """Whether it says that it could not write a line."""
        found = re.search(r"^cell\w*_log_lines_dropped_total (\S+)$", self.get("/metrics"), re.MULTILINE)
        return found is not None and float(found.group(1)) > 0


@contextmanager
def started(role: str, redis_url: str, aws_endpoint: str, directory: Path, log: int | None) -> Iterator[Role]:
    """Start a process whose standard output and error go to `log`; None: it has neither."""
    port, environment = free_port(), directory.name.replace("_", "-").lower()[:40]
    environ = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "CELLROUTER_ENVIRONMENT": environment,
        "CELLROUTER_SECRET": SECRET,
        "CELLROUTER_REDIS_URL": redis_url,
        "CELLROUTER_AWS_ENDPOINT_URL": aws_endpoint,
        "CELLROUTER_API_PORT": str(port),
        "CELLROUTER_SOURCE_WAIT_S": "1",
        "CELLROUTER_CELLS_PROVISIONER": "external",
        "CELL_ID": "cell-0000",
        "CELL_ENVIRONMENT": environment,
        "CELL_SECRET": cell_secret(SECRET, environment, "cell-0000"),
        "CELL_HANDLER": "tests.support.trivial:handle",
        "CELL_REDIS_URL": redis_url,
        "CELL_DATA_DIR": str(directory / "volume"),
        "CELL_SINK": "none",
        "CELL_PORT": str(port),
    }
    command = [sys.executable, "-m", *(["cell_worker"] if role == "worker" else ["router", role])]
    if log is None:
        command = ["/bin/sh", "-c", SHUT, "sh", *command]
    with subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=directory) as process:
        try:
            yield Role(process, f"http://127.0.0.1:{port}")
        finally:
            process.kill()


def filled_pipe() -> tuple[int, int]:
    """Make a pipe that has no room left, and that blocks who writes to it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"\n" * 4096)
    os.set_blocking(writer, True)
    return reader, writer


def ended_in_order(role: Role) -> bool:
    """Ask the process to stop; whether it exits with 0."""
    role.process.send_signal(signal.SIGTERM)
    return role.process.wait(EXIT_LIMIT_S) == 0


@pytest.mark.parametrize("role", ROLES)
def test_a_reader_that_goes_away_ends_nothing(role: str, redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """The lines are dropped and counted, and the process serves and ends in order."""
    reader, writer = os.pipe()
    os.close(reader)
    with started(role, redis_url, aws_endpoint, tmp_path, writer) as it:
        os.close(writer)
        run(until(it.answers, f"the {role} answers"))
        run(until(it.has_dropped, "it counts what it could not write"))
        assert ended_in_order(it)


@pytest.mark.parametrize("role", ROLES)
def test_a_reader_that_stalls_hangs_nothing(role: str, redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """The process serves while its log waits, and its end waits no longer than a moment."""
    reader, writer = filled_pipe()
    with started(role, redis_url, aws_endpoint, tmp_path, writer) as it:
        os.close(writer)
        run(until(it.answers, f"the {role} answers"))
        assert ended_in_order(it)
    os.close(reader)


@pytest.mark.parametrize("role", ROLES)
def test_what_a_stalled_reader_missed_it_reads_later(
    role: str, redis_url: str, aws_endpoint: str, tmp_path: Path
) -> None:
    """Nothing is lost, from the first line to the last."""
    reader, writer = filled_pipe()
    with started(role, redis_url, aws_endpoint, tmp_path, writer) as it, closing(os.fdopen(reader, "rb")) as log:
        os.close(writer)
        run(until(it.answers, f"the {role} answers"))
        it.process.send_signal(signal.SIGTERM)
        said = log.read().decode()
        assert it.process.wait(EXIT_LIMIT_S) == 0
    assert said.index('"event": "started"') < said.index('"event": "stopped"')


@pytest.mark.parametrize("role", ROLES)
def test_a_process_without_any_log_runs(role: str, redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """Its standard output and error are closed, and no connection gets their numbers."""
    with started(role, redis_url, aws_endpoint, tmp_path, None) as it:
        run(until(it.answers, f"the {role} answers"))
        assert {str(Path(f"/proc/{it.process.pid}/fd/{number}").readlink()) for number in (1, 2)} == {"/dev/null"}
        assert ended_in_order(it)
