"""What a process stands on: a log whose reader stalls or goes away, and file descriptors that run out."""

from __future__ import annotations

import gc
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

import pytest

from cell_worker.contract.process import (
    MAX_WAITING_BYTES,
    DescriptorWatch,
    LogQueue,
    keep_what_is_there,
    open_descriptors,
)
from tests.support.paths import REPOSITORY

LIMIT_S: Final = 30
LINE: Final = b"x" * 1023 + b"\n"


class Log:
    """A pipe with a log queue before it; the reader reads only when it is asked to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.told: list[int] = []
        self.has_told = threading.Event()
        self.queue = LogQueue(self.writer, self._tell)

    def _tell(self, lines: int) -> None:
        self.told.append(lines)
        self.has_told.set()

    def read(self, size: int) -> bytes:
        """Read so many bytes, as soon as they are there."""
        found = b""
        while len(found) < size:
            found += os.read(self.reader, size - len(found))
        return found

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the writer's thread has brought a state about."""
        for _ in range(LIMIT_S * 100):
            if condition():
                return
            threading.Event().wait(0.01)
        raise AssertionError(what)

    def close(self) -> None:
        """Let the writer's thread end."""
        os.close(self.reader)
        self.queue.finish(LIMIT_S)
        os.close(self.writer)


@pytest.fixture
def log() -> Iterator[Log]:
    """Makes a log with a pipe of its own."""
    with closing(Log()) as made:
        yield made


def test_lines_come_out_in_their_order(log: Log) -> None:
    """All that was written is there when the end has waited for it."""
    buffer: Any = log.queue
    stream = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)
    expected = "".join(f"line {number} \u00e9\n" for number in range(1000)).encode()
    for number in range(1000):
        print(f"line {number} \u00e9", file=stream)
    stream.flush()
    log.queue.finish(LIMIT_S)
    assert log.read(len(expected)) == expected
    assert log.queue.dropped == 0


def test_a_reader_that_stalls_stops_no_writer_and_costs_bounded_memory(log: Log) -> None:
    """What is over the limit is dropped and counted, and told once when the reader reads again."""
    lines = 3 * MAX_WAITING_BYTES // len(LINE)
    for _ in range(lines):
        assert log.queue.write(LINE) == len(LINE)
    kept = lines - log.queue.dropped
    assert MAX_WAITING_BYTES // 2 <= kept * len(LINE) <= 2 * MAX_WAITING_BYTES
    assert log.told == []
    assert log.read(kept * len(LINE)) == LINE * kept
    assert log.has_told.wait(LIMIT_S)
    log.queue.write(LINE)
    assert log.read(len(LINE)) == LINE
    assert log.told == [lines - kept]


def test_a_reader_that_has_gone_costs_its_lines_alone(log: Log) -> None:
    """Each write to it fails, and none of them is seen by who logs."""
    kept = os.dup(log.reader)
    os.close(log.reader)
    log.reader = os.dup(kept)
    os.close(kept)
    gone, other = os.pipe()
    os.close(gone)
    os.dup2(other, log.writer)  # now the log leads to a pipe without a reader
    log.queue.write(LINE * 3)
    log.wait(lambda: log.queue.dropped == 3, "three lines are dropped")
    log.queue.write(LINE)
    log.wait(lambda: log.queue.dropped == 4, "and a fourth one")
    assert log.told == []
    reader, writer = os.pipe()
    os.dup2(writer, log.writer)  # a reader is there again
    log.queue.write(LINE)
    assert os.read(reader, 2048) == LINE
    assert log.has_told.wait(LIMIT_S)
    assert log.told == [4]
    for descriptor in (other, reader, writer):
        os.close(descriptor)


def test_the_end_does_not_wait_for_a_reader_that_stalls(log: Log) -> None:
    """It waits for the time that it is given, and goes on."""
    log.queue.write(LINE * 500)
    log.queue.finish(0.05)
    assert log.read(len(LINE)) == LINE


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(log: Log) -> None:
    """Whoever shares the pipe may set that flag for all."""
    os.set_blocking(log.writer, False)
    log.queue.write(LINE * 500)
    assert log.read(500 * len(LINE)) == LINE * 500
    assert log.queue.dropped == 0


FORKS: Final = """
import os, sys
from cell_worker.contract.process import guard_streams
guard_streams()
print("parent")
child = os.fork()
if child == 0:
    print("child")
    os._exit(0)
os.waitpid(child, 0)
sys.exit("last words")
"""


def test_a_forked_child_writes_by_itself() -> None:
    """It has no thread that writes for it, and repeats nothing of its parent's. What a process says last comes out."""
    command = [sys.executable, "-W", "ignore", "-c", FORKS]  # newer Pythons warn of a fork beside threads
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert sorted(done.stdout.splitlines()) == ["child", "parent"]
    assert (done.stderr, done.returncode) == ("last words\n", 1)


def test_scarce_descriptors_are_told_once_and_their_return_too() -> None:
    """Around a limit the same is not said again and again."""
    watch = DescriptorWatch()
    told = [(used, watch.scarce) for used in (10, 79, 80, 99, 75, 81, 70, 69, 75, 10) if watch.has_news(used, 100)]
    assert told == [(80, True), (69, False)]


def test_open_descriptors_are_counted() -> None:
    """One more counts as one more."""
    before = open_descriptors(0)
    reader, writer = os.pipe()
    assert open_descriptors(0) == before + 2
    os.close(reader)
    os.close(writer)


PRINTS: Final = """
import logging, sys, threading, warnings
from cell_worker.contract.process import configure_logs, guard_streams
guard_streams(as_json=True)
print("before the log is set up")
configure_logs("json")
import structlog
structlog.get_logger("a").info("an entry", key="\u00e9")
logging.getLogger("uvicorn.error").error("of a library")
warnings.warn("a warning")
print("two", "words"); print("two\\nlines"); print("no end", end="")
def dies():
    raise ValueError("in a thread")
thread = threading.Thread(target=dies); thread.start(); thread.join()
raise KeyError("the end")
"""


def test_on_ecs_whatever_a_process_prints_is_one_json_object_a_line() -> None:
    """Entries, libraries, warnings, prints, tracebacks of threads and of the end: nothing spoils a line."""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", PRINTS]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    said = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
    assert all(isinstance(entry, dict) and entry["event"] and entry["level"] for entry in said)
    events = [entry["event"] for entry in said]
    for expected in ("before the log is set up", "an entry", "of a library", "two words", "two", "lines", "no end"):
        assert expected in events
    assert any("a warning" in event for event in events)
    ends = {entry["event"]: entry["exception"] for entry in said if entry["level"] == "critical"}
    assert list(ends) == ["ends by an error: ValueError('in a thread')", "ends by an error: KeyError('the end')"]
    assert all(text.startswith("Traceback") and "\n" in text for text in ends.values())
    assert done.returncode == 1


@pytest.mark.parametrize("role", ["router", "worker"])
def test_on_ecs_faulty_settings_are_json_too(role: str) -> None:
    """They are said before any log is set up."""
    command = [sys.executable, "-m", *(("cell_worker",) if role == "worker" else ("router", "router"))]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    environ["ECS_CONTAINER_METADATA_URI_V4"] = "http://127.0.0.1:1/v4/x"
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("", 2)
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert any("SECRET" in event for event in events), events


def test_the_garbage_collector_passes_over_what_was_there() -> None:
    """And goes on to collect what comes, as seldom as it is told to."""
    before = gc.get_threshold()
    try:
        keep_what_is_there(1234)
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold() == (1234, *before[1:])
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
