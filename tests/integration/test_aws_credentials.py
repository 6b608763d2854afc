"""Credentials as a task, an instance or a file gives them: rotated, late, refused, and from sources that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

from cell_worker.aws import AwsClient
from cell_worker.contract.aws_session import KEPT_S, RETRY_S, CurrentCredentials
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws_errors import AWS_ERRORS
from router.core.errors import SourceDeniedError, SourceMissingError, SourceUnavailableError
from tests.support.aio import run
from tests.support.aws_callers import Aws, call, given, settled, sqs_of
from tests.support.fake_clock import FakeClock
from tests.support.http_answers import http, server
from tests.support.no_credentials import without_keys

FULL_URI: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"


def test_a_tasks_credentials_are_renewed_before_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source is asked in time and in the background: no call waits for it or goes out with ended ones."""
    clock, aws, asked = FakeClock(), Aws(), list[bytes]()

    def credentials(request: bytes) -> bytes:
        asked.append(request)
        return given(f"KEY{len(asked)}", minutes=12 if len(asked) <= 2 else 60)  # botocore renews 15 before the end

    async def story() -> None:
        async with server(credentials) as metadata, server(aws.answer) as endpoint, AsyncExitStack() as stack:
            monkeypatch.setenv(FULL_URI, f"{metadata}/v2/credentials/id")
            sqs = await sqs_of(stack, endpoint, clock)
            for _ in range(5):
                assert not await call(sqs)
                clock.now += KEPT_S
                assert not await call(sqs)
                await settled(sqs._credentials)

    without_keys(monkeypatch)
    run(story())
    assert aws.seen == ["KEY2", "KEY2", *["KEY3"] * 8]
    assert len(asked) == 3
    assert asked[0].startswith(b"GET /v2/credentials/id ")


def test_the_endpoint_gets_the_token_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As EKS and ECS Anywhere give it: the file is read anew at each renewal, since its token is rotated."""
    clock, aws, tokens = FakeClock(), Aws(), list[str]()
    file = tmp_path / "token"
    file.write_text("first")

    def credentials(request: bytes) -> bytes:
        tokens.append(request.lower().split(b"authorization: ")[1].split(b"\r\n")[0].decode())
        return given("KEY", minutes=12)

    async def story() -> None:
        async with server(credentials) as metadata, server(aws.answer) as endpoint, AsyncExitStack() as stack:
            monkeypatch.setenv(FULL_URI, metadata)
            monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(file))
            sqs = await sqs_of(stack, endpoint, clock)
            for token in ("first", "second"):
                file.write_text(token)
                clock.now += KEPT_S
                assert not await call(sqs)
                await settled(sqs._credentials)

    without_keys(monkeypatch)
    run(story())
    assert (tokens[0], tokens[-1]) == ("first", "second")


async def hung(_: bytes) -> AsyncIterator[bytes]:
    """Send a few bytes, and then nothing."""
    yield b"HTTP/1.1 200 OK\r\n"
    await asyncio.sleep(60)  # noqa: TID251 - the server hangs


BROKEN: Final = {
    "500": lambda _: http(500, {"message": "x" * 100_000}),
    "no JSON": lambda _: http(200, b"\xff\x00 garbage"),
    "a list": lambda _: http(200, []),
    "no key": lambda _: http(200, {"Expiration": "2030-01-01T00:00:00Z"}),
    "a number for a key": lambda _: given("KEY", AccessKeyId=7),
    "no end": lambda _: given("KEY", Expiration="whenever"),
    "a line break": lambda _: given("KEY", Token="t\r\nX-Evil: 1"),
    "empty": lambda _: b"",
    "hangs": hung,
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_source_is_told_once_and_tried_again(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls fail as when AWS is away, with one line in the log; when the source is well, so are they."""
    clock, aws, answers = FakeClock(), Aws(), [answer]
    monkeypatch.setattr("cell_worker.contract.aws_session.LOAD_TIMEOUT_S", 4.0)

    def newest(request: bytes) -> Any:
        return answers[-1](request)

    async def story() -> None:
        async with (
            server(newest) as metadata,
            server(aws.answer) as endpoint,
            AsyncExitStack() as stack,
        ):
            monkeypatch.setenv(FULL_URI, metadata)
            sqs = await sqs_of(stack, endpoint, clock)
            with structlog.testing.capture_logs() as log:
                for _ in range(2):
                    assert "CredentialRetrievalError" in await call(sqs)
                    clock.now += RETRY_S
                answers.append(lambda _: given("KEY"))
                assert not await call(sqs)
            assert [entry["event"] for entry in log] == [
                "AWS credentials can't be had",
                "AWS credentials can be had again",
            ]
            assert len(str(log[0])) < 1000

    without_keys(monkeypatch)
    run(story(), 120)
    assert aws.seen == ["KEY"]


