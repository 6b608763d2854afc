"""What a process stands on and what may break under it: the streams that it logs to, and its file descriptors.

Routers, controllers and workers share it, since the same must hold for all: whoever reads a log may go away or stall,
and the process goes on.
"""

from __future__ import annotations

import atexit
import errno
import gc
import io
import json
import logging
import os
import resource
import select
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, BinaryIO, Final, TextIO, cast

import structlog

from cell_worker.contract.addresses import without_passwords
from cell_worker.contract.place import METADATA_VARIABLE
from cell_worker.contract.texts import NeutralStream, neutral, printable, raw_of

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
"""So much of a log waits for its reader; what comes after that is dropped."""
EXIT_WAIT_S: Final = 1.0
"""How long the end of a process waits for its last lines to be written."""
MAX_DESCRIPTORS: Final = 65_536
"""A process allows itself no more file descriptors, also where the system would: some programs walk through all."""
SCARCE: Final = 0.8
PLENTY: Final = 0.7
"""Shares of the file descriptors that may be open. Between the two nothing new is said."""
CHECK_EVERY_S: Final = 10.0
"""How long a process waits before it counts its file descriptors again."""
NONE_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""The errors of a call for which the process, or its machine, has no file descriptor left."""
_WRITE_BYTES: Final = 64 * 1024


class _Masked(io.TextIOWrapper):
    """A text stream that writes no password of an address, whoever prints it: a library's error, a traceback."""

    def write(self, text: str, /) -> int:
        super().write(without_passwords(text))
        return len(text)


class LogQueue(io.RawIOBase):
    """The write side of a log that never blocks and never fails: a thread of its own writes to the file descriptor.

    What can't be written, since its reader is gone or stalls or the disk is full, is dropped and counted in lines.
    `tell` is called with the number of lines that were lost, once the log works again.
    """

    def __init__(self, descriptor: int, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._tell = tell
        self._writer: threading.Thread | None = None
        self._direct = False  # in a forked child, which has no such thread
        self._told = 0
        self._begin()
        self.dropped = 0
        os.register_at_fork(after_in_child=self._forked)

    def writable(self) -> bool:
        """Return that it takes data, as every stream of a log does."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor, for children that shall write to the same log."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether a person reads the log on a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        """Take the data and return at once. Never raises and never writes a part."""
        text = bytes(data)
        if self._direct:
            self._write(text)
            return len(text)
        with self._lock:
            if self._waiting + len(text) > MAX_WAITING_BYTES or not self._has_writer():
                self.dropped += _lines_of(text)
                return len(text)
            self._waiting += len(text)
            self._texts.append(text)
            if len(self._texts) == 1:
                self._wake.put(True)
        return len(text)

    def finish(self, within_s: float) -> None:
        """Wait until all is written, at most so many seconds. What comes after that is dropped."""
        if self._writer is not None:
            self._wake.put(False)
            self._writer.join(within_s)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a finalizer may log in the middle of a write of the same thread
        self._texts: list[bytes] = []
        self._waiting = 0  # bytes that are not written yet
        self._wake = SimpleQueue[bool]()  # True: there are texts; False: it is the end

    def _forked(self) -> None:
        self._direct = True  # a child is a process of its own: it may wait for its log, and its parent does not
        self._begin()

    def _has_writer(self) -> bool:
        if self._writer is None:
            writer = threading.Thread(target=self._run, name=f"log-{self._descriptor}", daemon=True)
            try:
                writer.start()
            except RuntimeError:  # no thread is to be had now
                return False
            self._writer = writer
        return True

    def _run(self) -> None:
        while self._wake.get():
            with self._lock:
                texts, self._texts = self._texts, []
            text = b"".join(texts)
            lost = _lines_of(self._write(text))
            with self._lock:
                self._waiting -= len(text)
                self.dropped += lost
                works_again = not lost and not self._waiting and self.dropped > self._told
                untold, self._told = self.dropped - self._told, self.dropped if works_again else self._told
            if works_again:
                self._tell(untold)

    def _write(self, text: bytes) -> bytes:
        """Write the text, however long that takes; returns what could not be written."""
        while text:
            try:
                text = text[os.write(self._descriptor, text[:_WRITE_BYTES]) :]
            except BlockingIOError:  # another process has made the pipe non-blocking for all that write to it
                select.select([], [self._descriptor], [])
            except OSError:
                return text
        return text


def _lines_of(text: bytes) -> int:
    return max(1, text.count(b"\n")) if text else 0


_queues: Final[list[LogQueue]] = []
"""The queues of standard output and standard error."""


def in_json(environ: Mapping[str, str], format_variable: str) -> bool:
    """Whether all that a process prints shall be JSON: on ECS, where only programs read it, unless somebody objects.

    Elsewhere a person or the audit reads the last words of a process that can't start or go on.
    """
    return bool(environ.get(METADATA_VARIABLE)) and environ.get(format_variable, "json") == "json"


def guard_streams(*, as_json: bool = False) -> None:
    """Put a queue before standard output and standard error, for all that is printed: logs, warnings, last words.

    With `as_json`, each line that is no log entry already becomes one: what libraries print, tracebacks, last words.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: else the next file or connection would get the number, and the log would go into it
            os.open(os.devnull, os.O_RDWR)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        with suppress(AttributeError, OSError, ValueError):  # None where it was closed
            getattr(sys, name).flush()
        queue = LogQueue(descriptor, _tell_of_dropped)
        _queues.append(queue)
        raw = _Masked(cast("BinaryIO", queue), "utf-8", "backslashreplace", line_buffering=True)
        setattr(sys, name, JsonStream(raw, name) if as_json else NeutralStream(raw))
    if as_json:
        sys.excepthook = _tell_of_the_end
        threading.excepthook = lambda told: _tell_of_the_end(
            told.exc_type, told.exc_value or told.exc_type(), told.exc_traceback
        )
    atexit.register(finish_streams)


def finish_streams() -> None:
    """Wait until the last lines are written, a second at most for each stream."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # None or closed
            stream.flush()
    for queue in _queues:
        queue.finish(EXIT_WAIT_S)


class JsonStream(NeutralStream):
    """A text stream that makes a log entry of each line, but for what is written to `raw`: entries themselves."""

    def __init__(self, raw: TextIO, name: str) -> None:
        super().__init__(raw)
        self._name = name
        self._begun = ""  # a line that has no end yet

    def write(self, text: str) -> int:
        """Write a log entry for each line that the text ends."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(str.strip, lines):
            self._enter(line)
        return len(text)

    def flush(self) -> None:
        """Write what was printed without a line's end, too."""
        line, self._begun = self._begun, ""
        if line.strip():
            self._enter(line)
        self.raw.flush()

    def _enter(self, line: str) -> None:
        entry = {"stream": self._name, "event": line, "level": "info", "timestamp": _now()}
        self.raw.write(json.dumps(entry) + "\n")


def _tell_of_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log an error that ends the process or a thread, as one entry with its traceback."""
    said = "".join(traceback.format_exception(kind, error, trace))
    entry = {"event": f"ends by an error: {error!r:.500}", "level": "critical", "timestamp": _now(), "exception": said}
    raw_of(sys.stderr).write(json.dumps(entry) + "\n")


def _now() -> str:
    return str(structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "", {})["timestamp"])


def _tell_of_dropped(lines: int) -> None:
    text = "log lines were dropped, since whoever reads the log was slow or away, or its disk was full"
    structlog.get_logger("log").warning(text, lines=lines)


class _ToStructlog(logging.Handler):
    """Gives the log entries of libraries (asyncio, uvicorn, botocore) the form that our own entries have."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        log = structlog.get_logger("library").bind(logger=record.name)
        log.log(level, record.getMessage().strip(), exc_info=record.exc_info)


def configure_logs(fmt: str, level: str = "debug") -> None:
    """Send the log, and the warnings of libraries, to standard error: as `json` or, for people, as `console`."""
    renderers: list[Any] = [structlog.processors.JSONRenderer()]  # in ASCII
    if fmt != "json":
        renderers = [_made_neutral, structlog.dev.ConsoleRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: structlog.PrintLogger(raw_of(sys.stderr)),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog()], force=True)
    logging.captureWarnings(capture=True)


