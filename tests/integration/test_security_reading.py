"""How large log objects are read: by the evaluating process, with nothing but a request that the worker has signed."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import pytest

from cell_worker.api import Event, RejectEvent, RetryEvent
from cell_worker.handlers.security import SecurityMonitor
from cell_worker.handlers.security.evaluation import pool
from cell_worker.handlers.security.evaluation.pool import Content, NotReadError
from cell_worker.handlers.security.evaluation.wire import SignedGet
from cell_worker.handlers.security.handler import LARGE_BYTES, SMALL_BYTES
from cell_worker.handlers.security.settings import MIB
from tests.support.aio import run
from tests.support.certificates import Authority
from tests.support.evaluators import PATIENCE_S, SOURCE, evaluating, shipped
from tests.support.security_world import a_cell, notification, record
from tests.support.tcp_server import serving

Answer = Callable[[str], bytes]
"""What S3 answers to a request, of which it gets the head."""


def ok(body: bytes) -> bytes:
    """S3's answer that has an object."""
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def error(status: str, code: str, more: str = "") -> bytes:
    """S3's answer that has none."""
    body = f"<Error><Code>{code}</Code><Message>said S3</Message>{more}</Error>".encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def log(size: int) -> bytes:
    """A log with one finding, of so many bytes or a few more."""
    return json.dumps({"Records": [record("iam", "CreateUser", {"userName": "u"})], "pad": "x" * size}).encode()


@dataclass
class S3:
    """A server that answers as it is told, and the heads of what it was asked."""

    answer: Answer
    port: int = 0
    asked: list[str] = field(default_factory=list)


