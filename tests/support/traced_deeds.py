"""The handler `deeds` with a span of its own, made as the author of a handler makes one."""

from __future__ import annotations

from opentelemetry import trace

from cell_worker.api import Cell, Event
from tests.support import deeds

tracer = trace.get_tracer("workload")


async def handle(event: Event, cell: Cell) -> None:
    """Do what the body says, in a span."""
    with tracer.start_as_current_span("workload"):
        await deeds.handle(event, cell)
