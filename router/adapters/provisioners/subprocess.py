"""Provisioner that runs workers as processes on this machine.

Workers end with their controller when that is asked to stop. When it crashes they go on, and the next controller adopts
them by their process id files. A process writes that file before it becomes the worker, so that no worker runs without
one, whenever its controller dies.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Annotated, Final

import msgspec
import psutil

from cell_worker.strict_reader import StrictReader, Unreadable
from router.core.errors import ProvisionError
from router.core.models import Id, InstanceView, Whole
from router.ports import Clock

KILL_WAIT_S: Final = 5.0  # for the kernel to remove a killed process
STOPPED_GRACE_S: Final = 3.0  # for a process that SIGSTOP has stopped: it can't react, and may hold a lock on the store
_KEEP_ENDED: Final = 100  # how many ended instances observe() still lists
_NOTE_AND_BECOME: Final = """
printf '{"cell_id":"%s","generation":%s,"pid":%s}' "$CELL_ID" "$CELL_GENERATION" $$ >"$0" && exec "$@"
"""


@dataclass(frozen=True, slots=True)
class SubprocessConfig:
    """How worker processes are started and stopped."""

    run_dir: Path  # holds process id files and logs
    environment: Mapping[str, str]  # a worker's environment, without what names its cell
    data_dir: Path  # holds a directory for each cell: its volume
    stop_grace_s: float  # between SIGTERM and SIGKILL


class _PidFile(msgspec.Struct, frozen=True):
    """The content of a process id file, as JSON."""

    cell_id: Id
    generation: Whole
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**22)]  # the largest that Linux gives out


_pid_file: Final = StrictReader[_PidFile]("process id file", _PidFile, 4096)


class SubprocessProvisioner:
    """Runs workers as child processes, and adopts those of an earlier controller."""

    can_launch = True

    def __init__(self, config: SubprocessConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._running: dict[tuple[str, int], psutil.Process] = {}
        self._ended: dict[tuple[str, int], str] = {}
        self._stopping: dict[tuple[str, int], asyncio.Task[None]] = {}
        config.run_dir.mkdir(parents=True, exist_ok=True)

    async def launch(self, cell_id: str, generation: int) -> None:
        """Start `python -m cell_worker`; its output goes to a log file beside its process id file."""
        environment = {**self._config.environment, **self._names(cell_id, generation)}
        worker = (sys.executable, "-m", "cell_worker")
        command = ["/bin/sh", "-c", _NOTE_AND_BECOME, str(self._pid_path(cell_id, generation)), *worker]
        log_path = self._config.run_dir / f"{cell_id}.g{generation}.log"
        try:
            with log_path.open("ab") as log:
                child = psutil.Popen(command, env=environment, stdin=DEVNULL, stdout=log, stderr=log)
        except (OSError, psutil.Error) as error:
            raise ProvisionError(f"{cell_id} generation {generation} can't be started: {error}") from error
        self._running[cell_id, generation] = child

    async def stop(self, cell_id: str, generation: int) -> None:
        """Send SIGTERM, then SIGKILL after the grace, which is 3 s at most for a process that SIGSTOP has stopped."""
        key = (cell_id, generation)
        process = self._running.get(key)
        if process is not None and key not in self._stopping:
            self._stopping[key] = asyncio.create_task(self._end(process))

    async def observe(self) -> list[InstanceView]:
        """List all that run, those of other controllers on this machine too, and the last hundred that ended."""
        self._adopt()
        for key, process in list(self._running.items()):
            if (ended := _how_it_ended(process)) is not None:
                self._forget(key, ended)
        running = [InstanceView(*key, running=True, detail=f"pid {p.pid}") for key, p in self._running.items()]
        return running + [InstanceView(*key, running=False, detail=how) for key, how in self._ended.items()]

    async def stop_all(self) -> None:
        """Stop every instance, and wait until all are gone."""
        for cell_id, generation in list(self._running):
            await self.stop(cell_id, generation)
        await asyncio.gather(*self._stopping.values())

    async def _end(self, process: psutil.Process) -> None:
        try:
            process.terminate()
            grace_s = self._config.stop_grace_s
            if process.status() == psutil.STATUS_STOPPED:
                grace_s = min(grace_s, STOPPED_GRACE_S)
            if not await self._ended_within(process, grace_s):
                process.kill()
                await self._ended_within(process, KILL_WAIT_S)
        except psutil.NoSuchProcess:
            return

    async def _ended_within(self, process: psutil.Process, seconds: float) -> bool:
        deadline = self._clock.monotonic() + seconds
        while _how_it_ended(process) is None:
            if self._clock.monotonic() >= deadline:
                return False
            await self._clock.sleep(0.05)
        return True

    def _adopt(self) -> None:
        for path in self._config.run_dir.glob("*.pid"):
            try:
                found = _pid_file.read_file(path)
            except OSError:
                continue  # another controller removes it, or it is none
            if isinstance(found, Unreadable):
                continue  # its process writes it just now, or it is none
            key = (found.cell_id, found.generation)
            if key not in self._running and key not in self._ended:
                self._adopt_one(key, found, path)

    def _adopt_one(self, key: tuple[str, int], found: _PidFile, path: Path) -> None:
        try:
            process = psutil.Process(found.pid)
            environment = process.environ()
        except psutil.NoSuchProcess:
            path.unlink(missing_ok=True)
        except psutil.AccessDenied:
            return  # another user's process: it is none of the cells'
        else:
            if self._names(*key).items() <= environment.items():
                self._running[key] = process
            elif environment:  # it is another process by now; a zombie, or one that just becomes the worker, shows none
                path.unlink(missing_ok=True)

    def _forget(self, key: tuple[str, int], how: str) -> None:
        del self._running[key]
        self._stopping.pop(key, None)
        self._ended[key] = how
        while len(self._ended) > _KEEP_ENDED:
            del self._ended[next(iter(self._ended))]
        self._pid_path(*key).unlink(missing_ok=True)

    def _names(self, cell_id: str, generation: int) -> dict[str, str]:
        """Return the variables that name a worker's cell, generation and volume."""
        volume = self._config.data_dir / cell_id
        return {"CELL_ID": cell_id, "CELL_GENERATION": str(generation), "CELL_DATA_DIR": str(volume)}

    def _pid_path(self, cell_id: str, generation: int) -> Path:
        return self._config.run_dir / f"{cell_id}.g{generation}.pid"


def _how_it_ended(process: psutil.Process) -> str | None:
    """Say in words how a process ended; None while it runs."""
    if isinstance(process, psutil.Popen):
        code = process.poll()
        return None if code is None else f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return None if process.is_running() and process.status() != psutil.STATUS_ZOMBIE else "gone"
