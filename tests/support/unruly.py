"""Handlers that do what no handler should: the event's id says what, up to its first dash."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from cell_worker.api import Cell, Event
from cell_worker.containment.children import CHILD_EXIT
from router.adapters.clock import SystemClock

LONG_S: Final = 600
_kept: list[object] = []
NOTES: Final = "UNRULY_NOTES"
"""The variable that names the folder where handlers leave the ids of processes that they have started."""


def note_pid(name: str, pid: int) -> None:
    """Write down the id of a process, for the test to look at."""
    Path(os.environ[NOTES], name).write_text(str(pid))


def sleep(seconds: float) -> None:
    """Block the calling thread."""
    threading.Event().wait(seconds)


def code_of(child: int) -> int:
    """Wait for a child's end. The code is negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def swallow() -> None:
    """Go on however often the task is cancelled."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def outlast() -> None:
    """Swallow the cancellation, and return when the test makes the file `go`."""
    while not may_go():
        with suppress(asyncio.CancelledError):
            await SystemClock().sleep(0.05)


async def thread() -> None:
    """Compute in a thread, which nothing can cancel."""
    await asyncio.to_thread(sleep, LONG_S)


async def threads() -> None:
    """Ask for many threads at once."""
    await asyncio.gather(*(asyncio.to_thread(sleep, LONG_S) for _ in range(12)))


async def quick() -> None:
    """Need a thread for a moment."""
    await asyncio.to_thread(sleep, 0)


async def block() -> None:
    """Block the event loop, as a synchronous client does."""
    block_for(4)


def block_for(seconds: float) -> None:
    """Stand for the call of a synchronous client."""
    threading.Event().wait(seconds)


async def stall() -> None:
    """Block the event loop until the test makes the file `go`."""
    while not may_go():
        sleep(0.05)


def may_go() -> bool:
    """Whether the test has made the file `go`."""
    return Path(os.environ[NOTES], "go").exists()


async def fork() -> None:
    """Fork a child, and end it with the signal that would end the worker."""
    child = os.fork()
    if not child:
        sleep(LONG_S)
        os._exit(0)
    os.kill(child, signal.SIGTERM)  # at once, perhaps before the child has run at all
    assert code_of(child) == -signal.SIGTERM


async def process() -> None:
    """Start a process that handles SIGTERM itself with multiprocessing, from a thread, and terminate it."""

    def in_thread() -> None:
        mine, its = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=ends_at_sigterm, args=(its,))
        child.start()
        mine.recv()
        child.terminate()
        child.join()
        assert child.exitcode == 5

    await asyncio.to_thread(in_thread)


def ends_at_sigterm(parent: Connection) -> None:
    """End with 5 at SIGTERM, in a process of its own."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
    parent.send("ready")
    while True:
        signal.pause()


async def pool() -> None:
    """Use a pool of processes, which ends them at its end."""

    def in_thread() -> None:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
            assert list(pool.map(abs, [-1, 2])) == [1, 2]

    await asyncio.to_thread(in_thread)


async def forgets() -> None:
    """Fork, and return in the child too, as if it were the worker."""
    child = os.fork()
    if child:
        assert code_of(child) == CHILD_EXIT


async def awaits() -> None:
    """Fork, and await in the child, where the copy of the loop goes on."""
    child = os.fork()
    while not child:
        await SystemClock().sleep(0)
    assert code_of(child) == CHILD_EXIT


async def threaded() -> None:
    """Fork in a thread of the pool, and return from it in the child."""
    child = await asyncio.to_thread(os.fork)
    assert code_of(child) == CHILD_EXIT


async def orphans() -> None:
    """Leave processes behind: a fork, a command, and a daemon's child whose parent has ended."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleep(LONG_S)
    note_pid("fork", child)
    note_pid("command", subprocess.Popen(["sleep", str(LONG_S)]).pid)  # noqa: ASYNC220 - that is the point
    await asyncio.to_thread(subprocess.run, ["sh", "-c", f'sleep {LONG_S} & echo $! >"${NOTES}/daemon"'], check=True)


async def lingers() -> None:
    """Leave a thread behind that Python would wait for at its end."""
    threading.Thread(target=sleep, args=(LONG_S,)).start()
    child = multiprocessing.get_context("fork").Process(target=sleep, args=(LONG_S,))
    child.start()
    _kept.append(child)


async def exits() -> None:
    """Raise SystemExit, here and in tasks and threads of its own."""
    _kept.append(asyncio.create_task(raising(SystemExit(9))))
    threading.Thread(target=sys.exit, args=(9,)).start()
    await asyncio.create_task(raising(SystemExit(9)))


async def interrupts() -> None:
    """Raise KeyboardInterrupt in a task of its own, and stop the loop."""
    asyncio.get_running_loop().stop()
    await asyncio.create_task(raising(KeyboardInterrupt()))


async def exitsthread() -> None:
    """Raise SystemExit in a thread of the pool."""
    await asyncio.to_thread(sys.exit, 9)


async def raising(error: BaseException) -> None:
    """Raise this error, a little later."""
    await SystemClock().sleep(0)
    raise error


async def segfault() -> None:
    """Crash in native code."""
    ctypes.string_at(0)


async def ok() -> None:
    """Do nothing that a handler should not do."""


DEEDS: Final[dict[str, Callable[[], Awaitable[None]]]] = {
    deed.__name__: deed
    for deed in (
        swallow, outlast, thread, threads, quick, block, stall, fork, process, pool, forgets, awaits, threaded, orphans,
        lingers, exits, interrupts, exitsthread, segfault, ok,
    )
}  # fmt: skip


async def handle(event: Event, cell: Cell) -> None:
    """Do what the event's id says, and emit one line about it."""
    await DEEDS[event.event_id.partition("-")[0]]()
    cell.emit({"event_id": event.event_id})
