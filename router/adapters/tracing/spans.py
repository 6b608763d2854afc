"""EventTracer on OpenTelemetry: the spans of an event's way through a router, from its receive to its acknowledgement.

Only who traces imports this module: it needs the packages of the extra `tracing`.

An event whose producer began no trace gets one that follows from its key and id. So every router says the same of it
without asking: whether it is traced, in which trace, and which span is its first. Hold queues need to carry nothing.
"""

from __future__ import annotations

import time
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
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
from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

from cell_worker.contract.tracing.context import TraceContext, context_in, shown, traceparent_of
from cell_worker.contract.tracing.exporting import Tracing
from cell_worker.contract.tracing.variables import Sampling
from router.core.models import Event, Outcome, Result, Target

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_BASE: Final = {"messaging.system": "aws_sqs"}
Attributes = dict[str, str | int | bool]


class OtelTracer:
    """Begins the trace of each sampled event in this router."""

    def __init__(
        self, sampling: Sampling, router_id: str, environment: str, exporter: SpanExporter | None = None
    ) -> None:
        self._sampling = sampling
        self._ids = GivenIds()
        about = {"cellrouter.environment": environment, "service.instance.id": router_id}
        # Whatever comes so far is sampled: `received` has decided.
        self.tracing = Tracing("cellrouter-router", about, ALWAYS_ON, self._ids, exporter)
        self._begin = self.tracing.tracer.start_span

    def received(self, event: Event, queue: str, message_id: str, age_s: float, *, first: bool) -> OtelTrace | None:
        """Begin the trace of an event received `age_s` seconds ago; None when it is not sampled.

        `first` says that no router has had it before.
        """
        origin = event.origin
        said = origin is not None and (origin.attributes or origin.trace_header)  # most have neither
        parent = context_in(origin.attributes, origin.trace_header) if said and origin is not None else None
        if parent is None and not self._sampling.share:
            return None
        name = f"{len(event.partition_key)}:{event.partition_key}/{event.event_id}".encode(errors="replace")
        trace_id = parent.trace_id if parent is not None else xxh3_128_intdigest(name) or 1
        if not self._sampling.takes(parent, trace_id):
            return None
        if parent is None or not parent.span_id:
            span_id = xxh3_64_intdigest(name) or 1  # of the first span, which has none above it
            parent = TraceContext(trace_id, span_id, sampled=True)
            if first:
                self._ids.give(trace_id, span_id)
                parent = None
        about = _about_message("receive", "receive", queue) | _about_event(event, message_id)
        began_at = time.time_ns() - round(age_s * 1e9)
        span = self._begin(f"receive {queue}", _below(parent), SpanKind.CONSUMER, about, start_time=began_at)
        return OtelTrace(self.tracing, span)


class OtelTrace:
    """The spans of one event in this router. One at a time is open below the one of its receive."""

    __slots__ = ("_below", "_open", "_receive", "_start")

    def __init__(self, tracing: Tracing, receive: Span) -> None:
        self._receive = receive
        self._below = trace.set_span_in_context(receive, Context())
        self._start = tracing.tracer.start_span
        self._open: Span | None = None

    def waits(self, cell_id: str) -> None:
        """Begin to wait in the lane of this cell."""
        self._begin(f"lane {cell_id}", SpanKind.INTERNAL, {"cellrouter.cell": cell_id})

    def sent(self, target: Target) -> str:
        """Go to this instance; returns the context that the call carries, as W3C's `traceparent`."""
        host, _, port = target.address.rpartition(":")
        about: Attributes = {
            "cellrouter.cell": target.cell_id,
            "cellrouter.generation": target.generation,
            "server.address": host,
            "server.port": int(port) if port.isascii() and port.isdecimal() else 0,
        }
        found = self._begin(f"cell {target.cell_id}", SpanKind.CLIENT, about).get_span_context()
        return traceparent_of(found.trace_id, found.span_id)

    def answered(self, result: Result) -> None:
        """End the way to the cell with what it said."""
        if (span := self._open) is None:
            return
        span.set_attribute("cellrouter.outcome", result.outcome.value)
        if result.duplicate:
            span.set_attribute("cellrouter.duplicate", True)
        if result.outcome is not Outcome.OK:
            span.set_attribute("error.type", result.outcome.value)
            span.set_status(Status(StatusCode.ERROR, shown(result.reason or "")))
        self._close()

    def moves(self, queue: str, why: str) -> None:
        """Be written to another queue, for this reason."""
        about: Attributes = {**_about_message("send", "send", queue), "cellrouter.cause": why}
        self._begin(f"send {queue}", SpanKind.PRODUCER, about)

    def acknowledging(self, queue: str) -> None:
        """Begin to be deleted from the queue that it came from."""
        self._begin(f"ack {queue}", SpanKind.CLIENT, _about_message("ack", "settle", queue))

    def end(self, let_go_s: int | None) -> None:
        """End with the message: it is gone, or was let go for so many seconds and comes again."""
        self._close()
        if let_go_s is not None:
            self._receive.set_attribute("cellrouter.let_go_s", let_go_s)
        self._receive.end()

    def _begin(self, name: str, kind: SpanKind, about: Attributes) -> Span:
        self._close()
        self._open = self._start(name, self._below, kind, about)
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._open.end()
            self._open = None


class GivenIds(RandomIdGenerator):
    """Random ids, but for the next span the ones that were given."""

    def __init__(self) -> None:
        self._trace_id = self._span_id = 0

    def give(self, trace_id: int, span_id: int) -> None:
        """Take these ids for the next span, which has none above it."""
        self._trace_id, self._span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        """Return the given id once, else a random one."""
        given, self._trace_id = self._trace_id, 0
        return given or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the given id once, else a random one."""
        given, self._span_id = self._span_id, 0
        return given or super().generate_span_id()


def _below(parent: TraceContext | None) -> Context:
    """Make the context of a span below the parent's; without one it is the first of its trace."""
    if parent is None:
        return Context()
    state = TraceState(list(parent.state))
    above = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=_SAMPLED, trace_state=state)
    return trace.set_span_in_context(NonRecordingSpan(above), Context())


def _about_message(name: str, kind: str, queue: str) -> Attributes:
    operation = {"messaging.operation.name": name, "messaging.operation.type": kind}
    return {**_BASE, **operation, "messaging.destination.name": queue}


def _about_event(event: Event, message_id: str) -> Attributes:
    return {
        "messaging.message.id": shown(message_id),
        "messaging.message.body.size": len(event.body),
        "cellrouter.event_id": shown(event.event_id),
        "cellrouter.partition_key": shown(event.partition_key),
        "cellrouter.attempt": event.attempt,
    }
