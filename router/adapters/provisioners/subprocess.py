"""Provisioner that runs workers as processes on this machine.

Workers outlive a controller that crashes, fails, or leaves other controllers behind: the next one adopts them by their
process id files. A process writes that file before it becomes the worker, so that no worker runs without one, whenever
its controller dies. The last controller that is asked to stop ends them by `stop_all`. What a worker writes to standard
error goes to a log file of bounded size, whose end is read when the worker has ended.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Annotated, Final

import msgspec
import psutil

from cell_worker.contract.strict_reader import StrictReader, Unreadable
from cell_worker.contract.tls import TlsFolders
from router.adapters.provisioners import log_files
from router.adapters.provisioners.last_words import ORDERLY, last_words_of_file
from router.core.errors import ProvisionError
from router.core.models import Id, InstanceView, Reason, Whole
from router.core.telemetry import BadInput
from router.ports import Clock

KILL_WAIT_S: Final = 5.0  # for the kernel to remove a killed process
STOPPED_GRACE_S: Final = 3.0  # for a process that SIGSTOP has stopped: it can't react, and may hold a lock on the store
MAX_PID_FILE_BYTES: Final = 4096
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
    secret_of: Callable[[str], str]  # a cell's own secret, which its next instance gets
    tls: TlsFolders | None = None  # of workers that are reached by TLS


class _PidFile(msgspec.Struct, frozen=True):
    """The content of a process id file, as JSON."""

    cell_id: Id
    generation: Whole
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**22)]  # the largest that Linux gives out


_pid_file: Final = StrictReader[_PidFile]("process id file", _PidFile, MAX_PID_FILE_BYTES)


class SubprocessProvisioner:
    """Runs workers as child processes, and adopts those of an earlier controller."""

    can_launch = True
    takes_images = False

    def __init__(self, config: SubprocessConfig, clock: Clock, tell: Callable[[BadInput], None]) -> None:
        """Raises OSError when the folder for process id files can't be used; `tell` is given each bad one once."""
        self._config = config
        self._clock = clock
        self._tell = tell
        self._bad: dict[Path, Reason] = {}  # the entries that could not be read at the last look
        self._told: set[Path] = set()
        self._running: dict[tuple[str, int], psutil.Process] = {}
        self._ended: dict[tuple[str, int], str] = {}
        self._stopping: dict[tuple[str, int], asyncio.Task[None]] = {}
        config.run_dir.mkdir(parents=True, exist_ok=True)
        if not os.access(config.run_dir, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "this process may not read and write there", str(config.run_dir))

    async def launch(self, cell_id: str, generation: int, image: str | None = None) -> None:
        """Start `python -m cell_worker`; its output goes to a log file beside its process id file."""
        if image is not None:
            raise ProvisionError(
                f"{cell_id} generation {generation} can't be started: {image} is an image, and a process has none: "
                f"only cells.provisioner docker or ecs launches images"
            )
        tls = self._config.tls
        secured = tls.variables(tls.of(cell_id)) if tls is not None else {}
        secret = {"CELL_SECRET": self._config.secret_of(cell_id)}
        environment = {**self._config.environment, **self._names(cell_id, generation), **secret, **secured}
        worker = (sys.executable, "-m", "cell_worker")
        command = ["/bin/sh", "-c", _NOTE_AND_BECOME, str(self._pid_path(cell_id, generation)), *worker]
        log_files.remove_old(self._config.run_dir, cell_id)
        try:
            with self._log_path(cell_id, generation).open("ab") as log:
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
        try:
            self._adopt()
            for key, process in list(self._running.items()):
                log_files.bound(self._log_path(*key))
                if (ended := _how_it_ended(process)) is not None:
                    self._end_children(key, process.pid)
                    words = "" if ended == ORDERLY else last_words_of_file(self._log_path(*key))
                    self._forget(key, ended + words)
        except OSError as error:  # no file descriptor is left, say: that is no news of any instance
            raise ProvisionError(f"the cells' processes can't be looked at: {error}") from error
        running = [InstanceView(*key, running=True, detail=f"pid {p.pid}") for key, p in self._running.items()]
        return running + [InstanceView(*key, running=False, detail=how) for key, how in self._ended.items()]

    async def stop_all(self) -> None:
        """Stop every instance, those of earlier controllers too, and wait until all are gone."""
        with suppress(ProvisionError):  # then those that are known
            await self.observe()
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
        bad: dict[Path, Reason] = {}
        for path in self._config.run_dir.iterdir():  # a glob would hide that the folder can't be read
            if path.suffix != ".pid" or (found := _read(path)) is None:
                continue
            if isinstance(found, Unreadable):
                bad[path] = found.why
                continue
            key = (found.cell_id, found.generation)
            if key not in self._running and key not in self._ended:
                self._adopt_one(key, found, path)
        self._tell_of(bad)

    def _tell_of(self, bad: dict[Path, Reason]) -> None:
        """Tell once of each entry that two looks in a row could not read: at one, its process may just write it."""
        for path in sorted(bad.keys() & self._bad.keys() - self._told):
            self._tell(BadInput(_pid_file.name, path.name, f"{bad[path]}; remove it, unless a cell of that name runs"))
            self._told.add(path)
        self._told &= bad.keys()
        self._bad = bad

    def _adopt_one(self, key: tuple[str, int], found: _PidFile, path: Path) -> None:
        try:
            process = psutil.Process(found.pid)
            environment = process.environ()
        except psutil.NoSuchProcess:
            _remove(path)
        except psutil.AccessDenied:
            return  # another user's process: it is none of the cells'
        else:
            if self._names(*key).items() <= environment.items():
                self._running[key] = process
            elif environment:  # it is another process by now; a zombie, or one that just becomes the worker, shows none
                _remove(path)

    def _forget(self, key: tuple[str, int], how: str) -> None:
        del self._running[key]
        self._stopping.pop(key, None)
        self._ended[key] = how
        while len(self._ended) > _KEEP_ENDED:
            del self._ended[next(iter(self._ended))]
        _remove(self._pid_path(*key))

    def _end_children(self, key: tuple[str, int], group: int) -> None:
        """Kill what a worker has left in its process group, as one that is killed does."""
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if os.getpgid(process.pid) == group and self._names(*key).items() <= process.environ().items():
                    process.kill()

    def _names(self, cell_id: str, generation: int) -> dict[str, str]:
        """Return the variables that name a worker's cell, generation and volume."""
        volume = self._config.data_dir / cell_id
        return {"CELL_ID": cell_id, "CELL_GENERATION": str(generation), "CELL_DATA_DIR": str(volume)}

    def _pid_path(self, cell_id: str, generation: int) -> Path:
        return self._config.run_dir / f"{cell_id}.g{generation}.pid"

    def _log_path(self, cell_id: str, generation: int) -> Path:
        return self._config.run_dir / f"{cell_id}.g{generation}.log"


def _read(path: Path) -> _PidFile | Unreadable | None:
    """Read a process id file, or say why it is none; None when it is gone. Raises OSError when nothing can be read."""
    try:
        return _pid_file.read_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise  # it is not this entry's fault
        return Unreadable(str(error))


def _remove(path: Path) -> None:
    with suppress(OSError):  # it is gone already, or it is no file of ours; the next look tells of what can't be read
        path.unlink()


def _how_it_ended(process: psutil.Process) -> str | None:
    """Say in words how a process ended; None while it runs."""
    if isinstance(process, psutil.Popen):
        code = process.poll()
        return None if code is None else f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return None if process.is_running() and process.status() != psutil.STATUS_ZOMBIE else "gone"
