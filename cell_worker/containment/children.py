"""The processes that a handler starts: none of them acts as the worker, and none outlives it.

A forked child has a copy of all that the worker has: the signal descriptor of its event loop, by which a SIGTERM for
the child would end the worker, its listening socket, its connections, and the loop itself. So it lets go of them at
once, and ends as soon as it returns from the handler's code.

The worker leads a process group of its own, which children belong to unless they leave it. It ends the group when it
ends. When it is killed, its container does, or the provisioner that has started it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHILD_EXIT: Final = 70
"""The exit code of a forked child that returned from the handler's code instead of ending itself."""


@dataclass(slots=True)
class _Guarded:
    """What a forked child of this process must let go of."""

    loop: asyncio.AbstractEventLoop | None = None
    thread: int = 0  # in which the loop runs
    ports: frozenset[int] = frozenset()  # sockets with one of them at either end are the worker's
    hooked: bool = False
    forked: bool = False  # this process is such a child


_guarded: Final = _Guarded()
_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})  # which the worker handles
_held: Final = threading.local()  # the mask of signals of a thread that forks just now
_FDS: Final = Path("/proc/self/fd")


def guard_forks(ports: Collection[int]) -> None:
    """See to it that a forked child never acts as this worker, whose sockets have these ports at one of their ends."""
    _guarded.loop, _guarded.thread = asyncio.get_running_loop(), threading.get_ident()
    _guarded.ports = frozenset(ports)
    if not _guarded.hooked:
        _guarded.hooked = True
        os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_in, after_in_child=_in_child)


def leave_if_child() -> None:
    """End this process if it is a forked child, which has nothing to do in the worker's code."""
    if _guarded.forked:
        os._exit(CHILD_EXIT)


def lead_group() -> frozenset[int]:
    """Make this process lead a group of its own. Returns who else is in it, such as the other end of a pipeline.

    It is a session of its own too: the kernel ends a group that has a stopped process when its session goes on without
    the group's parent, and a controller may end at any time.
    """
    with suppress(PermissionError):  # started by a shell, it leads a group already
        os.setsid()
    return frozenset(_others_of_group())


def end_group(spared: Collection[int]) -> None:
    """Kill every other process of this process's group but the spared ones, also those that are just being started."""
    killed = set(spared)
    while fresh := set(_others_of_group()) - killed:
        for pid in fresh:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed |= fresh


def _others_of_group() -> list[int]:
    own, group = os.getpid(), os.getpgrp()
    with suppress(OSError):  # it is no Linux
        pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
        return [pid for pid in pids if pid != own and _in(pid, group)]
    return []


def _in(pid: int, group: int) -> bool:
    with suppress(OSError):
        return os.getpgid(pid) == group
    return False


def _hold_signals() -> None:
    """Keep signals from a child until it has let go of the worker: it would pass them on to the worker's loop."""
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _let_signals_in() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def _in_child() -> None:
    """Let go of the worker, in a child that has just been forked. Its other threads don't exist there."""
    _guarded.forked = True
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _let_signals_in()
    _let_go_of_sockets()
    if _guarded.loop is not None and threading.get_ident() == _guarded.thread:
        _guarded.loop.call_soon(os._exit, CHILD_EXIT)  # the loop goes on in the child when the handler awaits there


def _let_go_of_sockets() -> None:
    """Replace the worker's sockets, so that they are closed when the worker closes them. No number becomes free.

    A descriptor that is closed here and opened again by the child would be closed once more, with the worker's object.
    """
    with suppress(OSError), open(os.devnull, "rb") as nothing:  # noqa: PTH123 - only its descriptor is needed
        for descriptor in [int(each.name) for each in _FDS.iterdir()]:
            if _is_of_worker(descriptor):
                os.dup2(nothing.fileno(), descriptor, inheritable=False)


def _is_of_worker(descriptor: int) -> bool:
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        return False  # no socket, or the one by which the descriptors were listed
    try:
        if found.family not in {socket.AF_INET, socket.AF_INET6}:
            return False
        if found.getsockname()[1] in _guarded.ports:
            return True
        return found.getpeername()[1] in _guarded.ports
    except OSError:
        return False
    finally:
        found.detach()
