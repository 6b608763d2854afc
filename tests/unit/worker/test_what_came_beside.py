"""A handler sees what came beside its event's body: attributes with their types, the trace, and the time of sending."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from cell_worker import app
from cell_worker.api import Cell, Event
from cell_worker.contract.protocol import MAX_BATCH_BYTES, EventBatch, Outcome
from router.adapters.cells.client import HttpCellClient
from router.core import models
from router.core.models import MAX_MESSAGE_BYTES, Origin, Target
from router.services.data_plane.inbox import Delivery
from tests.support.runtime_world import in_loop, make, one_result

NOBODY = cast("Any", None)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ORIGIN = Origin(
    "m",
    1_700_000_000_000,
    {"traceparent": TRACEPARENT, "n": "-1.50", "quotes": '"\\\n\U0001f4a1'},
    {"n": "Number.int", "blob": "Binary.png"},
    {"blob": bytes(range(256))},
    "Root=1-5759e988-bd862e3fe1be46a994272793",
)


def sent(*events: models.Event) -> bytes:
    """What a router sends to a cell."""
    return HttpCellClient(NOBODY, 60)._encode(Target("cell-0000", 1, "a:1", 1, 1), events)


def wired(*events: models.Event) -> EventBatch:
    """The batch as a cell reads it."""
    return app._decode(sent(*events))


async def handled(event: models.Event) -> Event:
    """What the handler gets of an event."""
    given: list[Event] = []

    async def handler(event: Event, cell: Cell) -> None:
        given.append(event)

    runtime, _ = await make(handler)
    assert (await one_result(runtime, wired(event))).outcome is Outcome.OK
    return given[0]


@in_loop
async def test_a_handler_sees_attributes_trace_and_time() -> None:
    """A Number is text as it came, and a Binary value is bytes."""
    event = await handled(models.Event("e", "k", b"{}", origin=ORIGIN))
    assert event.attributes == {**ORIGIN.attributes, **ORIGIN.binaries}
    assert event.types == ORIGIN.types
    assert (event.traceparent, event.trace_header) == (TRACEPARENT, ORIGIN.trace_header)
    assert event.sent_at_ms == ORIGIN.sent_at_ms


@in_loop
async def test_an_event_that_came_alone_has_nothing_beside_it() -> None:
    """Its batch is no longer than it was before there was such a thing."""
    event = await handled(models.Event("e", "k", b"{}"))
    assert (event.attributes, event.types, event.traceparent, event.trace_header, event.sent_at_ms) == (
        {},
        {},
        "",
        "",
        0,
    )
    assert b"attributes" not in sent(models.Event("e", "k", b"{}", origin=Origin("m", 5)))


@pytest.mark.parametrize(
    "origin",
    [
        Origin(attributes={"quotes": '"' * MAX_MESSAGE_BYTES}),
        Origin(attributes={"controls": "\n" * MAX_MESSAGE_BYTES}),
        Origin(binaries={"blob": b"\xff" * MAX_MESSAGE_BYTES}),
        Origin(attributes={f"a{n}": "\U0001f4a1" * 25_000 for n in range(10)}),
    ],
)
def test_the_most_that_a_message_can_bring_fits_beside_the_longest_body(origin: Origin) -> None:
    """And a lane counts no fewer bytes than the cell is sent."""
    event = models.Event("e", "k", b'"' + b"x" * (4 * MAX_MESSAGE_BYTES - 2) + b'"', origin=origin)
    whole = sent(event)
    assert len(whole) <= MAX_BATCH_BYTES
    assert len(whole) <= Delivery(event, NOBODY, NOBODY, from_hold=False).size + 1000
    assert len(wired(event).events[0].attributes) == len(origin.attributes)


def test_a_traceparent_that_is_no_text_is_none() -> None:
    """Anybody may send a Binary attribute of that name."""
    assert Event("e", "k", 1, b"{}", attributes={"traceparent": b"00-"}).traceparent == ""


@pytest.mark.parametrize(
    "beside", [{"sent_at_ms": -1}, {"attributes": {"a": 1}}, {"binaries": {"a": "!"}}, {"types": 1}]
)
def test_a_batch_with_something_else_beside_an_event_is_refused(beside: dict[str, object]) -> None:
    """The strict reader tells why."""
    batch = msgspec.json.decode(sent(models.Event("e", "k", b"{}")))
    batch["events"][0] |= beside
    with pytest.raises(app.RefusedError):
        app._decode(msgspec.json.encode(batch))
