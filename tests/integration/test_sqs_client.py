"""SqsClient on MiniStack, and on servers that misbehave as AWS never should."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import formatdate
from typing import Any, Final

import pytest

from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs_client import SqsClient, SqsError, open_sqs_client
from tests.support.aio import run
from tests.support.fake_clock import FakeClock
from tests.support.http_answers import Answer, http, server
from tests.support.no_credentials import without_keys
from tests.support.servers import free_port
from tests.support.tcp_server import serving

LEAN: Final = [True]
"""Whether the lean HTTP client is used, in its one place."""


@pytest.fixture(autouse=True, params=[True, False], ids=["lean", "aiohttp"])
def made_by(request: pytest.FixtureRequest) -> None:
    """Use each HTTP client in turn."""
    LEAN[0] = request.param


@asynccontextmanager
async def client(endpoint: str, *, read_timeout_s: float = 20, **options: Any) -> AsyncIterator[SqsClient]:
    """Open a client of the endpoint."""
    async with AsyncExitStack() as stack:
        config = AwsConfig("us-east-1", endpoint, lean_http=LEAN[0])
        yield await open_sqs_client(stack, config, connections=4, read_timeout_s=read_timeout_s, **options)


@asynccontextmanager
async def queue(endpoint: str) -> AsyncIterator[tuple[SqsClient, str]]:
    """Open a client, and make a queue; yields both, the queue by its URL."""
    async with AsyncExitStack() as stack:
        maker = await open_client(stack, AwsConfig("us-east-1", endpoint), "sqs")
        url = (await maker.create_queue(QueueName=f"client-{uuid.uuid4().hex[:8]}"))["QueueUrl"]
        yield await stack.enter_async_context(client(endpoint)), url


async def silence(_: bytes) -> AsyncIterator[bytes]:
    """Send nothing for a long time."""
    await asyncio.sleep(60)  # noqa: TID251 - the server hangs
    yield b""


async def trickle(_: bytes) -> AsyncIterator[bytes]:
    """Send a byte now and then."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    while True:
        yield b" "
        await asyncio.sleep(0.05)  # noqa: TID251 - the server dawdles


def refusal(answer: Answer, **options: Any) -> SqsError:
    """Return what a call gets from such a server."""

    async def story() -> SqsError:
        async with server(answer) as endpoint, client(endpoint, **options) as sqs:
            with pytest.raises(SqsError) as caught:
                await sqs.call("ReceiveMessage", QueueUrl="q")
            return caught.value

    return run(story())


def test_a_message_from_send_to_delete(aws_endpoint: str) -> None:
    """Body and attributes come as they were sent, and entries that fail are named."""

    async def story() -> None:
        async with queue(aws_endpoint) as (sqs, url):
            attributes = {"partition_key": {"DataType": "String", "StringValue": "k é"}}
            entry = {"Id": "0", "MessageBody": 'é€𝄞 "\\ \n', "MessageAttributes": attributes}
            sent = await sqs.call("SendMessageBatch", QueueUrl=url, Entries=[entry])
            assert [found["Id"] for found in sent["Successful"]] == ["0"]
            received = await sqs.call(
                "ReceiveMessage",
                QueueUrl=url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=2,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            )
            (message,) = received["Messages"]
            assert message["Body"] == entry["MessageBody"]
            assert message["MessageAttributes"] == attributes
            assert message["Attributes"]["ApproximateReceiveCount"] == "1"
            entries = [{"Id": "0", "ReceiptHandle": message["ReceiptHandle"]}, {"Id": "1", "ReceiptHandle": "no"}]
            answer = await sqs.call("DeleteMessageBatch", QueueUrl=url, Entries=entries)
            assert [found["Id"] for found in answer["Successful"]] == ["0"]
            assert [found["Id"] for found in answer["Failed"]] == ["1"]

    run(story())


