"""Exports spans by OTLP over HTTP, beside the work: for routers and cells alike, as OpenTelemetry's variables say.

Only who traces imports this module: it needs the packages of the extra `tracing`.

Guarantees: a span that ends is put in a queue of bounded length, and nobody ever waits for the collector. When the
queue is full, a span is dropped and counted. A process that ends waits CLOSE_S for what is still in it, and no longer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler

from cell_worker.contract.texts import own_version

CLOSE_S: Final = 1.5
QUEUE_VARIABLE: Final = "OTEL_BSP_MAX_QUEUE_SIZE"
DEFAULT_QUEUE: Final = 2048
MAX_ANSWER_BYTES: Final = 64 * 1024
"""What is read of a collector's answer: it says which spans were refused, and nothing depends on it."""
_A_COUNT: Final = re.compile("[1-9][0-9]{0,5}")


class Tracing:
    """The spans of one process, from their making to the collector."""

    def __init__(
        self,
        service: str,
        about: Mapping[str, str | int],
        sampler: Sampler,
        ids: IdGenerator | None = None,
        exporter: SpanExporter | None = None,
    ) -> None:
        # What it logs, it logs for each batch, and in no form of ours; the exporter below says what matters, once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
        self._sent = CountingExporter(exporter or OTLPSpanExporter(session=BoundedSession()))
        self._waiting = BoundedSpans(self._sent)
        version = {"service.version": own_version()}
        resource = Resource.create({"service.name": service, **version, **about})  # OTEL_RESOURCE_ATTRIBUTES count too
        named = os.environ.get("OTEL_SERVICE_NAME")
        resource = resource.merge(Resource({"service.name": named})) if named else resource
        self.provider = TracerProvider(sampler=sampler, resource=resource, id_generator=ids, shutdown_on_exit=False)
        self.provider.add_span_processor(self._waiting)
        self.tracer = self.provider.get_tracer("cellrouter", own_version())

    def counts(self) -> dict[str, int]:
        """Count the spans so far by what became of them; those that wait are not among them."""
        return {"exported": self._sent.exported, "failed": self._sent.failed, "dropped": self._waiting.dropped}

    async def close(self) -> None:
        """Export what waits, for CLOSE_S at most; the rest is lost."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            self.provider.shutdown()
            with suppress(RuntimeError):  # the loop has ended, since nobody waits any more
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=end, name="last spans", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await done.wait()


class BoundedSpans(BatchSpanProcessor):
    """Has a thread export spans in batches, and counts those for which there is no room."""

    def __init__(self, exporter: CountingExporter) -> None:
        given = os.environ.get(QUEUE_VARIABLE, "")
        self._room = int(given) if _A_COUNT.fullmatch(given) else DEFAULT_QUEUE
        super().__init__(exporter, max_queue_size=self._room, max_export_batch_size=min(512, self._room))
        self._exporter = exporter
        self._taken = 0
        self.dropped = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span that has ended, or drop it when the queue is full."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._taken - self._exporter.begun >= self._room:
            self.dropped += 1  # by us: the queue itself would drop the oldest one, and count nothing
            return
        self._taken += 1
        super().on_end(span)


class BoundedSession(requests.Session):
    """Calls the collector, and believes it little: follows no redirect, and reads no long answer."""

    def send(self, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        """Send a request as every session does. Raises RequestException for an answer that leads elsewhere."""
        answer = super().send(request, **{**more, "stream": True, "allow_redirects": False})
        with answer:
            answer.raw.read(MAX_ANSWER_BYTES)
        if answer.is_redirect:
            raise requests.TooManyRedirects("the collector sends elsewhere", response=answer)
        return answer


class CountingExporter(SpanExporter):
    """An exporter that counts what becomes of spans, and says in the log when none can be exported, and when again."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._log = structlog.get_logger("tracing")
        self._failing = False
        self.begun = 0  # spans that are out of the queue
        self.exported = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch. Runs on the exporter's own thread."""
        self.begun += len(spans)
        try:
            result = self._inner.export(spans)
        except Exception:  # noqa: BLE001 - whatever a collector answers, the next batch may get through
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        else:
            self.failed += len(spans)
        self._tell(failing=result is not SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """Close the connections to the collector."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait until what the exporter itself holds back is sent."""
        return self._inner.force_flush(timeout_millis)

    def _tell(self, *, failing: bool) -> None:
        if failing != self._failing:
            self._failing = failing
            if failing:
                self._log.warning("spans can't be exported; is the collector at OTEL_EXPORTER_OTLP_ENDPOINT there?")
            else:
                self._log.info("spans are exported again")
