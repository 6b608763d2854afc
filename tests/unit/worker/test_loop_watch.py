"""The watch of the loop tells what kept it from going on, how long, and how long ago."""

from __future__ import annotations

import json
import sys
from types import FrameType

import pytest
from prometheus_client import generate_latest

from cell_worker import clock
from cell_worker.containment.loop_watch import BEAT_S, LoopWatch, package_of, place_of
from cell_worker.contract.process import configure_logs
from cell_worker.metrics import WorkerMetrics


class World:
    """A watch whose loop and thread are both played by the test, at times that it sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        self.metrics = WorkerMetrics()
        self.watch = LoopWatch("tests.support.trivial:handle", self.metrics)

    def block(self, seconds: float, *, seen: bool = True, stood: bool = False) -> None:
        """Have the loop stand still. The thread sees it after a second, unless it stands still too."""
        if seen:
            self.watch._see(self.now, 1.0, all_stood=stood)
        self.now += seconds + BEAT_S
        self.watch._note(self.now)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A watch that has just begun."""
    return World(monkeypatch)


def frame() -> FrameType:
    """The stack of the present test."""
    return sys._getframe(1)


def test_a_loop_that_goes_on_is_no_news(world: World) -> None:
    """Its lag is measured, and that is all."""
    world.block(0.5, seen=False)
    assert world.watch.why_blocked() is None
    text = generate_latest(world.metrics.registry).decode()
    assert "cell_worker_loop_lag_seconds_sum 0.5" in text
    assert "cell_worker_loop_blocked_total 0.0" in text


def test_the_last_blocking_is_told_with_its_age(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The log has it when it is seen and when it is over."""
    configure_logs("json")
    world.block(4)
    world.now += 12
    assert (world.watch.why_blocked() or "").startswith("something blocks the loop: 4 s in `")
    assert (world.watch.why_blocked() or "").endswith("`, 12 s ago")
    lines = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert [line.partition(":")[0] for line in lines] == ["something blocks the loop", "it goes on"]


def test_the_log_tells_of_a_loop_that_is_blocked_again_and_again_now_and_then(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does so every ten seconds at most, while the metrics count each."""
    configure_logs("json")
    for _ in range(10):
        world.block(2)
    assert "cell_worker_loop_blocked_total 10.0" in generate_latest(world.metrics.registry).decode()
    assert 2 <= capsys.readouterr().err.count(" so far; ") <= 3


def test_a_process_that_stood_still_as_a_whole_accuses_no_handler(world: World) -> None:
    """It was stopped or starved, or native code kept Python's lock."""
    world.block(30, seen=False)
    assert "the whole process stood still: 30 s in `unknown`" in (world.watch.why_blocked() or "")
    world.block(20, stood=True)
    assert "the whole process stood still: 20 s" in (world.watch.why_blocked() or "")


def test_the_innermost_code_of_the_handlers_package_is_named() -> None:
    """Libraries that it calls are not its code. Without any code of its own, the innermost code is named."""
    places: dict[str, tuple[str, bool]] = {}

    def called_by_a_library(_: str) -> None:
        for package in ("tests", "json"):
            places[package] = place_of(frame(), package)

    json.loads("1", parse_int=called_by_a_library)
    assert places["tests"][0].endswith("<locals>.called_by_a_library")
    assert places["json"][0].startswith("json.")
    assert [by_handler for _, by_handler in places.values()] == [True, True]
    assert place_of(frame(), "no_such")[1] is False
    assert place_of(None, "tests") == ("unknown", False)


@pytest.mark.parametrize(
    ("handler", "package"),
    [
        ("orders:handle", "orders"),
        ("acme.cells.orders:Orders", "acme"),
        ("cell_worker.handlers.security:SecurityMonitor", "cell_worker.handlers"),
    ],
)
def test_a_handlers_package_is_where_its_module_lies(handler: str, package: str) -> None:
    """The worker's own code is none of a handler that ships with it."""
    assert package_of(handler) == package
