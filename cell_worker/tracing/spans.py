"""Gives each traced event a span of its handler, and handlers that span as the current one: their own join it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from cell_worker.api import Cell, Event
from cell_worker.contract.strict_reader import Unreadable
from cell_worker.contract.tracing.context import TraceContext, context_in, read_traceparent, shown
from cell_worker.contract.tracing.exporting import Tracing
from cell_worker.handling import said_by

Handle = Callable[[Event, Cell], Awaitable[Mapping[str, Any] | None]]


def worker_tracing(cell_id: str, environment: str) -> Tracing:
    """Begin to trace in a worker. Which events are traced, routers decide; handlers find our provider as the global."""
    about: dict[str, str | int] = {"cellrouter.environment": environment, "cellrouter.cell": cell_id}
    about["process.pid"] = os.getpid()  # one of the cell's instances
    tracing = Tracing("cellrouter-cell", about, ParentBased(ALWAYS_OFF))
    trace.set_tracer_provider(tracing.provider)
    return tracing


class TracedHandler:
    """Calls the handler within a span for an event that is traced, and within its producer's trace for another."""

    def __init__(self, handler: Any, tracing: Tracing) -> None:
        self._handler: Handle = handler
        self._tracer = tracing.tracer
        self.canary = handler.canary
        if (rehearse := getattr(handler, "rehearse", None)) is not None:
            self.rehearse = rehearse

    async def __call__(self, event: Event, cell: Cell) -> Mapping[str, Any] | None:
        """Call the handler; whatever it returns or raises, it is passed on."""
        if (parent := _place_of(event)) is None or not parent.span_id:
            return await self._handler(event, cell)
        flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
        state = TraceState(list(parent.state))
        remote = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags, trace_state=state)
        above = trace.set_span_in_context(NonRecordingSpan(remote), contexts.Context())
        with self._tracer.start_as_current_span(
            f"handler {cell.cell_id}",
            above,
            SpanKind.CONSUMER,
            _about(event, cell),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await self._handler(event, cell)
            except BaseException as error:
                _note(span, error)
                raise


def _place_of(event: Event) -> TraceContext | None:
    """Where in which trace the event is: as its router says, else as its producer does."""
    said = context_in(event.attributes, event.trace_header)
    if not event.trace or isinstance(found := read_traceparent(event.trace), Unreadable):
        return said
    state = said.state if said is not None and said.trace_id == found.trace_id else ()
    return TraceContext(found.trace_id, found.span_id, found.sampled, state)


def _about(event: Event, cell: Cell) -> dict[str, str | int]:
    return {
        "messaging.system": "aws_sqs",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.body.size": len(event.body),
        "cellrouter.cell": cell.cell_id,
        "cellrouter.generation": cell.generation,
        "cellrouter.event_id": shown(event.event_id),
        "cellrouter.partition_key": shown(event.partition_key),
        "cellrouter.attempt": event.attempt,
    }


def _note(span: Span, error: BaseException) -> None:
    """Note what a handler raised; also an exception that can't be shown must stay what it is."""
    span.set_status(Status(StatusCode.ERROR, said_by(error)))
    span.set_attribute("error.type", type(error).__qualname__)
    with suppress(Exception):
        span.record_exception(error)
