"""Receives and deletes the messages of a queue and routes nothing: the least that a transport costs.

Arguments: the transport, the endpoint, the queue, and after how many deletes to end and print the seconds that all of
them took; 0 for never. `aiobotocore` is as it comes, `aiohttp` and `lean` are the router's own client on either, and
`raw` is a bare protocol that signs nothing and trusts its server.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec
import uvloop
from aiobotocore.session import get_session

from router.adapters.aws.session import AwsConfig
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import open_sqs_client
from router.adapters.clock import SystemClock

REGION: Final = "us-east-1"
POLLERS: Final = 4
WAIT_S: Final = 1
"""How long a poll waits; messages that come to one whose drain has ended stay hidden from whoever is measured next."""
Round = Callable[[], Awaitable[int]]
"""Receives once and deletes what came; returns how many messages."""


class RawConnection(asyncio.Protocol):
    """A connection to the queue that sends a request and returns the body of its answer, as quickly as Python can."""

    def __init__(self, host: bytes) -> None:
        self._host = host
        self._answer = b""
        self._end = 0  # of the answer, once its head has come
        self._waiting: deque[asyncio.Future[bytes]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports don't derive from it

    def ask(self, operation: bytes, body: bytes) -> asyncio.Future[bytes]:
        """Send one request of SQS' JSON protocol; its answer is what the future gets."""
        self._transport.write(
            b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Type: application/x-amz-json-1.0\r\n"
            b"X-Amz-Target: AmazonSQS.%b\r\nContent-Length: %d\r\n\r\n%b" % (self._host, operation, len(body), body)
        )
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return waiting

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head = self._answer.find(b"\r\n\r\n")
        if not self._end and head >= 0:
            length = self._answer[:head].lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self._end = head + 4 + int(length)
        if self._end and len(self._answer) >= self._end:
            body, self._answer, self._end = self._answer[head + 4 : self._end], b"", 0
            self._waiting.popleft().set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in self._waiting:
            waiting.set_exception(exc or ConnectionResetError())


class _Message(msgspec.Struct, rename="pascal"):
    message_id: str
    receipt_handle: str
    body: str


class _Received(msgspec.Struct, rename="pascal"):
    messages: list[_Message] = []


_received: Final = msgspec.json.Decoder(_Received)


async def raw(endpoint: str, queue: str) -> Round:
    """Make a round on a bare connection of its own."""
    at = urlsplit(endpoint)
    assert at.hostname and at.port, "a stub has both"  # noqa: PT018
    host = at.netloc.encode()
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: RawConnection(host), at.hostname, at.port
    )
    url = f"{endpoint}/000000000000/{queue}"
    receive = msgspec.json.encode({"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": WAIT_S})

    async def once() -> int:
        found = _received.decode(await connection.ask(b"ReceiveMessage", receive)).messages
        if found:
            entries = [{"Id": str(at), "ReceiptHandle": each.receipt_handle} for at, each in enumerate(found)]
            await connection.ask(b"DeleteMessageBatch", msgspec.json.encode({"QueueUrl": url, "Entries": entries}))
        return len(found)

    return once


async def own(stack: AsyncExitStack, endpoint: str, queue: str, *, lean: bool) -> Round:
    """Make a round on the router's own source."""
    where = AwsConfig(REGION, endpoint, lean_http=lean)
    poll, call = [
        await open_sqs_client(stack, where, connections=0, read_timeout_s=WAIT_S + 10, clock=SystemClock())
        for _ in range(2)
    ]
    source = SqsSource(queue, poll, call)

    async def once() -> int:
        found = await source.receive(10, WAIT_S, 30)
        if found:
            await source.delete(found)
        return len(found)

    return once


async def by_aiobotocore(stack: AsyncExitStack, endpoint: str, queue: str) -> Round:
    """Make a round on aiobotocore as it comes."""
    client = get_session().create_client("sqs", endpoint_url=endpoint, region_name=REGION)
    sqs: Any = await stack.enter_async_context(client)
    url = (await sqs.get_queue_url(QueueName=queue))["QueueUrl"]

    async def once() -> int:
        answer = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=WAIT_S)
        found = answer.get("Messages", [])
        entries = [{"Id": str(at), "ReceiptHandle": each["ReceiptHandle"]} for at, each in enumerate(found)]
        if entries:
            await sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        return len(found)

    return once


async def _rounds(stack: AsyncExitStack, transport: str, endpoint: str, queue: str) -> AsyncIterator[Round]:
    """One for each poller; those of a client that has a pool share it."""
    if transport == "raw":
        for _ in range(POLLERS):
            yield await raw(endpoint, queue)
        return
    shared = await (
        by_aiobotocore(stack, endpoint, queue)
        if transport == "aiobotocore"
        else own(stack, endpoint, queue, lean=transport == "lean")
    )
    for _ in range(POLLERS):
        yield shared


async def main(transport: str, endpoint: str, queue: str, count: int) -> None:
    """Drain the queue until `count` messages are deleted, or until the process is killed."""
    done, ended, began = 0, asyncio.Event(), 0.0

    async def drain(once: Round) -> None:
        nonlocal done
        while True:
            came = await once()  # not within the sum, which would forget what the others add meanwhile
            done += came
            if count and done >= count:
                ended.set()

    async with AsyncExitStack() as stack:
        rounds = [each async for each in _rounds(stack, transport, endpoint, queue)]
        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(drain(each)) for each in rounds]
            await ended.wait()
            print(perf_counter() - began, flush=True)
            for task in tasks:
                task.cancel()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
