"""PayloadStore: one suite for the fake in memory and for S3, and S3's faults over a real socket."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from router.adapters.aws.s3_payloads import S3PayloadStore, open_payload_client
from router.adapters.aws.session import AwsConfig
from router.core.errors import PayloadMissingError, PayloadTooLargeError, SourceDeniedError, SourceUnavailableError
from router.ports import PayloadStore
from tests.support.aio import run
from tests.support.memory_payloads import MemoryPayloads
from tests.support.tcp_server import serving

MIB = 1024 * 1024
OBJECTS = {
    "small": b'{"a": 1}',
    "empty": b"",
    "a b+c%2F/é/../x": b"odd name",
    "large": bytes(range(256)) * (4 * MIB // 256),
}
Suite = Callable[[PayloadStore, str], Awaitable[None]]


@asynccontextmanager
async def memory(objects: Mapping[str, bytes]) -> AsyncIterator[tuple[PayloadStore, str]]:
    """Make the fake in memory."""
    store = MemoryPayloads()
    store.objects = {("payloads", key): stored for key, stored in objects.items()}
    yield store, "payloads"


@asynccontextmanager
async def s3(endpoint: str, objects: Mapping[str, bytes]) -> AsyncIterator[tuple[PayloadStore, str]]:
    """Make a store on a real server, with a bucket of its own."""
    async with AsyncExitStack() as stack:
        client = await open_payload_client(stack, AwsConfig("us-east-1", endpoint))
        bucket = f"payloads-{uuid.uuid4().hex[:8]}"
        await client.create_bucket(Bucket=bucket)
        for key, stored in objects.items():
            await client.put_object(Bucket=bucket, Key=key, Body=stored)
        yield S3PayloadStore(client), bucket


@pytest.fixture
def on_store(aws_endpoint: str, memory_too: None) -> Callable[[Suite], None]:
    """Return a function that runs a coroutine on a bucket with OBJECTS."""

    def on(suite: Suite) -> None:
        async def story() -> None:
            async with s3(aws_endpoint, OBJECTS) if aws_endpoint else memory(OBJECTS) as (store, bucket):
                await suite(store, bucket)

        run(story())

    return on


def test_an_object_is_read_whole(on_store: Callable[[Suite], None]) -> None:
    """Every size and name works, up to exactly the limit."""

    async def suite(store: PayloadStore, bucket: str) -> None:
        for key, stored in OBJECTS.items():
            assert await store.read(bucket, key, max(len(stored), 1)) == stored
        assert await asyncio.gather(*(store.read(bucket, "large", 4 * MIB) for _ in range(5))) == [OBJECTS["large"]] * 5

    on_store(suite)


def test_an_object_over_the_limit_is_refused(on_store: Callable[[Suite], None]) -> None:
    """One byte too many is refused, and so is far too much. The next object can be read."""

    async def suite(store: PayloadStore, bucket: str) -> None:
        for key, limit in (("small", 7), ("large", 4 * MIB - 1), ("large", 1)):
            with pytest.raises(PayloadTooLargeError, match=f"{len(OBJECTS[key])} bytes, more than {limit}"):
                await store.read(bucket, key, limit)
        assert await store.read(bucket, "small", 100) == OBJECTS["small"]

    on_store(suite)


def test_a_missing_object_is_missing_for_good(on_store: Callable[[Suite], None]) -> None:
    """PayloadMissingError is final: the read is not tried again."""

    async def suite(store: PayloadStore, bucket: str) -> None:
        with pytest.raises(PayloadMissingError):
            await store.read(bucket, "nothing", 100)

    on_store(suite)


def test_a_missing_bucket_counts_as_an_unavailable_source(aws_endpoint: str) -> None:
    """The bucket comes from the configuration, so an operator will repair it."""

    async def story() -> None:
        async with s3(aws_endpoint, {}) as (store, bucket):
            with pytest.raises(SourceUnavailableError, match="NoSuchBucket"):
                await store.read(f"{bucket}-none", "k", 100)

    run(story())


def answer(status: str, code: str = "") -> bytes:
    """Make an error answer of S3 as HTTP bytes."""
    body = f"<Error><Code>{code}</Code><Message>said S3</Message></Error>".encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("reply", "outcome", "reason"),
    [
        (answer("404 Not Found", "NoSuchKey"), PayloadMissingError, "NoSuchKey"),
        (answer("400 Bad Request", "KeyTooLongError"), PayloadMissingError, "KeyTooLong"),
        (answer("404 Not Found", "NoSuchBucket"), SourceUnavailableError, "s3://b/k: .*NoSuchBucket"),
        (answer("403 Forbidden", "AccessDenied"), SourceDeniedError, "s3://b/k: .*AccessDenied"),
        (answer("400 Bad Request", "KMS.DisabledException"), SourceDeniedError, r"KMS\.Disabled"),
        (answer("400 Bad Request", "KMS.ThrottlingException"), SourceUnavailableError, r"KMS\.Throttling"),
        (answer("403 Forbidden", "InvalidObjectState"), SourceUnavailableError, "InvalidObjectState"),
        (answer("400 Bad Request", "ExpiredToken"), SourceDeniedError, "ExpiredToken"),
        (answer("503 Slow Down", "SlowDown"), SourceUnavailableError, "SlowDown"),
        (answer("500 Internal Server Error", "InternalError"), SourceUnavailableError, "InternalError"),
        (answer("429 Too Many Requests"), SourceUnavailableError, "s3://b/k"),
        (b"garbage\r\n\r\n", SourceUnavailableError, "s3://b/k"),
        (b"", SourceUnavailableError, "s3://b/k"),
        (HEAD + b"Content-Length: 50\r\n\r\n{", SourceUnavailableError, "s3://b/k"),
        (HEAD + b"Content-Length: 5000000000\r\n\r\n{", PayloadTooLargeError, "5000000000 bytes, more than 100"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + b"x" * 1024, PayloadTooLargeError, "more than 100"),
    ],
)
def test_every_faulty_answer_raises_the_right_error(reply: bytes, outcome: type[Exception], reason: str) -> None:
    """MiniStack never gives these answers. An object over the limit is refused before all of it has been sent."""
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        if outcome is PayloadTooLargeError:
            await reader.read()  # until the reader has hung up without the rest
        served.set()

    async def story() -> None:
        async with AsyncExitStack() as stack:
            endpoint = f"http://127.0.0.1:{await stack.enter_async_context(serving(serve))}"
            store = S3PayloadStore(await open_payload_client(stack, AwsConfig("us-east-1", endpoint)))
            with pytest.raises(outcome, match=reason) as caught:
                await store.read("b", "k", 100)
            assert type(caught.value) is outcome
            assert outcome is PayloadTooLargeError or caught.value.__cause__ is not None
            await served.wait()

    run(story(), 20)


def test_a_connection_that_the_server_closes_is_no_failed_read() -> None:
    """The end of an idle connection and a new read cross: the read is made again on another connection."""
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = len(set(asked)) + 1
        for number in range(2):
            await reader.readuntil(b"\r\n\r\n")
            asked.append(connection)
            if not number:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async def story() -> None:
        async with AsyncExitStack() as stack:
            endpoint = f"http://127.0.0.1:{await stack.enter_async_context(serving(serve))}"
            store = S3PayloadStore(await open_payload_client(stack, AwsConfig("us-east-1", endpoint)))
            assert [await store.read("b", "k", 100) for _ in range(2)] == [b"{}", b"{}"]

    run(story(), 20)
    assert asked == [1, 1, 2]
