"""A collector: takes spans by OTLP over HTTP, as any OpenTelemetry exporter sends them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class SentSpan:
    """One span as it came."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began_ns: int
    ended_ns: int


class Collector:
    """Keeps the spans that it was sent."""

    def __init__(self) -> None:
        self.spans: list[SentSpan] = []

    def of(self, trace_id: str) -> list[SentSpan]:
        """Return the spans of one trace, in the order in which they began."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.began_ns)

    async def take(self, request: web.Request) -> web.Response:
        """Take one export."""
        found = ExportTraceServiceRequest.FromString(await request.read())
        for resource in found.resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    names = about["service.name"], span.name
                    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                    times = span.start_time_unix_nano, span.end_time_unix_nano
                    self.spans.append(SentSpan(*names, *ids, *times))
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


@asynccontextmanager
async def collector(port: int) -> AsyncIterator[Collector]:
    """Run a collector on this port."""
    found, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield found
    finally:
        await runner.cleanup()
