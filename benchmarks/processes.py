"""Starts the child processes of a bench, pins them to cores, measures their CPU time, and always ends them."""

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
    """A process of the bench failed; the text ends with the process's log."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the processes run on: where there are several, the measured process has one of its own."""

    measured: frozenset[int]
    stubs: tuple[frozenset[int], ...]  # of the stubs, in turn

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Give the last core of this machine to the measured process, and the others to the stubs."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(cores) < 2:
            everything = frozenset(cores)
            return cls(everything, (everything,))
        return cls(frozenset(cores[-1:]), tuple(frozenset({core}) for core in cores[:-1]))


class Child:
    """One process, in a session of its own, so that Ctrl-C reaches only the bench, which ends its children in order."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self._log = log
        self._usage = psutil.Process(process.pid)

    def cpu_s(self) -> float:
        """Return the CPU seconds that the process has used, in user and system mode, without its children."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Return the process's resident memory in MiB."""
        return float(self._usage.memory_info().rss) / 2**20

    def check(self) -> None:
        """Raise BenchError when the process has ended."""
        if self.process.poll() is not None:
            raise BenchError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """Return the end of the process's log."""
        return self._log.read_text("utf-8", "replace")[-2000:]

    async def stop(self) -> int:
        """End the process by SIGTERM, or by SIGKILL after STOP_TIMEOUT_S seconds, and return its exit code."""
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
    program: str = sys.executable,
) -> AsyncIterator[Child]:
    """Run a program, Python unless it is named, with these arguments until the context ends; its output is in a log.

    With `prints`, only stderr goes to the log, and the caller reads stdout.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        # Not by asyncio: a Ctrl-C while it starts a process would leave one that nobody knows of.
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own modules, and what pip has installed
            [program, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            cwd=folder,
            stdin=subprocess.PIPE,  # closes however the bench ends, and then the stubs end too
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
    """Kill every process that is still running, as after a second Ctrl-C."""
    for process in _running:
        process.kill()