@asynccontextmanager
async def s3(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[S3]:
    """Serve these answers."""
    made = S3(answer)

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        made.asked.append(head)
        writer.write(made.answer(head))

    async with serving(reply, ssl=tls) as made.port:
        yield made


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what an operator sets, and be patient: on a busy machine little CPU is left for large logs."""
    monkeypatch.setattr(pool, "WALL_S", PATIENCE_S)
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret-secret", "DEFAULT_REGION": "here"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@asynccontextmanager
async def monitor_of(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SecurityMonitor, S3]]:
    """Make a monitor whose S3 answers just that."""
    async with s3(answer) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        monitor = SecurityMonitor()
        await monitor.start(a_cell())
        try:
            yield monitor, server
        finally:
            await monitor.stop()


def event(size: int, key: str = "a") -> Event:
    """An event of an object, with the size that the notification tells."""
    return Event("e", "k", 1, json.dumps(notification("logs", key, size=size)).encode())


@pytest.mark.parametrize(
    ("told", "stored", "requests"),
    [(100, 100, 1), (SMALL_BYTES + 1, SMALL_BYTES + 1, 1), (MIB, 2 * MIB, 1), (100, 2 * MIB, 2)],
    ids=["small", "more than small", "large", "larger than was told"],
)
def test_an_object_is_read_once(told: int, stored: int, requests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a size that was told wrong costs a second request, of which the worker reads no more than the head."""

    async def story() -> None:
        async with monitor_of(lambda _: ok(log(stored)), monkeypatch) as (monitor, server):
            assert (await monitor(event(told), a_cell()))["findings"] == 1
            assert len(server.asked) == requests

    run(story(), limit_s=PATIENCE_S)


def test_no_large_object_passes_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker sends no request of its own, nor any for a key whose logs are slow, however small the next one is."""

    async def story() -> None:
        async with monitor_of(lambda _: ok(log(LARGE_BYTES)), monkeypatch) as (monitor, server):
            monkeypatch.setattr(monitor._s3, "fetch", None)
            await monitor(event(LARGE_BYTES), a_cell())
            monitor._evaluators._charge("k", 1000)
            server.answer = lambda _: ok(log(10))
            await monitor(event(10), a_cell())
            assert len(server.asked) == 2

    run(story(), limit_s=PATIENCE_S)


REFUSALS = [
    (error("503 Slow Down", "SlowDown"), RetryEvent, "reading s3://logs/a: .*SlowDown"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{", RetryEvent, "reading s3://logs/a: "),
    (b"garbage\r\n\r\n", RetryEvent, "reading s3://logs/a: "),
    (error("404 Not Found", "NoSuchKey"), RejectEvent, "s3://logs/a can't be read: NoSuchKey: said S3"),
]


@pytest.mark.parametrize(("answer", "outcome", "reason"), REFUSALS)
def test_faults_are_told_apart_for_large_objects_too(
    answer: bytes, outcome: type[Exception], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words are the same as for a small object: the worker asks S3 itself what the matter is."""

    async def story() -> None:
        async with monitor_of(lambda _: answer, monkeypatch) as (monitor, _):
            with pytest.raises(outcome, match=reason):
                await monitor(event(MIB), a_cell())

    run(story(), limit_s=PATIENCE_S)


def test_an_object_that_only_the_worker_can_read_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when S3 fails every second time. The event comes again, and nothing counts against it."""

    async def story() -> None:
        def answer(_: str) -> bytes:
            return error("503 Slow Down", "SlowDown") if len(server.asked) % 2 else ok(log(MIB))

        async with monitor_of(answer, monkeypatch) as (monitor, server):
            with pytest.raises(RetryEvent, match="in an evaluating process: S3 answered 503"):
                await monitor(event(MIB), a_cell())
            assert len(server.asked) == 4

    run(story(), limit_s=PATIENCE_S)


def test_a_bucket_of_another_region_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's client follows S3 there, and later requests are signed for that region at once."""

    async def story() -> None:
        def answer(head: str) -> bytes:
            if "/there/s3/aws4_request" in head:
                return ok(log(MIB))
            return error("400 Bad Request", "AuthorizationHeaderMalformed", "<Region>there</Region>")

        async with monitor_of(answer, monkeypatch) as (monitor, server):
            await monitor(event(MIB), a_cell())
            first = len(server.asked)
            await monitor(event(MIB), a_cell())
            assert (first, len(server.asked)) == (4, 5)

    run(story(), limit_s=PATIENCE_S)


@pytest.mark.parametrize("told", [True, False], ids=["content-length", "chunked"])
def test_an_object_is_not_read_beyond_what_is_allowed(told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is in the head or, where S3 doesn't tell it, found out while the object arrives."""
    monkeypatch.setenv("CELL_SECURITY_MAX_OBJECT_BYTES", str(MIB))
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunk = f"{2 * MIB:x}\r\n".encode() + b" " * 2 * MIB  # and no end

    async def story() -> None:
        answer = ok(b" " * (MIB + 1)) if told else head.encode() + chunk
        async with monitor_of(lambda _: answer, monkeypatch) as (monitor, server):
            with pytest.raises(RejectEvent, match=f"too large: more than {MIB} bytes as stored"):
                await monitor(event(MIB), a_cell())
            assert len(server.asked) == 1

    run(story(), limit_s=PATIENCE_S)


async def _content(content: Content) -> Content:
    return content


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_leads_a_process_elsewhere(status: int) -> None:
    """Whoever answers in S3's place can't send it to AWS' metadata service."""

    async def story() -> None:
        async with s3(lambda _: ok(log(10))) as metadata:
            moved = f"HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{metadata.port}/latest/meta-data\r\n"
            answer = f"{moved}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
            async with s3(lambda _: answer) as server:
                await _refused(SignedGet(f"http://127.0.0.1:{server.port}/logs/a", {}), f"S3 answered {status}")
                assert (len(server.asked), metadata.asked) == (1, [])

    run(story(), limit_s=PATIENCE_S)


async def _refused(request: SignedGet, why: str) -> None:
    evaluators = evaluating()
    try:
        with pytest.raises(NotReadError, match=why):
            await evaluators.evaluate("k", SOURCE, partial(_content, request), MIB, shipped())
    finally:
        await evaluators.close()


def test_a_process_trusts_what_the_worker_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose authority the operator has not named is not believed."""
    ours = Authority(tmp_path)
    cert, key = ours.issue("127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)

    async def story() -> None:
        async with s3(lambda _: ok(log(MIB)), tls) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{server.port}")
            await _refused(SignedGet(f"https://127.0.0.1:{server.port}/logs/a", {}), "CERTIFICATE_VERIFY_FAILED")
            assert server.asked == []
            monkeypatch.setenv("AWS_CA_BUNDLE", str(ours.cert))
            monitor = SecurityMonitor()
            await monitor.start(a_cell())
            try:
                assert (await monitor(event(MIB), a_cell()))["findings"] == 1
            finally:
                await monitor.stop()
            assert len(server.asked) == 1

    run(story(), limit_s=PATIENCE_S)


def test_a_process_goes_through_the_workers_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It proves itself to the proxy as the worker does. An address that needs none is asked directly."""

    async def story() -> None:
        async with s3(lambda _: ok(log(MIB))) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://me:hush@127.0.0.1:{proxy.port}")
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            async with monitor_of(lambda _: ok(log(MIB)), monkeypatch) as (monitor, server):
                await monitor(event(MIB), a_cell())
                assert (len(server.asked), len(proxy.asked)) == (1, 0)
            monkeypatch.setenv("NO_PROXY", "")
            async with monitor_of(lambda _: ok(log(MIB)), monkeypatch) as (monitor, server):
                await monitor(event(MIB), a_cell())
                assert (len(server.asked), len(proxy.asked)) == (0, 1)
                assert proxy.asked[0].startswith(f"GET http://127.0.0.1:{server.port}/logs/a HTTP/1.1\r\n")
                assert "Proxy-Authorization: Basic bWU6aHVzaA==" in proxy.asked[0]

    run(story(), limit_s=PATIENCE_S)


def test_a_lent_request_is_for_one_object_and_has_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes a process over can read again the object that took it over, and nothing else."""

    async def story() -> None:
        async with monitor_of(lambda _: ok(log(10)), monkeypatch) as (monitor, server):
            request = await monitor._s3.lend(SOURCE)
            assert server.asked == []
            assert request.url == f"{os.environ['AWS_ENDPOINT_URL']}/logs/a.json.gz"
            assert b"secret-secret" not in msgspec.msgpack.encode(request)
            assert "Signature=" in request.headers["Authorization"]

    run(story(), limit_s=PATIENCE_S)
