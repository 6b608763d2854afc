"""The harness for tests of handlers shows what a worker would do with an event, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from cell_worker.api import Cell, Component, DeniedEvent, Event, RejectEvent, RetryEvent
from cell_worker.contract.protocol import EventName, Outcome
from cell_worker.handling import HandlerError
from cell_worker.testing import Harness
from tests.support.handlers import CannotStart, NeedsMore, stuck


class Prices:
    """A component that notes how often it was restarted."""

    name = "prices"

    def __init__(self) -> None:
        self.restarts = 0

    async def check(self) -> str:
        return f"{self.restarts} restarts"

    async def restart(self) -> None:
        self.restarts += 1


class Orders:
    """A handler that does what its event says, and whose clients belong to the loop that it was started in."""

    def __init__(self) -> None:
        self.running = False
        self.calls = 0

    async def start(self, cell: Cell) -> Sequence[Component]:
        self.running = True
        self._loop = asyncio.get_running_loop()
        return [Prices()]

    async def __call__(self, event: Event, cell: Cell) -> None:
        assert asyncio.get_running_loop() is self._loop
        self.calls += 1
        order = event.json()
        cell.emit({"order": order["id"], "tax": order["total"] * 0.2, "side_effects": cell.side_effects})
        errors = {"reject": RejectEvent, "retry": RetryEvent, "deny": DeniedEvent, "fail": ValueError}
        if order.get("do") in errors:
            raise errors[order["do"]]("as asked")

    async def canary(self, cell: Cell) -> None:
        if self.calls:
            raise RetryEvent("prices are away")

    async def stop(self) -> None:
        self.running = False


def test_what_an_event_emits_is_there_once_it_is_committed() -> None:
    """A dict, bytes and text are all taken; each answer has the lines of its own event."""
    with Harness(Orders, side_effects=False) as cell:
        first = cell.give({"id": 1, "total": 10}, key="acme", event_id="1/1")
        second = cell.give(b'{"id": 2, "total": 20}', key="acme", event_id="2/1")
        third = cell.give('{"id": 3, "total": 30}', key="else")
    assert (first.outcome, first.reason) == ("ok", None)
    assert first.emitted == [{"order": 1, "tax": 2.0, "side_effects": False}]
    assert [line["order"] for line in second.emitted + third.emitted] == [2, 3]
    assert cell.done[:2] == [EventName("acme", "1/1"), EventName("acme", "2/1")]
    assert len(cell.done) == 3


def test_an_event_that_comes_twice_takes_effect_once() -> None:
    """The same id of another key is another event."""
    handler = Orders()
    with Harness(handler) as cell:
        answers = [cell.give({"id": 1, "total": 10}, key=key, event_id="1/1") for key in ("acme", "acme", "else")]
    assert [(answer.duplicate, len(answer.emitted)) for answer in answers] == [(False, 1), (True, 0), (False, 1)]
    assert (handler.calls, len(cell.done)) == (2, 2)


@pytest.mark.parametrize(
    ("what", "outcome", "reason", "denied"),
    [
        ("reject", Outcome.REJECTED, "as asked", False),
        ("retry", Outcome.RETRY, "as asked", False),
        ("deny", Outcome.RETRY, "as asked", True),
        ("fail", Outcome.FAILED, "ValueError: as asked", False),
    ],
)
def test_what_the_handler_raises_is_the_outcome(what: str, outcome: Outcome, reason: str, denied: bool) -> None:
    """Nothing is emitted then, and nothing is done."""
    with Harness(Orders) as cell:
        answer = cell.give({"id": 1, "total": 10, "do": what})
    assert (answer.outcome, answer.reason, answer.denied) == (outcome, reason, denied)
    assert (answer.emitted, cell.done) == ([], [])


def test_a_body_that_is_no_json_is_rejected() -> None:
    """It reaches the handler as it came."""
    with Harness(Orders) as cell:
        assert cell.give(b"\xff").outcome is Outcome.REJECTED


def test_time_is_limited_as_in_a_worker() -> None:
    """A handler that never ends has failed when its time is over; a thread that never ends keeps no test."""
    let_go = threading.Event()

    async def in_thread(event: Event, cell: Cell) -> None:
        await asyncio.to_thread(let_go.wait)

    for handler in (stuck, in_thread):
        with Harness(handler, event_timeout_s=0.05) as cell:
            answer = cell.give({})
        assert (answer.outcome, answer.reason) == ("failed", "TimeoutError: the handler took longer than 0.05 s")
    let_go.set()


def test_canary_components_and_end() -> None:
    """A canary counts as no event. The handler is stopped at the end."""
    handler = Orders()
    with Harness(handler) as cell:
        assert cell.canary().outcome is Outcome.OK
        cell.give({"id": 1, "total": 10})
        assert (cell.canary().outcome, cell.canary().reason) == (Outcome.RETRY, "prices are away")
        cell.run(cell.components["prices"].restart())
        assert cell.run(cell.components["prices"].check()) == "1 restarts"
        assert handler.running
    assert not handler.running
    assert len(cell.done) == 1


def test_attributes_reach_the_handler() -> None:
    """Text and bytes, as an event of SQS has them."""
    seen: list[Event] = []

    async def note(event: Event, cell: Cell) -> None:
        seen.append(event)

    with Harness(note) as cell:
        cell.give({}, key="acme", event_id="e", attempt=3, attributes={"a": "text", "b": b"\x00"}, sent_at_ms=5)
    assert seen == [Event("e", "acme", 3, b"{}", 5, {"a": "text", "b": b"\x00"})]


def test_a_handler_that_cannot_be_used_is_said() -> None:
    """As at the start of a worker, before any event."""
    with pytest.raises(HandlerError, match=r"ModuleNotFoundError: No module named 'no_such_module'$"):
        Harness("no_such_module:handle")
    with pytest.raises(HandlerError, match="neither a coroutine function"):
        Harness(print)
    with pytest.raises(TypeError):
        Harness(NeedsMore)
    with pytest.raises(HandlerError, match="no such folder: rules"), Harness(CannotStart):
        pass


def test_the_place_in_the_handlers_code_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that fails in another module of the handler's names that module's file and line."""
    (path := tmp_path / "broken_orders.py").write_text("\n\nimport no_such_client\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(HandlerError, match="No module named 'no_such_client'") as caught:
        Harness("broken_orders:handle")
    assert str(caught.value).endswith(f"({path}, line 3)")
