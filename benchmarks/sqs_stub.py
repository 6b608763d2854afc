"""A stub of SQS that costs little CPU: the queue calls a router makes, by the AWS JSON 1.0 protocol.

The source queue's messages are S3 notifications, made on the fly: all at once (`load`), or open-loop at a rate for each
tenant (`rates`). Every other queue exists as soon as it is named, and is empty then. All latencies are
measured by this process's clock. The process prints its port, and ends when stdin closes.

    POST /bench/reset   {source, accounts}    empty every queue, and name the source and the tenants
    POST /bench/delay   {seconds}             how long each answer takes from now on
    POST /bench/load    {count}               enqueue so many messages, of the tenants in turn
    POST /bench/rates   {rates}               events a second for each tenant; zero for all ends the load
    POST /bench/wait    {settled, timeout_s}  answers once so many events are settled
    POST /bench/state                         counts since the reset
    POST /bench/window                        counts and latencies since the last such call
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

import msgspec
import uvloop

from benchmarks.http_server import Connection, Request, header
from benchmarks.sqs_queue import Poll, Queue, SqsCall, StoredMessage, rendered

TICK_S: Final = 0.002
"""How often the open loop enqueues the messages that are due."""
SLOW_TICK_S: Final = 0.05
"""How often hidden messages become visible whose time is up."""
_SEQUENCER: Final = re.compile(rb'sequencer\\*":\\*"([0-9A-F]{16})')
_call: Final = msgspec.json.Decoder(SqsCall)


class Tenants:
    """Makes the messages of the tenants, at once or open-loop with even intervals for each tenant."""

    def __init__(self, accounts: list[str]) -> None:
        self.accounts = [account.encode() for account in accounts]
        self.number = 0
        self._rates = [0.0] * len(accounts)
        self._credit = [0.0] * len(accounts)
        self._last = perf_counter()

    def burst(self, count: int) -> list[StoredMessage]:
        """Make so many messages at once, of the tenants in turn."""
        now = perf_counter()
        return [self._one(self.number % len(self.accounts), now) for _ in range(count)]

    def set_rates(self, rates: list[float]) -> None:
        """Set the events a second of each tenant. The tenants' first events are spread over their intervals."""
        count = len(rates)
        fresh = not any(self._rates)
        self._rates, self._last = rates, perf_counter()
        if fresh:
            self._credit = [index / count for index in range(count)]

    def due(self) -> list[StoredMessage]:
        """Make the messages that are due since the last call."""
        now = perf_counter()
        passed, self._last = now - self._last, now
        found: list[StoredMessage] = []
        for tenant, rate in enumerate(self._rates):
            self._credit[tenant] += rate * passed
            while self._credit[tenant] >= 1:
                self._credit[tenant] -= 1
                found.append(self._one(tenant, now))
        return found

    def _one(self, tenant: int, now: float) -> StoredMessage:
        self.number += 1
        return StoredMessage(self.number, self.number, now, self.accounts[tenant])


class Ledger:
    """Keeps count of the events over all queues. An event is settled when the last copy of its message is deleted."""

    def __init__(self) -> None:
        self.settled = 0
        self._copies: Counter[int] = Counter()
        self._alive: dict[int, StoredMessage] = {}
        self.begin_window()

    def begin_window(self) -> None:
        """Begin a new window, in which nothing is counted yet."""
        self.began = perf_counter()
        self.last_settled = self.began
        self.receives = self.received = self.deletes = 0
        self.done: list[tuple[bytes, float]] = []  # account, seconds from enqueue to its last delete

    def put(self, message: StoredMessage) -> None:
        """Note that a message was put into a queue, the source or another one."""
        self._copies[message.number] += 1
        self._alive.setdefault(message.number, message)

    def original(self, body: bytes) -> StoredMessage | None:
        """Return the first message of the event that a body carries; None when it carries none that is known."""
        found = _SEQUENCER.search(body)
        return self._alive.get(int(found.group(1), 16)) if found else None

    def deleted(self, message: StoredMessage) -> None:
        """Note that a message was deleted from its queue."""
        self._copies[message.number] -= 1
        if self._copies[message.number]:
            return
        del self._copies[message.number], self._alive[message.number]
        self.settled += 1
        self.last_settled = now = perf_counter()
        self.done.append((message.account, now - message.enqueued_at))


