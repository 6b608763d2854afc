"""Keeps a process short of CPU: by the quota of a control group, or by SIGSTOP where nobody may make one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks.world import pause

GROUPS: Final = Path("/sys/fs/cgroup")
PERIOD_US: Final = 100_000  # what container engines use
STOPPED_S: Final = 0.3  # without a control group
RUNS_S: Final = 0.1


@asynccontextmanager
async def throttled(pid: int, cpus: float) -> AsyncIterator[str]:
    """Keep a process short of CPU until the context ends, and say how; `cpus` are seconds of CPU a second."""
    with _in_group(pid, cpus) as in_group:
        if in_group:
            yield f"a quota of {cpus:.1%} of a core (control group)"
            return
        stopping = asyncio.create_task(_stop_again_and_again(pid))
        try:
            yield f"SIGSTOP for {STOPPED_S:g} s of each {STOPPED_S + RUNS_S:g} s (this machine allows no control group)"
        finally:
            stopping.cancel()
            await asyncio.wait([stopping])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def _in_group(pid: int, cpus: float) -> Iterator[bool]:
    """Put the process into a group with a quota, and at the end back into its own; yields whether that is possible."""
    home = _home_of(pid)
    group = home / f"cellrouter-bench-{pid}"
    made = False
    try:
        with suppress(OSError):
            group.mkdir()
            made = True
            _limit(group, round(cpus * PERIOD_US))
            (group / "cgroup.procs").write_text(str(pid))
        yield _has(group, pid)
    finally:
        if made:
            with suppress(OSError):  # the process has ended
                (home / "cgroup.procs").write_text(str(pid))
            group.rmdir()


def _home_of(pid: int) -> Path:
    """Return the folder of the process's own group, of version 1 (`cpu`) or 2; without groups, one that isn't there."""
    groups = Path(f"/proc/{pid}/cgroup")
    lines = groups.read_text().splitlines() if groups.exists() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if "cpu" in controllers.split(","):
            return GROUPS / controllers / path.lstrip("/")
    return GROUPS / next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "none")


def _limit(group: Path, quota_us: int) -> None:
    if (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(quota_us))
    else:
        # Version 2: without the CPU controller there is no such file, and none can be made here.
        (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")


def _has(group: Path, pid: int) -> bool:
    return (group / "cgroup.procs").exists() and str(pid) in (group / "cgroup.procs").read_text().split()


async def _stop_again_and_again(pid: int) -> None:
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, signal.SIGSTOP)
            await pause(STOPPED_S)
            os.kill(pid, signal.SIGCONT)
            await pause(RUNS_S)
