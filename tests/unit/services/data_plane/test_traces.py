"""An event's trace follows it through the router, also through hold queues, redeliveries and its end as dead letter."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cell_worker.contract.tracing.context import traceparent_of
from cell_worker.contract.tracing.variables import Sampling
from router.adapters.tracing.spans import OtelTracer
from router.core.models import Draft, Event, Outcome
from tests.support.fake_clock import play
from tests.support.router_world import World

TRACE: Final = 0x4BF92F3577B34DA6A3CE929D0E0E4736
PARENT: Final = traceparent_of(TRACE, 0x00F067AA0BA902B7)
HEADER: Final = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"


def traced(world: World, *drafts: Draft, share: float = 0.0, seconds: float = 60) -> Sequence[ReadableSpan]:
    """Route these messages with a tracer, and return the spans in the order in which they began."""
    spans = InMemorySpanExporter()
    tracer = world.tracer = OtelTracer(Sampling(by_parent=True, share=share), "r", "test", spans)

    async def story() -> None:
        async with world.routing():
            await world.source.send(drafts)
            await world.clock.sleep(seconds)

    play(world.clock, story())
    tracer.tracing.provider.shutdown()
    return sorted(spans.get_finished_spans(), key=lambda span: span.start_time or 0)


def order(event_id: str = "e0", parent: str = PARENT, header: str = "", group: str | None = None) -> Draft:
    """Make a message with one event, as its producer sends it."""
    attributes = {"traceparent": parent} if parent else {}
    body = json.dumps({"event_id": event_id, "tenant": "acme"})
    return Draft(body, attributes, group_id=group, dedup_id=event_id if group else None, trace_header=header)


def seeing() -> tuple[World, list[Event]]:
    """Make a world whose cell keeps the events that it is sent."""
    world, sent = World(cells=1), list[Event]()

    def keep(event: Event) -> Outcome:
        sent.append(event)
        return Outcome.OK

    world.cells.cells["cell-0000"].behaviour = keep
    return world, sent


def told(spans: Sequence[ReadableSpan]) -> list[str]:
    """Name the spans, and see that each but the receives is a child of its receive, and ended within it."""
    receives = {span.context.span_id: span for span in spans if span.name.startswith("receive")}
    for span in spans:
        if span.context.span_id not in receives:
            above = receives[span.parent.span_id if span.parent else 0]
            assert (span.end_time or 0) <= (above.end_time or 0)
    return [span.name for span in spans]


@pytest.mark.parametrize("draft", [order(), order(parent="", header=HEADER)], ids=["W3C", "AWS"])
def test_a_trace_goes_from_the_producer_through_the_router_to_the_cell(draft: Draft) -> None:
    """Receive, lane, cell, acknowledgement: below the producer's span; the cell is told its place in the trace."""
    world, sent = seeing()
    spans = traced(world, draft)
    assert told(spans) == ["receive source", "lane cell-0000", "cell cell-0000", "ack source"]
    assert {span.context.trace_id for span in spans} == {TRACE}
    assert spans[0].parent is not None
    assert spans[0].parent.span_id == 0x00F067AA0BA902B7
    assert [event.trace for event in sent] == [traceparent_of(TRACE, spans[2].context.span_id)]
    about = dict(spans[0].attributes or {})
    assert (about["messaging.system"], about["messaging.destination.name"]) == ("aws_sqs", "source")
    assert (about["cellrouter.event_id"], about["cellrouter.partition_key"]) == ("e0", "acme")


def fails_twice() -> Callable[[Event], Outcome]:
    """Behave as a handler that raises for the first two tries of an event."""
    return lambda event: Outcome.FAILED if event.attempt < 3 else Outcome.OK


@pytest.mark.parametrize("parent", [PARENT, ""], ids=["its producer's", "its own"])
def test_a_hold_queue_keeps_the_trace(parent: str) -> None:
    """Each try is a receive of its own, in the same trace: below the producer's span, or below the first receive."""
    world = World(cells=1)
    world.cells.cells["cell-0000"].behaviour = fails_twice()
    spans = traced(world, order(parent=parent), share=1.0)
    hold = world.holds["cell-0000"].name
    again = ["lane cell-0000", "cell cell-0000"]
    assert told(spans) == [
        *("receive source", *again, f"send {hold}", "ack source"),
        *(f"receive {hold}", *again, f"send {hold}", f"ack {hold}"),
        *(f"receive {hold}", *again, f"ack {hold}"),
    ]
    assert len({span.context.trace_id for span in spans}) == 1
    [first, *later] = [span for span in spans if span.name.startswith("receive")]
    if parent:
        assert len({span.parent.span_id for span in (first, *later) if span.parent}) == 1
    else:
        assert first.parent is None
        assert {span.parent.span_id for span in later if span.parent} == {first.context.span_id}
    cells = [span for span in spans if span.name.startswith("cell ")]
    assert [(span.attributes or {})["cellrouter.outcome"] for span in cells] == ["failed", "failed", "ok"]
    assert [span.status.is_ok for span in cells] == [False, False, True]


def test_a_dead_letter_keeps_what_its_producer_sent_and_is_the_end_of_the_trace() -> None:
    """So that a redrive goes on in the same trace."""
    world = World(cells=1)
    world.cells.cells["cell-0000"].behaviour = lambda _: Outcome.REJECTED
    spans = traced(world, order(header=HEADER))
    assert told(spans)[-2:] == [f"send {world.dead.name}", "ack source"]
    assert (spans[-2].attributes or {})["cellrouter.cause"] == "rejected"
    letters = list[str]()

    async def look() -> None:
        letters.extend(f"{letter.attributes}{letter.trace_header}" for letter in await world.dead_letters())

    play(world.clock, look())
    assert PARENT in letters[0]
    assert HEADER in letters[0]


def test_a_fifo_event_that_waits_in_its_queue_stays_in_its_trace() -> None:
    """Its message is let go, and says so; no router needs to remember anything for that."""
    world = World(cells=1, fifo=True)
    world.cells.cells["cell-0000"].behaviour = fails_twice()
    spans = traced(world, order(parent="", group="acme"), share=1.0, seconds=200)
    receives = [span for span in spans if span.name.startswith("receive")]
    assert ["cellrouter.let_go_s" in (span.attributes or {}) for span in receives] == [True, True, False]
    assert len({span.context.trace_id for span in spans}) == 1


def test_what_is_not_sampled_has_no_span() -> None:
    """Neither what its producer has not sampled, nor what is not of the share."""
    world, sent = seeing()
    assert traced(world, order("e0", f"{PARENT[:-1]}0"), order("e1", "")) == []
    assert [event.trace for event in sent] == ["", ""]


def test_of_events_without_a_trace_a_share_is_taken_and_by_every_router_the_same() -> None:
    """By key and id: 300 events are enough to see that it is about a tenth."""
    drafts = [order(f"e{i}", "") for i in range(300)]
    found = []
    for _ in range(2):
        spans = traced(World(cells=1), *drafts[:10], share=0.1)
        found.append({(span.attributes or {})["cellrouter.event_id"] for span in spans if "receive" in span.name})
    assert found[0] == found[1]
    sampling = Sampling(by_parent=True, share=0.1)
    tracer = OtelTracer(sampling, "r", "test", InMemorySpanExporter())
    begun = [tracer.received(Event(f"e{i}", "k", b"{}"), "q", "m", 0.0, first=True) for i in range(300)]
    assert 10 <= sum(trace is not None for trace in begun) <= 60
    tracer.tracing.provider.shutdown()
