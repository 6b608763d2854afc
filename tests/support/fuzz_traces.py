"""What producers say of traces, as it comes."""

from __future__ import annotations

from cell_worker.contract.tracing.context import (
    MAX_TEXT_CHARS,
    TRACEPARENT,
    TRACESTATE,
    TraceContext,
    context_in,
    read_tracestate,
)


def trace_context(raw: bytes) -> TraceContext | None:
    """Read it in each of the three forms; what is read is within bounds."""
    text = raw.decode("utf-8", "replace")
    for given in (text, text.strip(), f"00-{text}", f"Root=1-{text};Parent={text}"):
        found = context_in({TRACEPARENT: given, TRACESTATE: text}, given)
        assert found is None or (0 < found.trace_id < 2**128 and 0 <= found.span_id < 2**64)
    assert len(str(read_tracestate(text))) <= 4 * MAX_TEXT_CHARS
    return context_in({TRACEPARENT: f"00-{1:032x}-{1:016x}-01", TRACESTATE: text}, "")
