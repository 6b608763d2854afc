"""A router, a controller and workers that have no file descriptor left go on, and no healthy cell is touched."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil
import pytest

from router.adapters.clock import SystemClock
from tests.support.aio import run, until
from tests.support.leadership_world import nothing_left, workers
from tests.support.system import System

pytestmark = pytest.mark.one_kind  # it is about processes and their limits

LIMIT_S: Final = 240
SPARE: Final = 20  # file descriptors that a process may open on top of those that it has
FEW: Final = 4
"""All numbers of file descriptors below that are in use, so nothing can be opened and all that is open stays so."""


@contextmanager
def without_descriptors(processes: list[psutil.Process]) -> Iterator[None]:
    """Keep these processes from opening anything during the block."""
    before = [process.rlimit(psutil.RLIMIT_NOFILE) for process in processes]
    for process, (_, hard) in zip(processes, before, strict=True):
        process.rlimit(psutil.RLIMIT_NOFILE, (FEW, hard))
    yield
    for process, limits in zip(processes, before, strict=True):
        process.rlimit(psutil.RLIMIT_NOFILE, limits)


def test_without_file_descriptors_everything_goes_on(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """What was connected works on; each process says that they run out and when there are enough again."""
    system = System(redis_url, aws_endpoint, tmp_path, cells=2, fifo=False)

    async def story() -> None:
        async with system.running():
            router = await system.router()
            await send(system, "before")
            cells = list(workers(system.name))
            roles = [psutil.Process(role.process.pid) for role in (system.leader, router)]
            audit = await system.leader.audit()
            with without_descriptors([*roles, *cells]):
                await until(lambda: said(system, "file descriptors run out"), f"all say so\n{system.logs()}", 60)
            await until(lambda: said(system, "there are enough file descriptors again"), "all say so", 60)
            await send(system, "after")
            assert list(workers(system.name)) == cells
            assert await system.leader.audit() == audit

    with nothing_left(system):
        run(story(), LIMIT_S)


async def send(system: System, key: str) -> None:
    """Send a few events and wait for their effects."""
    await system.send([{"key": f"{key}-{number}"} for number in range(8)])
    await system.done(set(system.sent))


async def said(system: System, event: str) -> bool:
    """Whether all four processes have said this in their logs."""
    logs = [*system.directory.glob("*.log"), *(system.directory / "data" / "run").glob("*.log")]
    assert len(logs) == 4
    return all(f'"{event}"' in log.read_text() for log in logs)


@pytest.mark.alone
def test_more_connections_than_descriptors_keep_no_process_busy(
    redis_url: str, aws_endpoint: str, tmp_path: Path
) -> None:
    """Whoever opens so many to its API takes its descriptors; connections that can't be taken are closed."""
    system = System(redis_url, aws_endpoint, tmp_path, cells=1, fifo=False)

    async def story() -> None:
        async with system.running():
            router = await system.router()
            process = psutil.Process(router.process.pid)
            highest = highest_descriptor(process)
            process.rlimit(psutil.RLIMIT_NOFILE, (highest + SPARE, process.rlimit(psutil.RLIMIT_NOFILE)[1]))
            with ExitStack() as connections:
                for _ in range(5 * SPARE):
                    connections.enter_context(connected(router.url))
                used_s = await cpu_of(process, during_s=6)
            assert used_s < 3, "a process that can't take connections tries it over and over"
            await until(router.answers, "it answers again")

    run(story(), LIMIT_S)


def highest_descriptor(process: psutil.Process) -> int:
    """Return the highest file descriptor that the process has open."""
    return max(int(each.name) for each in Path(f"/proc/{process.pid}/fd").iterdir())


def connected(url: str) -> socket.socket:
    """Connect, and say nothing."""
    parts: Any = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


async def cpu_of(process: psutil.Process, during_s: float) -> float:
    """Measure how many seconds of CPU the process uses meanwhile."""
    before = sum(process.cpu_times()[:2])
    await SystemClock().sleep(during_s)
    return float(sum(process.cpu_times()[:2]) - before)
