"""An evaluator: a process that evaluates log objects for a worker, each in a forked child with limits of its own.

A worker starts it. It reads requests from standard input and writes answers to standard output. It does no hostile work
itself, so that it need not be replaced, however many of its children are ended: its rules are compiled once, and a fork
takes 3 ms. All of them are killed when their parent ends.

It has one thread, so a fork is safe. It knows no secret: the worker gives it none of its environment. A child reads its
log from S3 itself, with a request that the worker has signed, so that the log's bytes never pass the worker.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import select
import signal
import ssl
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

import msgspec

from cell_worker.api import RejectEvent
from cell_worker.handlers.security.evaluation.analysis import analyse
from cell_worker.handlers.security.evaluation.reading import UnreadError, read, trust
from cell_worker.handlers.security.evaluation.wire import (
    LENGTH_BYTES,
    MAX_ANSWER_BYTES,
    ORDINARY_CPU_S,
    Answer,
    Cap,
    Ended,
    Rejected,
    Reply,
    Request,
    Setup,
    Unread,
    length_of,
)
from cell_worker.handlers.security.logs import LogObject
from cell_worker.handlers.security.sigma import RuleSet, compile_rules

NO_MEMORY_EXIT: Final = 71
CRASHED_EXIT: Final = 70
PR_SET_PDEATHSIG: Final = 1
LIGHT_CPU_S: Final = 0.05
"""Whatever takes more CPU goes on with what others leave: the worker and a neighbour's ordinary log go before it."""
LOOK_EVERY_S: Final = 0.02


def main() -> None:
    """Answer requests until the worker closes a pipe."""
    with suppress(BrokenPipeError, KeyboardInterrupt):
        _serve()


def _serve() -> None:
    _end_with_parent()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)  # whatever is printed is no answer
    if (message := _read(requests)) is None:
        return
    setup = msgspec.msgpack.decode(message, type=Setup)
    rules = compile_rules(setup.texts, remedies=frozenset(setup.remedies))
    trusted = trust(setup.certificates)
    if setup.slow:
        _take_what_is_left(0)  # not before: on a busy machine it would take minutes to get here
    while (message := _read(requests)) is not None:
        reply = _answer(message, rules, trusted)
        _write(answers, length_of(reply) + reply)


def _answer(message: bytes, rules: RuleSet, trusted: ssl.SSLContext) -> bytes:
    """Evaluate one log in a child, and wait for its end. Whatever becomes of the child, there is an answer."""
    reader, writer = os.pipe()
    parent, child = os.getpid(), os.fork()
    if not child:
        os.close(reader)
        _evaluate(message, rules, trusted, writer, parent)
    os.close(writer)
    while not select.select([reader], [], [], LOOK_EVERY_S)[0]:
        if _cpu_s(child) > LIGHT_CPU_S:
            _take_what_is_left(child)
            break
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read(MAX_ANSWER_BYTES + 1)
    if len(answer) > MAX_ANSWER_BYTES:
        os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    if len(answer) > MAX_ANSWER_BYTES:
        answer = msgspec.msgpack.encode(Ended(Cap.ANSWER, "killed"))
    elif code := os.waitstatus_to_exitcode(status):
        answer = msgspec.msgpack.encode(_ended(code))
    return msgspec.msgpack.encode(Reply(msgspec.Raw(answer), used.ru_utime + used.ru_stime))


def _cpu_s(pid: int) -> float:
    """The CPU that a process has used. Infinite where the system doesn't tell."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the clock of another process, as Linux numbers them
    except OSError:
        return math.inf


def _take_what_is_left(pid: int) -> None:
    """Leave a process, 0 for this one, and its children only the CPU that nobody else wants at that moment.

    With a nice value alone, a process that has begun goes on for up to a ms, each time that the worker has something to
    do; an event takes many such turns.
    """
    with suppress(OSError, AttributeError):  # it is no Linux, or the process has ended
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def _ended(code: int) -> Ended:
    """Tell from a child's exit code which cap it has exceeded."""
    how = f"by signal {-code}" if code < 0 else f"with code {code}"
    caps = {-signal.SIGPROF: Cap.ORDINARY, -signal.SIGXCPU: Cap.CPU, NO_MEMORY_EXIT: Cap.MEMORY}
    return Ended(caps.get(code, Cap.OTHER), how)


def _evaluate(message: bytes, rules: RuleSet, trusted: ssl.SSLContext, writer: int, parent: int) -> NoReturn:
    try:
        _end_with_parent(parent)
        request = msgspec.msgpack.decode(message, type=Request)
        del message
        _limit(request)
        _write(writer, msgspec.msgpack.encode(_found(request, rules, trusted)))
    except MemoryError:
        os._exit(NO_MEMORY_EXIT)
    except BaseException:  # noqa: BLE001 - the child ends with it
        with suppress(BaseException):
            traceback.print_exc()
        os._exit(CRASHED_EXIT)
    os._exit(0)


def _found(request: Request, rules: RuleSet, trusted: ssl.SSLContext) -> Answer:
    source, content = LogObject(request.bucket, request.key, None), request.content
    try:
        chunks = [content] if isinstance(content, bytes) else read(content, source, request.max_object_bytes, trusted)
        return analyse(chunks, source, request.max_bytes, rules)
    except RejectEvent as error:
        return Rejected(str(error))
    except UnreadError as error:
        return Unread(str(error))


def _limit(request: Request) -> None:
    """Set the caps of one evaluation. The kernel ends it at its CPU cap, and gives it no more memory than its cap."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (request.cpu_s, request.cpu_s + 1))
    with suppress(OSError):  # it is no Linux
        own = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (own + request.memory_bytes, own + request.memory_bytes))
    os.nice(request.nice)
    if not request.slow:
        signal.setitimer(signal.ITIMER_PROF, ORDINARY_CPU_S)  # whose signal ends the process


def _end_with_parent(parent: int = 0) -> None:
    """Have the kernel kill this process when its parent ends, also when that has ended just now."""
    with suppress(OSError, AttributeError):  # it is no Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        os._exit(CRASHED_EXIT)


def _read(pipe: BinaryIO) -> bytes | None:
    """Read one message. None at the end of the pipe."""
    length = pipe.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    message = pipe.read(size := int.from_bytes(length))
    return message if len(message) == size else None


def _write(descriptor: int, message: bytes) -> None:
    view = memoryview(message)
    while view:
        view = view[os.write(descriptor, view) :]