def test_a_source_that_fails_later_costs_nothing_while_what_it_gave_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore would sign nothing in the last ten minutes of temporary credentials; AWS still takes them."""
    clock, aws, asked = FakeClock(), Aws(), list[bytes]()

    def credentials(request: bytes) -> bytes:
        asked.append(request)
        return given("KEY", minutes=1) if len(asked) <= 2 else http(500, b"")

    async def story() -> None:
        async with server(credentials) as metadata, server(aws.answer) as endpoint, AsyncExitStack() as stack:
            monkeypatch.setenv(FULL_URI, metadata)
            sqs = await sqs_of(stack, endpoint, clock)
            for _ in range(3):
                assert not await call(sqs)
                await settled(sqs._credentials)
                clock.now += KEPT_S

    without_keys(monkeypatch)
    run(story())
    assert aws.seen == ["KEY"] * 3
    assert len(asked) > 2


def a_file(path: Path, key: str) -> None:
    """Write a file of credentials."""
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n")


@pytest.mark.parametrize("refusal", ["", "ExpiredToken", "InvalidClientTokenId"])
def test_a_rotated_file_is_used_within_a_minute(refusal: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And within seconds when AWS takes the old credentials no more. No restart, for any client of a session."""
    clock, aws, file = FakeClock(), Aws(), tmp_path / "credentials"
    without_keys(monkeypatch)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    a_file(file, "OLD")

    async def story() -> float:
        async with server(aws.answer) as endpoint, AsyncExitStack() as stack:
            sqs = await sqs_of(stack, endpoint, clock)
            assert not await call(sqs)
            a_file(file, "NEW")
            aws.refuses = {"OLD": refusal} if refusal else {}
            rotated_at = clock.now
            while aws.seen[-1] != "NEW":
                clock.now += 1
                await call(sqs)
                await settled(sqs._credentials)
            return clock.now - rotated_at

    assert run(story()) <= (RETRY_S + 1 if refusal else 60)


def test_clients_of_botocore_sign_with_rotated_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Routers', controllers' and workers' clients alike: a refusal that one of them gets is enough."""
    aws, file = Aws(), tmp_path / "credentials"
    without_keys(monkeypatch)
    monkeypatch.setattr("cell_worker.contract.aws_session.RETRY_S", 0.0)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    a_file(file, "OLD")

    async def story() -> None:
        async with server(aws.answer) as endpoint, AsyncExitStack() as stack:
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            workers = AwsClient("sqs")
            stack.push_async_callback(workers.close)
            for client in (await open_client(stack, AwsConfig("us-east-1", endpoint), "sqs"), await workers.get()):
                a_file(file, "OLD")
                aws.refuses = {}
                await client.list_queues()
                a_file(file, "NEW")
                aws.refuses = {"OLD": "ExpiredToken"}
                with suppress(*AWS_ERRORS):
                    await client.list_queues()
                await client.list_queues()
                assert aws.seen[-3:] == ["OLD", "OLD", "NEW"]

    run(story())