def _made_neutral(_log: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Let no value of a log entry style the line or begin another; a traceback keeps its lines."""
    for name, value in entry.items():
        if name == "exception":
            entry[name] = neutral(value)
        elif not isinstance(value, int | float | None):
            entry[name] = printable(value if isinstance(value, str) else repr(value))
    return entry


def dropped_lines() -> int:
    """Count the lines of the log that could not be written so far."""
    return sum(queue.dropped for queue in _queues)


def keep_what_is_there(newest: int | None = None) -> None:
    """Have Python's garbage collector pass over all that exists now, which is there to stay.

    Else it walks all of it again and again, which takes a third of the CPU of a worker's runtime in batches of 50, and
    stops every event for 100 ms.
    What is dropped later on is freed all the same, unless it is in a cycle of references that existed before. The
    collector begins whenever so many objects are new (`newest`), or as often as Python has it.
    """
    gc.collect()
    gc.freeze()
    if newest is not None:
        gc.set_threshold(newest, *gc.get_threshold()[1:])


def raise_descriptor_limit() -> None:
    """Allow this process as many file descriptors as the system lets it, 65 536 at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # as it was, then
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_descriptors(limit: int) -> int:
    """Count the file descriptors that are open; where not even one is left to look with, they are all in use."""
    try:
        return sum(1 for _ in Path("/dev/fd").iterdir()) - 1  # one of them is that of this look
    except OSError as error:
        return limit if error.errno in NONE_LEFT else 0


class DescriptorWatch:
    """Tells when file descriptors get scarce, and when they are plenty again: each once."""

    def __init__(self) -> None:
        self.scarce = False

    def has_news(self, used: int, limit: int) -> bool:
        """Take in a count; returns whether `scarce` has changed."""
        before, share = self.scarce, used / limit
        self.scarce = share >= SCARCE or (self.scarce and share >= PLENTY)
        return self.scarce != before


async def watch_descriptors(sleep: Callable[[float], Awaitable[None]]) -> None:
    """Count the file descriptors every ten seconds until cancelled, and log when they get scarce and when no more."""
    watch, log = DescriptorWatch(), structlog.get_logger("process")
    while True:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        used = open_descriptors(limit)
        if limit != resource.RLIM_INFINITY and watch.has_news(used, limit):
            if watch.scarce:
                advice = "when none is left, no connection and no file can be opened: raise the limit (ulimit -n)"
                log.error("file descriptors run out", used=used, limit=limit, advice=advice)
            else:
                log.warning("there are enough file descriptors again", used=used, limit=limit)
        await sleep(CHECK_EVERY_S)