class SqsStub:
    """All queues, and the commands by which a suite controls them."""

    def __init__(self) -> None:
        self._endpoint = ""
        self._delay_s = 0.0
        self._waits: list[tuple[int, Connection]] = []
        self._reset("source", ["0" * 12])

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer a request: a command of the bench, or a call of SQS."""
        if request.path.startswith("/bench/"):
            self._command(request, connection)
            return
        action = header(request.head, b"x-amz-target").decode().rpartition(".")[2]
        act = partial(self._actions().get(action, self._unknown), _call.decode(request.body), connection)
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, act)
        else:
            act()

    def _command(self, request: Request, connection: Connection) -> None:
        command = getattr(self, "bench_" + request.path.removeprefix("/bench/"))
        answer = command(connection, **(msgspec.json.decode(request.body) if request.body else {}))
        if answer is not None:
            connection.answer_json(answer)

    async def run(self) -> None:
        """Serve the calls and commands until stdin closes."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self.handle), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self._endpoint = f"http://127.0.0.1:{port}"
        print(port, flush=True)
        loop.call_soon(self._tick)
        loop.call_soon(self._slow_tick)
        await loop.run_in_executor(None, sys.stdin.read)

    def bench_reset(self, connection: Connection, source: str, accounts: list[str]) -> dict[str, Any]:
        """Empty every queue, and name the source queue and the tenants."""
        self._reset(source, accounts)
        return {}

    def bench_delay(self, connection: Connection, seconds: float) -> dict[str, Any]:
        """Set how many seconds each answer takes from now on."""
        self._delay_s = seconds
        return {}

    def bench_load(self, connection: Connection, count: int) -> dict[str, Any]:
        """Enqueue so many messages at once, of the tenants in turn."""
        self._enqueue(self._tenants.burst(count))
        return {}

    def bench_rates(self, connection: Connection, rates: list[float]) -> dict[str, Any]:
        """Set the events a second of each tenant; zero for all ends the load."""
        self._tenants.set_rates(rates)
        return {}

    def bench_wait(self, connection: Connection, settled: int, timeout_s: float) -> None:
        """Answer once so many events are settled, or after `timeout_s` seconds."""
        wait = (settled, connection)
        self._waits.append(wait)
        asyncio.get_running_loop().call_later(timeout_s, self._answer_wait, wait)
        self._answer_waits()

    def bench_state(self, connection: Connection) -> dict[str, Any]:
        """Count what was sent and settled since the reset, and what the queues hold now."""
        source = self._source
        others = {queue.name: len(queue.visible) + len(queue.hidden) for queue in self._queues.values()}
        return {
            "sent": self._tenants.number,
            "settled": self._ledger.settled,
            "visible": len(source.visible),
            "hidden": len(source.hidden),
            "polls": len(source.polls),
            "elsewhere": {name: count for name, count in others.items() if name != source.name},
        }

    def bench_window(self, connection: Connection) -> dict[str, Any]:
        """Return the counts and latencies since the last such call, and begin a new window."""
        ledger = self._ledger
        answer = {
            "seconds": perf_counter() - ledger.began,
            "until_last_s": ledger.last_settled - ledger.began,
            "receives": ledger.receives,
            "received": ledger.received,
            "deletes": ledger.deletes,
            "done": [(account.decode(), took) for account, took in ledger.done],
        }
        ledger.begin_window()
        return answer

    def _reset(self, source: str, accounts: list[str]) -> None:
        self._tenants = Tenants(accounts)
        self._ledger = Ledger()
        self._sent = 10**9  # serials of messages that others send begin here
        self._source = Queue(source, self._on_deleted)
        self._queues = {source: self._source}

    def _queue(self, name_or_url: str) -> Queue:
        name = name_or_url.rpartition("/")[2]
        if name not in self._queues:
            self._queues[name] = Queue(name, self._on_deleted)
        return self._queues[name]

    def _enqueue(self, messages: list[StoredMessage]) -> None:
        for message in messages:
            self._ledger.put(message)
            self._source.put(message)
        self._source.serve()

    def _on_deleted(self, message: StoredMessage) -> None:
        self._ledger.deleted(message)
        self._answer_waits()

    def _answer_waits(self) -> None:
        for wait in [wait for wait in self._waits if wait[0] <= self._ledger.settled]:
            self._answer_wait(wait)

    def _answer_wait(self, wait: tuple[int, Connection]) -> None:
        if wait in self._waits:
            self._waits.remove(wait)
            wait[1].answer_json({"settled": self._ledger.settled})

    def _tick(self) -> None:
        if due := self._tenants.due():
            self._enqueue(due)
        asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _slow_tick(self) -> None:
        for queue in self._queues.values():
            queue.tick()
        asyncio.get_running_loop().call_later(SLOW_TICK_S, self._slow_tick)

    def _actions(self) -> dict[str, Callable[[SqsCall, Connection], None]]:
        return {
            "receivemessage": self._receive,
            "deletemessagebatch": self._delete,
            "sendmessagebatch": self._send,
            "changemessagevisibilitybatch": self._change_visibility,
            "getqueueurl": self._url,
            "getqueueattributes": self._attributes,
        }

    def _unknown(self, call: SqsCall, connection: Connection) -> None:
        error = {"__type": "com.amazonaws.sqs#UnsupportedOperation", "message": "the stub does not know this call"}
        connection.answer(msgspec.json.encode(error), b"400 Bad Request", b"application/x-amz-json-1.0")

    def _receive(self, call: SqsCall, connection: Connection) -> None:
        queue = self._queue(call.queue_url)
        reply = partial(self._reply, queue, connection)
        poll = Poll(call.max_number_of_messages, call.visibility_timeout, reply, connection.transport.is_closing)
        queue.poll(poll, call.wait_time_seconds)

    def _reply(self, queue: Queue, connection: Connection, messages: list[StoredMessage]) -> None:
        if messages and queue is self._source:
            self._ledger.receives += 1
            self._ledger.received += len(messages)
        connection.answer(rendered(messages), kind=b"application/x-amz-json-1.0")

    def _delete(self, call: SqsCall, connection: Connection) -> None:
        queue = self._queue(call.queue_url)
        self._ledger.deletes += queue is self._source
        for entry in call.entries:
            queue.delete(entry.receipt_handle.encode())
        _answer(connection, {"Successful": [{"Id": entry.id} for entry in call.entries], "Failed": []})

    def _change_visibility(self, call: SqsCall, connection: Connection) -> None:
        queue = self._queue(call.queue_url)
        found = [
            queue.change_visibility(entry.receipt_handle.encode(), entry.visibility_timeout) for entry in call.entries
        ]
        answers = {
            good: [entry for entry, g in zip(call.entries, found, strict=True) if g is good] for good in (True, False)
        }
        failed = [{"Id": entry.id, "Code": "ReceiptHandleIsInvalid", "SenderFault": True} for entry in answers[False]]
        _answer(connection, {"Successful": [{"Id": entry.id} for entry in answers[True]], "Failed": failed})

    def _send(self, call: SqsCall, connection: Connection) -> None:
        queue = self._queue(call.queue_url)
        for entry in call.entries:
            message = self._sent_message(bytes(entry.message_body), bytes(entry.message_attributes))
            self._ledger.put(message)
            queue.put(message, entry.delay_seconds)
        queue.serve()
        sent = [
            {"Id": entry.id, "MessageId": f"sent-{entry.id}", "MD5OfMessageBody": "0" * 32} for entry in call.entries
        ]
        _answer(connection, {"Successful": sent, "Failed": []})

    def _sent_message(self, body: bytes, attributes: bytes) -> StoredMessage:
        self._sent += 1
        if original := self._ledger.original(body):
            return StoredMessage(self._sent, original.number, original.enqueued_at, original.account, body, attributes)
        return StoredMessage(self._sent, -self._sent, perf_counter(), b"", body, attributes)

    def _url(self, call: SqsCall, connection: Connection) -> None:
        self._queue(call.queue_name)
        _answer(connection, {"QueueUrl": f"{self._endpoint}/000000000000/{call.queue_name}"})

    def _attributes(self, call: SqsCall, connection: Connection) -> None:
        queue = self._queue(call.queue_url)
        attributes = {
            "ApproximateNumberOfMessages": str(len(queue.visible)),
            "ApproximateNumberOfMessagesNotVisible": str(len(queue.hidden)),
            "ApproximateNumberOfMessagesDelayed": "0",
            "VisibilityTimeout": "30",
        }
        _answer(connection, {"Attributes": attributes})


def _answer(connection: Connection, value: dict[str, Any]) -> None:
    connection.answer(msgspec.json.encode(value), kind=b"application/x-amz-json-1.0")


if __name__ == "__main__":
    uvloop.run(SqsStub().run())
