"""How the security handler reacts to a faulty S3: answers that MiniStack never gives, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from cell_worker.api import Component, Event, RejectEvent, RetryEvent
from cell_worker.handlers.security import SecurityMonitor, canary
from cell_worker.handlers.security.aws import CredentialsDenied, ObjectDenied
from cell_worker.handlers.security.evaluation.analysis import analyse
from cell_worker.handlers.security.logs import LogObject, LogRecords
from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.settings import SHIPPED_RULES
from cell_worker.handlers.security.sigma import Match, RuleSet, load_rules
from tests.support.security_world import a_cell, notification
from tests.support.tcp_server import serving


def error(status: str, code: str) -> bytes:
    """An error answer of S3 as HTTP bytes."""
    body = f"<Error><Code>{code}</Code><Message>said S3</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


HALF = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{"Records": ['


@asynccontextmanager
async def monitor_of(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[SecurityMonitor, Component, list[str]]]:
    """Make a monitor whose S3 answers just that; yields it, its S3 component, and the first lines of S3's requests."""
    asked: list[str] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode())
        writer.write(answer)

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    async with serving(reply) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monitor = SecurityMonitor()
        s3, _ = await monitor.start(a_cell())
        try:
            yield monitor, s3, asked
        finally:
            await monitor.stop()


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (error("503 Slow Down", "SlowDown"), RetryEvent, "reading s3://logs/a: .*SlowDown"),
        (error("500 Internal Server Error", "InternalError"), RetryEvent, "InternalError"),
        (error("502 Bad Gateway", "Whatever"), RetryEvent, "Whatever"),
        (error("429 Too Many Requests", "Whatever"), RetryEvent, "Whatever"),
        (error("400 Bad Request", "RequestTimeout"), RetryEvent, "RequestTimeout"),
        (error("400 Bad Request", "ExpiredToken"), CredentialsDenied, "ExpiredToken"),
        (error("403 Forbidden", "InvalidAccessKeyId"), CredentialsDenied, "InvalidAccessKeyId"),
        (error("400 Bad Request", "KMS.ThrottlingException"), RetryEvent, "KMS.ThrottlingException"),
        (error("400 Bad Request", "KMS.DisabledException"), ObjectDenied, "KMS.DisabledException"),
        (error("501 Not Implemented", "NotImplemented"), RejectEvent, "NotImplemented"),
        (error("400 Bad Request", "AuthorizationHeaderMalformed"), RejectEvent, "AuthorizationHeaderMalformed"),
        (HALF, RetryEvent, "reading s3://logs/a: .*"),
        (b"garbage\r\n\r\n", RetryEvent, "reading s3://logs/a: .*"),
        (error("403 Forbidden", "AccessDenied"), ObjectDenied, "s3://logs/a can't be read: AccessDenied: said S3"),
        (error("403 Forbidden", "InvalidObjectState"), RejectEvent, "InvalidObjectState"),
        (error("405 Method Not Allowed", "MethodNotAllowed"), RejectEvent, "MethodNotAllowed"),
    ],
)
def test_faults_are_retried_and_refusals_rejected(
    answer: bytes, outcome: type[Exception], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overload, broken transfers, faulty credentials and policies are no fault of the event. That it is gone, is."""

    async def scenario() -> None:
        async with monitor_of(answer, monkeypatch) as (monitor, s3, _):
            event = Event("e", "k", 1, json.dumps(notification("logs", "a")).encode())
            with pytest.raises(outcome, match=reason):
                await monitor(event, a_cell())
            if outcome in (RejectEvent, ObjectDenied):
                assert await s3.check() == "reads log objects"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        error("404 Not Found", "NoSuchKey"),
        error("404 Not Found", "NoSuchBucket"),
        error("403 Forbidden", "AccessDenied"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    ],
    ids=["no object", "no bucket", "denied", "there"],
)
def test_a_canary_asks_s3_and_takes_any_answer(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes one read in the cell's own bucket, with the client that reads logs, and emits nothing."""

    async def scenario() -> None:
        cell = replace(a_cell(), resources="cellrouter-live-cell-0007")
        async with monitor_of(answer, monkeypatch) as (monitor, s3, asked):
            await monitor.canary(cell)
            assert asked == ["GET /cellrouter-live-cell-0007/cellrouter-canary HTTP/1.1"]
            assert await s3.check() == "reads log objects"
        assert cell.emitted == []

    asyncio.run(scenario())


def test_a_canary_fails_when_s3_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The component shows the failure, as it does after a log that could not be read."""

    async def scenario() -> None:
        async with monitor_of(error("503 Slow Down", "SlowDown"), monkeypatch) as (monitor, s3, _):
            with pytest.raises(RetryEvent, match="SlowDown"):
                await monitor.canary(replace(a_cell(), resources="bucket"))
            with pytest.raises(RuntimeError, match="SlowDown"):
                await s3.check()

    asyncio.run(scenario())


def test_a_canary_goes_through_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipped rule matches the canary's record, so matching is part of its cost."""
    rules = load_rules(SHIPPED_RULES, remedies=REMEDIES.keys())
    analysis = analyse([canary.LOG], LogObject("b", "k", None), 10_000, rules)
    titles = {rule.rule_id: rule.title for rule in rules.all()}
    assert (analysis.records, [titles[each.rule_id] for each in analysis.sightings]) == (1, ["IAM user created"])
    seen: list[int] = []

    def search(_: RuleSet, found: LogRecords) -> Iterator[Match]:
        seen.append(len(found))
        return iter(())

    monkeypatch.setattr(RuleSet, "search", search)

    async def scenario() -> None:
        async with monitor_of(error("404 Not Found", "NoSuchKey"), monkeypatch) as (monitor, _, _):
            await monitor.canary(replace(a_cell(), resources="bucket"))

    asyncio.run(scenario())
    assert seen == [1]