def test_credentials_that_come_late_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that starts without any opens its clients all the same, and works once there are some."""
    clock, aws, file = FakeClock(), Aws(), tmp_path / "credentials"
    without_keys(monkeypatch)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    async def story() -> None:
        async with server(aws.answer) as endpoint, AsyncExitStack() as stack:
            sqs = await sqs_of(stack, endpoint, clock)
            assert "no AWS credentials" in await call(sqs)
            a_file(file, "KEY")
            clock.now += RETRY_S
            assert not await call(sqs)

    run(story())


def test_a_refused_source_is_asked_no_more_than_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that AWS refuses for good must not have every call ask the endpoint again."""
    clock, aws, asked = FakeClock(), Aws(), list[bytes]()
    aws.refuses = {"KEY": "InvalidClientTokenId"}

    def credentials(request: bytes) -> bytes:
        asked.append(request)
        return given("KEY")

    async def story() -> None:
        async with server(credentials) as metadata, server(aws.answer) as endpoint, AsyncExitStack() as stack:
            monkeypatch.setenv(FULL_URI, metadata)
            sqs = await sqs_of(stack, endpoint, clock)
            for _ in range(60):
                assert await call(sqs) == "InvalidClientTokenId"
                clock.now += 0.5

    without_keys(monkeypatch)
    run(story())
    assert len(asked) <= 1 + 30 / RETRY_S


def test_who_is_cut_off_while_waiting_spoils_nothing() -> None:
    """A call of two seconds may end before the endpoint answers: the next one finds what was asked for."""
    asked: list[bytes] = []

    async def slow(request: bytes) -> AsyncIterator[bytes]:
        asked.append(request)
        await asyncio.sleep(0.5)  # noqa: TID251 - the server is slow
        yield given("KEY")

    async def story(monkeypatch: pytest.MonkeyPatch) -> None:
        async with server(slow) as metadata:
            monkeypatch.setenv(FULL_URI, metadata)
            credentials = CurrentCredentials()
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await credentials.get_frozen_credentials()
            assert (await credentials.get_frozen_credentials()).access_key == "KEY"

    with pytest.MonkeyPatch.context() as monkeypatch:
        without_keys(monkeypatch)
        run(story(monkeypatch))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", SourceDeniedError),
        (400, "AccessDeniedException", SourceDeniedError),
        (403, "InvalidClientTokenId", SourceDeniedError),
        (403, "ExpiredToken", SourceDeniedError),
        (400, "KmsDisabled", SourceDeniedError),
        (400, "KmsAccessDenied", SourceDeniedError),
        (400, "KmsThrottled", SourceUnavailableError),
        (400, "AWS.SimpleQueueService.NonExistentQueue", SourceMissingError),
        (503, "ServiceUnavailable", SourceUnavailableError),
    ],
)
def test_a_refusal_of_us_is_told_from_other_faults(status: int, code: str, kind: type[Exception]) -> None:
    """None is an event's fault: the queue is polled again, by what watches it."""

    async def story() -> None:
        async with server(lambda _: http(status, {"__type": f"x#{code}"})) as endpoint, AsyncExitStack() as stack:
            sqs = await sqs_of(stack, endpoint, FakeClock())
            with pytest.raises(kind) as caught:
                await SqsSource("a-queue", sqs, sqs).receive(10, 0, 30)
            assert type(caught.value) is kind

    run(story())


def test_without_credentials_a_queue_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told as the source of credentials gives it."""
    without_keys(monkeypatch)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    async def story() -> None:
        async with AsyncExitStack() as stack:
            sqs = await sqs_of(stack, "http://127.0.0.1:1", FakeClock())
            with pytest.raises(SourceDeniedError, match="no AWS credentials found"):
                await SqsSource("a-queue", sqs, sqs).receive(10, 0, 30)

    run(story())
