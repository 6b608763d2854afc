"""Child processes of a bench: started, pinned to a core, metered, and always ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

STOP_TIMEOUT_S: Final = 40.0
ROOT: Final = Path(__file__).parents[1]


_running: Final[set[subprocess.Popen[bytes]]] = set()


class BenchError(Exception):
    """A process of the bench did not do its part; the text ends with its log."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where: the measured process has a core of its own where there are several."""

    measured: frozenset[int]
    stubs: tuple[frozenset[int], ...]  # taken in turn

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The last core is the measured process's."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(cores) < 2:
            everything = frozenset(cores)
            return cls(everything, (everything,))
        return cls(frozenset(cores[-1:]), tuple(frozenset({core}) for core in cores[:-1]))


class Child:
    """One process. It leads a session of its own: Ctrl-C reaches only the bench, which ends its children in order."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self._log = log
        self._usage = psutil.Process(process.pid)

    def cpu_s(self) -> float:
        """CPU seconds so far, in user and system mode, without children."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Resident memory."""
        return float(self._usage.memory_info().rss) / 2**20

    def check(self) -> None:
        """Raises BenchError when it has ended."""
        if self.process.poll() is not None:
            raise BenchError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text("utf-8", "replace")[-2000:]

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL when that does not end it; its exit code."""
        self.process.terminate()
        try:
            return await asyncio.to_thread(self.process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            self.process.kill()
            self.process.wait()


@asynccontextmanager
async def child(
    name: str,
    arguments: list[str],
    folder: Path,
    cores: frozenset[int],
    environ: Mapping[str, str],
    *,
    prints: bool = False,
) -> AsyncIterator[Child]:
    """A Python process of this project's interpreter, its output in a log. `prints`: something that is to be read."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        # Not asyncio's: between its start and its answer a Ctrl-C would leave a process that nobody knows.
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own interpreter and modules
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            cwd=folder,
            stdin=subprocess.PIPE,  # closes when the bench dies, however it dies: stubs end then
            stdout=subprocess.PIPE if prints else output,
            stderr=output,
            start_new_session=True,
        )
    _running.add(process)
    running = Child(name, process, log)
    try:
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, cores)
        yield running
    finally:
        await asyncio.shield(running.stop())
        _running.discard(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def kill_all() -> None:
    """What a second Ctrl-C has left running."""
    for process in _running:
        process.kill()
