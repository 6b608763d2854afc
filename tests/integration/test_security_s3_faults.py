"""What the security handler makes of an S3 that misbehaves: answers that MiniStack never gives, over a real socket."""

from __future__ import annotations

import asyncio
import json

import pytest

from cell_worker.api import Event, RejectEvent, RetryEvent
from cell_worker.handlers.security import SecurityMonitor
from tests.integration.security_world import a_cell, notification


def error(status: str, code: str) -> bytes:
    """An S3 error as HTTP."""
    body = f"<Error><Code>{code}</Code><Message>said S3</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


HALF = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{"Records": ['


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (error("503 Slow Down", "SlowDown"), RetryEvent, "reading s3://logs/a: .*SlowDown"),
        (error("500 Internal Server Error", "InternalError"), RetryEvent, "InternalError"),
        (error("502 Bad Gateway", "Whatever"), RetryEvent, "Whatever"),
        (error("429 Too Many Requests", "Whatever"), RetryEvent, "Whatever"),
        (error("400 Bad Request", "RequestTimeout"), RetryEvent, "RequestTimeout"),
        (error("400 Bad Request", "ExpiredToken"), RetryEvent, "ExpiredToken"),
        (error("403 Forbidden", "InvalidAccessKeyId"), RetryEvent, "InvalidAccessKeyId"),
        (HALF, RetryEvent, "reading s3://logs/a: .*"),
        (b"garbage\r\n\r\n", RetryEvent, "reading s3://logs/a: .*"),
        (error("403 Forbidden", "AccessDenied"), RejectEvent, "s3://logs/a can't be read: AccessDenied: said S3"),
        (error("403 Forbidden", "InvalidObjectState"), RejectEvent, "InvalidObjectState"),
        (error("405 Method Not Allowed", "MethodNotAllowed"), RejectEvent, "MethodNotAllowed"),
    ],
)
def test_faults_are_retried_and_refusals_rejected(
    answer: bytes, outcome: type[Exception], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overload, broken transfers and our own credentials are no fault of the event; a refusal of the object is."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            monitor = SecurityMonitor()
            s3, _ = await monitor.start(a_cell())
            try:
                event = Event("e", "k", 1, json.dumps(notification("logs", "a")).encode())
                with pytest.raises(outcome, match=reason):
                    await monitor(event, a_cell())
                if outcome is RejectEvent:
                    assert await s3.check() == "reads log objects"
            finally:
                await monitor.stop()

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    asyncio.run(scenario())