def test_a_visibility_of_zero_makes_a_message_come_again(aws_endpoint: str) -> None:
    """Zero seconds make a message come again."""

    async def story() -> None:
        async with queue(aws_endpoint) as (sqs, url):
            await sqs.call("SendMessage", QueueUrl=url, MessageBody="{}")
            (first,) = (await sqs.call("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=2))["Messages"]
            assert not (await sqs.call("ReceiveMessage", QueueUrl=url)).get("Messages")
            entry = {"Id": "0", "ReceiptHandle": first["ReceiptHandle"], "VisibilityTimeout": 0}
            await sqs.call("ChangeMessageVisibilityBatch", QueueUrl=url, Entries=[entry])
            (second,) = (await sqs.call("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=2))["Messages"]
            assert second["MessageId"] == first["MessageId"]

    run(story())


@pytest.mark.parametrize("body", ["x" * 1_048_000, "é" * 500_000, '"' * 700_000], ids=["ascii", "two bytes", "escaped"])
def test_large_bodies(aws_endpoint: str, body: str) -> None:
    """They are as large as SQS allows, and even larger when they are encoded for the wire."""

    async def story() -> None:
        async with queue(aws_endpoint) as (sqs, url):
            await sqs.call("SendMessage", QueueUrl=url, MessageBody=body)
            (message,) = (await sqs.call("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=2))["Messages"]
            assert message["Body"] == body

    run(story())


def test_the_host_of_a_queues_url_does_not_matter(aws_endpoint: str) -> None:
    """Requests go to the client's endpoint, as botocore's do."""

    async def story() -> None:
        async with queue(aws_endpoint) as (sqs, url):
            elsewhere = "https://sqs.us-east-1.amazonaws.com/" + url.split("/", 3)[3]
            await sqs.call("SendMessage", QueueUrl=elsewhere, MessageBody="{}")
            assert len((await sqs.call("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=2))["Messages"]) == 1

    run(story())


def test_an_unknown_queue(aws_endpoint: str) -> None:
    """The error's code is the one that botocore gives."""

    async def story() -> None:
        async with client(aws_endpoint) as sqs:
            with pytest.raises(SqsError) as caught:
                await sqs.call("GetQueueUrl", QueueName="no-such-queue")
            assert caught.value.code == "AWS.SimpleQueueService.NonExistentQueue"
            assert caught.value.status == 400

    run(story())


def test_the_endpoint_may_come_from_the_environment(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_ENDPOINT_URL_SQS names the endpoint, as for every AWS tool."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", aws_endpoint)

    async def story() -> None:
        async with AsyncExitStack() as stack:
            sqs = await open_sqs_client(stack, AwsConfig("us-east-1"), connections=1, read_timeout_s=5)
            assert isinstance(await sqs.call("ListQueues"), dict)

    run(story())


def test_the_endpoint_of_a_region() -> None:
    """The endpoint is the one that AWS has in that region; nothing is sent."""

    async def story() -> str:
        async with AsyncExitStack() as stack:
            sqs = await open_sqs_client(stack, AwsConfig("eu-west-1"), connections=1, read_timeout_s=5)
            return sqs.endpoint_url

    assert run(story()) == "https://sqs.eu-west-1.amazonaws.com/"


def test_a_dead_endpoint() -> None:
    """Where nothing listens, the error has no code and no status, but a cause."""

    async def story() -> None:
        async with client(f"http://127.0.0.1:{free_port()}") as sqs:
            with pytest.raises(SqsError, match="Cannot connect") as caught:
                await sqs.call("ReceiveMessage", QueueUrl="q")
            assert (caught.value.code, caught.value.status) == ("", 0)
            assert isinstance(caught.value.__cause__, OSError)

    run(story())


def test_a_closed_client() -> None:
    """A call fails like one whose connection broke: calls may still be in progress at the end."""

    async def story() -> None:
        async with client("http://127.0.0.1:1") as sqs:
            pass
        with pytest.raises(SqsError, match="closed"):
            await sqs.call("ReceiveMessage", QueueUrl="q")

    run(story())


@pytest.mark.parametrize("answer", [silence, trickle])
def test_a_slow_server(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    """The limit is for the whole call, not for the time between two bytes."""
    monkeypatch.setattr("router.adapters.aws.sqs_client.CONNECT_TIMEOUT_S", 0.1)
    error = refusal(answer, read_timeout_s=0.3)
    assert (error.code, error.status) == ("", 0)
    assert isinstance(error.__cause__, TimeoutError)


ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"[" * (17 * 1024 * 1024)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"\x00\xff garbage \r\n\r\n", 0),
        (b"", 0),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", 0),
        (ENDLESS, 0),
        (http(200, b"<html>"), 0),
        (http(200, b"\xff\xfe"), 0),
        (http(200, b"[]"), 0),
        (http(200, b'{"a":' * 100_000), 0),
        (http(503, b"<html>Slow down</html>"), 503),
        (http(502, b'{"a":' * 100_000), 502),
        (http(500, b""), 500),
        (http(301, b"", "Location: http://127.0.0.1:1/"), 301),
    ],
    ids=range(13),
)
def test_garbage_raises_an_error_without_a_code(answer: bytes, status: int) -> None:
    """Garbage of every kind raises SqsError without a code."""
    error = refusal(lambda _: answer)
    assert (error.code, error.status) == ("", status)
    assert len(str(error)) <= 500


def test_the_error_code_of_the_header_wins() -> None:
    """The header's code counts, since botocore gives that one; without it the body's does."""
    body = {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "There is none."}
    new = refusal(lambda _: http(400, body))
    assert (new.code, new.message, new.status) == ("QueueDoesNotExist", "There is none.", 400)
    old = "AWS.SimpleQueueService.NonExistentQueue"
    assert refusal(lambda _: http(400, body, f"x-amzn-query-error: {old};Sender")).code == old
    assert refusal(lambda _: http(400, {"__type": "Plain", "Message": "m"})).code == "Plain"


def test_an_error_repeats_nothing_that_was_signed() -> None:
    """AWS's own text for a wrong signature contains all headers, the session token too."""
    text = "The request signature we calculated does not match.\n\nThe Canonical String should have been\nPOST\ntoken"
    error = refusal(lambda _: http(403, {"__type": "SignatureDoesNotMatch", "message": text}))
    assert str(error) == "SignatureDoesNotMatch: The request signature we calculated does not match."


def test_an_empty_body_is_an_empty_answer() -> None:
    """No body is an empty answer, and a null is a missing field."""

    async def story() -> None:
        for body in (b"", b"{}", b'{"Messages": null}'):
            async with server(lambda _, body=body: http(200, body)) as endpoint, client(endpoint) as sqs:  # type: ignore[misc]
                assert await sqs.call("ReceiveMessage", QueueUrl="q") == {}

    run(story())


@pytest.mark.parametrize(("ahead_s", "second"), [(3600, b"20231114T233000Z"), (-3600, b"20231114T213000Z")])
@pytest.mark.parametrize(
    "code", ["RequestTimeTooSkewed", "InvalidSignatureException", "RequestExpired", "SignatureDoesNotMatch"]
)
def test_the_servers_clock_is_learnt(code: str, ahead_s: int, second: bytes) -> None:
    """After a refusal for a wrong time, the next request has the server's time."""
    clock = FakeClock()
    right = clock.time_ms() // 1000 + ahead_s
    stamps = []

    def answer(request: bytes) -> bytes:
        stamps.append(request.split(b"X-Amz-Date: ")[1][:16])
        skewed = http(403, {"__type": f"x#{code}"}, f"Date: {formatdate(right, usegmt=True)}")
        return skewed if len(stamps) == 1 else http(200, {})

    async def story() -> None:
        async with server(answer) as endpoint, client(endpoint, clock=clock) as sqs:
            with pytest.raises(SqsError, match=code):
                await sqs.call("ReceiveMessage", QueueUrl="q")
            await sqs.call("ReceiveMessage", QueueUrl="q")

    run(story())
    assert stamps == [b"20231114T223000Z", second]


@pytest.mark.parametrize("cut", ["before the answer", "always"])
def test_a_connection_that_the_server_closes_is_no_failed_call(cut: str) -> None:
    """The end of an idle connection and a new call cross: the call is made again, once, on another connection."""
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = len(set(asked)) + 1
        for number in range(5):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(b'{"QueueUrl":"q"}'))
            asked.append(connection)
            if number or (cut == "always" and connection > 1):
                break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async def story() -> None:
        async with serving(serve) as port, client(f"http://127.0.0.1:{port}") as sqs:
            await sqs.call("ReceiveMessage", QueueUrl="q")
            if cut == "always":
                with pytest.raises(SqsError, match="ServerDisconnected"):
                    await sqs.call("ReceiveMessage", QueueUrl="q")
            else:
                await sqs.call("ReceiveMessage", QueueUrl="q")

    run(story())
    assert asked == [1, 1, 2]


def test_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client opens, as botocore's does, and its calls fail."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    without_keys(monkeypatch)
    assert "no AWS credentials" in str(refusal(lambda _: http(200, {})))
