"""One event's trace, from its producer through a real router and a real worker to a collector."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from cell_worker.contract.tracing.context import traceparent_of
from cell_worker.contract.tracing.exporting import Tracing
from router.core.models import Draft
from tests.support.aio import run, until
from tests.support.otlp import SentSpan, collector
from tests.support.servers import free_port
from tests.support.system import System
from tests.support.tcp_server import serving

pytestmark = pytest.mark.one_kind  # whole systems, and nothing here is about their servers

PRODUCER = 0x00F067AA0BA902B7
CHUNK = b"10000\r\n%s\r\n" % (b"x" * 65536)
TRACES = [0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x5BF92F3577B34DA6A3CE929D0E0E4736]


def test_a_collector_sees_the_whole_way_of_an_event(
    on_system: Callable[..., System], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both tries of one whose handler fails once, with the handler's own spans; and nothing of one not sampled."""
    port = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")

    def order(name: str, trace_id: int, sampled: int) -> Draft:
        body = {"event_id": name, "tenant": "acme", "do": "fail", "once": str(tmp_path / name)}
        traceparent = f"{traceparent_of(trace_id, PRODUCER)[:-1]}{sampled}"
        return Draft(json.dumps(body), {"traceparent": traceparent})

    async def story(system: System) -> None:
        router = await system.router()
        async with collector(port) as found:
            await system.queue(system.source).send([order("seen", TRACES[0], 1), order("unseen", TRACES[1], 0)])
            await system.done({"seen", "unseen"})

            async def whole() -> bool:
                return len(found.of(f"{TRACES[0]:032x}")) >= 13

            try:
                await until(whole, "both tries are exported")
            except AssertionError as error:
                raise AssertionError(f"{found.spans}\n{system.logs()}") from error
            is_right(system, found.of(f"{TRACES[0]:032x}"))
            assert found.of(f"{TRACES[1]:032x}") == []
            assert router.metric("cellrouter_spans_total", outcome="exported") == 9
            assert router.metric("cellrouter_spans_total", outcome="dropped") == 0

    on_system(story, tracing_on="true", cells_handler="tests.support.traced_deeds:handle", cells=1)


def is_right(system: System, spans: list[SentSpan]) -> None:
    """See that the spans make up one tree, and come in the order in which things happen."""
    hold, source = system.hold("cell-0000"), system.source
    of_router, of_cell = "cellrouter-router", "cellrouter-cell"
    tried = [(of_router, "cell cell-0000"), (of_cell, "handler cell-0000"), (of_cell, "workload")]
    assert [(span.service, span.name) for span in spans] == [
        *((of_router, f"receive {source}"), (of_router, "lane cell-0000"), *tried),
        *((of_router, f"send {hold}"), (of_router, f"ack {source}")),
        *((of_router, f"receive {hold}"), (of_router, "lane cell-0000"), *tried, (of_router, f"ack {hold}")),
    ]
    name_of = {span.span_id: span.name.partition(" ")[0] for span in spans} | {f"{PRODUCER:016x}": "producer"}
    above = {"receive": "producer", "handler": "cell", "workload": "handler"}
    for span in spans:
        name = name_of[span.span_id]
        assert name_of[span.parent_id] == above.get(name, "receive"), span
        assert span.began_ns <= span.ended_ns


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n%s\r\n" % (b"x" * 65536) * 9,
            "exported",
        ),
        (b"HTTP/1.1 307 Go there\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "failed"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "failed"),
        (b"HTTP/9 nonsense\r\n\r\n", "failed"),
        (b"", "failed"),
    ],
    ids=["endless", "redirect", "refusal", "nonsense", "nothing"],
)
def test_no_answer_of_a_collector_does_harm(answer: bytes, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read as far as it may be long, leads nowhere else, and a span counts as what became of it."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async def story() -> dict[str, int]:
        async with serving(answered) as port:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # so soon it is tried again no more
            tracing = Tracing("cell", {}, ALWAYS_ON)
            tracing.tracer.start_span("a span").end()
            await asyncio.to_thread(tracing.provider.force_flush)
            counts = tracing.counts()
            await tracing.close()
        return counts

    assert run(story()) == {"exported": 0, "failed": 0, "dropped": 0} | {outcome: 1}
