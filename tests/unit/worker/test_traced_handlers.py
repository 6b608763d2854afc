"""What a handler sees of a trace, and what becomes of spans that no collector takes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

from cell_worker.api import Cell, Event, RejectEvent
from cell_worker.contract.tracing import exporting
from cell_worker.contract.tracing.context import traceparent_of
from cell_worker.contract.tracing.exporting import Tracing
from cell_worker.tracing.spans import TracedHandler
from tests.support.aio import run

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
PARENT = traceparent_of(TRACE, SPAN)
CELL = Cell("cell-0000", 3, "test", side_effects=False, log=None)  # type: ignore[arg-type] # nothing is logged


class Unprintable(Exception):
    """An exception whose text can't be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Workload:
    """Makes spans of its own, in its task and in a thread, and raises what it is told."""

    def __init__(self, tracing: Tracing) -> None:
        self.tracer = tracing.provider.get_tracer("the handler's own")
        self.raises: BaseException | None = None
        self.seen = list[trace.SpanContext]()

    async def __call__(self, event: Event, cell: Cell) -> None:
        self.seen.append(trace.get_current_span().get_span_context())
        with self.tracer.start_as_current_span("in its task"):
            await asyncio.to_thread(lambda: self.tracer.start_span("in a thread").end())
        if self.raises is not None:
            raise self.raises

    async def canary(self, cell: Cell) -> None:
        """Try nothing."""


def handled(event: Event, raises: BaseException | None = None) -> tuple[Workload, dict[str, ReadableSpan]]:
    """Have the workload handle an event; returns it, and the spans by name."""
    spans = InMemorySpanExporter()
    tracing = Tracing("cell", {}, ParentBased(ALWAYS_OFF), exporter=spans)
    workload = Workload(tracing)
    workload.raises = raises

    async def call() -> None:
        await TracedHandler(workload, tracing)(event, CELL)

    if raises is None:
        run(call())
    else:
        with pytest.raises(type(raises)):
            run(call())
    tracing.provider.shutdown()
    return workload, {span.name: span for span in spans.get_finished_spans()}


def test_a_handlers_own_spans_join_the_events_trace() -> None:
    """Below the span of the handler, which is below that of the router's call; also those of its threads."""
    state = {"traceparent": traceparent_of(TRACE, 1), "tracestate": "vendor=1"}
    _, spans = handled(Event("e", "k", 2, b"{}", attributes=state, trace=PARENT))
    handler = spans["handler cell-0000"]
    assert handler.parent is not None
    assert (handler.parent.trace_id, handler.parent.span_id) == (TRACE, SPAN)
    assert handler.parent.trace_state.to_header() == "vendor=1"
    assert (handler.attributes or {})["cellrouter.attempt"] == 2
    inner, outer = spans["in a thread"].parent, spans["in its task"].parent
    assert (outer and outer.span_id) == handler.context.span_id
    assert (inner and inner.span_id) == spans["in its task"].context.span_id


@pytest.mark.parametrize("error", [ValueError("bad"), RejectEvent("never"), Unprintable(), SystemExit(3)])
def test_what_a_handler_raises_is_told_and_stays_what_it_is(error: BaseException) -> None:
    """Also an exception that can't be shown."""
    _, spans = handled(Event("e", "k", 1, b"{}", trace=PARENT), error)
    found = spans["handler cell-0000"]
    assert not found.status.is_ok
    assert (found.attributes or {})["error.type"] == type(error).__qualname__


def test_what_a_producer_has_not_sampled_gets_no_span_and_keeps_its_trace() -> None:
    """So that whom the handler calls does not sample it either; without any context there is none to see."""
    unsampled = {"traceparent": f"{PARENT[:-1]}0"}
    workload, spans = handled(Event("e", "k", 1, b"{}", attributes=unsampled))
    assert spans == {}
    assert (workload.seen[0].trace_id, workload.seen[0].trace_flags.sampled) == (TRACE, False)
    workload, spans = handled(Event("e", "k", 1, b"{}", trace="no traceparent"))
    assert (spans, workload.seen[0].is_valid) == ({}, False)


class Stuck(SpanExporter):
    """A collector that takes nothing until it is let."""

    def __init__(self) -> None:
        self.free, self.reached = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.reached.set()
        self.free.wait(30)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Have nothing to close."""


class Broken(SpanExporter):
    """A collector that can't be asked."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise OSError("no route to host")

    def shutdown(self) -> None:
        """Have nothing to close."""


def ended(tracing: Tracing, count: int) -> None:
    """End so many spans."""
    for _ in range(count):
        tracing.tracer.start_span("a span").end()


def test_spans_without_room_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a collector: not who ends a span, and a process that ends no longer than it may."""
    monkeypatch.setenv(exporting.QUEUE_VARIABLE, "10")
    monkeypatch.setattr(exporting, "CLOSE_S", 0.01)
    stuck = Stuck()
    tracing = Tracing("cell", {}, ALWAYS_ON, exporter=stuck)
    ended(tracing, 10)
    assert stuck.reached.wait(30)  # a full batch is exported at once, and is out of the queue then
    ended(tracing, 25)
    assert tracing.counts() == {"exported": 0, "failed": 0, "dropped": 15}
    run(tracing.close())
    assert tracing.counts()["exported"] == 0
    stuck.free.set()


def test_a_collector_that_is_away_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each span that it does not take is counted."""
    said = list[str]()
    tracing = Tracing("cell", {}, ALWAYS_ON, exporter=Broken())

    def tell(text: str, **_: Any) -> None:
        said.append(text)

    monkeypatch.setattr(tracing._sent._log, "warning", tell)
    for _ in range(3):
        ended(tracing, 2)
        tracing.provider.force_flush()
    assert tracing.counts() == {"exported": 0, "failed": 6, "dropped": 0}
    assert len(said) == 1
    tracing.provider.shutdown()
