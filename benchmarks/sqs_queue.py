"""One queue of the SQS stub: visible, hidden and delayed messages, and long polls that wait for them.

Times are in seconds, by the perf_counter of the stub's process.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import msgspec

from benchmarks.notifications import body_token

SYNTHETIC: Final = b""
"""Stands for the body of a message whose body is made when it is received."""
_PAD: Final = b"AQEB" + b"x" * 156
"""Makes receipt handles as long as those of SQS."""


@dataclass(slots=True, eq=False)
class StoredMessage:
    """One message of a queue."""

    serial: int  # makes the message id
    number: int  # of the event in it; a copy in another queue has the same number
    enqueued_at: float  # when the event came to the source, whatever queue it is in now
    account: bytes = b""
    body: bytes = SYNTHETIC  # a JSON string, quotes included
    attributes: bytes = b""  # MessageAttributes as JSON
    receives: int = 0
    receipt: bytes = b""
    hidden_until: float = 0.0


@dataclass(slots=True, eq=False)
class Poll:
    """A ReceiveMessage that waits for messages."""

    most: int
    visibility_s: float
    reply: Callable[[list[StoredMessage]], None]
    gone: Callable[[], bool]  # whether the client has left: messages sent to it would stay hidden in vain
    timer: asyncio.TimerHandle | None = None


class Queue:
    """A standard queue: what is received is hidden for a while, and gone only once deleted by its newest receipt."""

    def __init__(self, name: str, on_deleted: Callable[[StoredMessage], None]) -> None:
        self.name = name
        self.visible: deque[StoredMessage] = deque()
        self.hidden: dict[bytes, StoredMessage] = {}  # by receipt; delayed ones too
        self.polls: deque[Poll] = deque()
        self._on_deleted = on_deleted
        self._due: list[tuple[float, int, StoredMessage]] = []
        self._tie = itertools.count()
        self._delayed = itertools.count()

    def put(self, message: StoredMessage, delay_s: float = 0) -> None:
        """Add a message, hidden for `delay_s` seconds first."""
        if delay_s:
            message.receipt = b"delayed-%d" % next(self._delayed)
            self.hidden[message.receipt] = message
            self._hide(message, delay_s)
        else:
            self.visible.append(message)

    def poll(self, poll: Poll, wait_s: float) -> None:
        """Reply at once when a message is visible; else as soon as one is, or with none after `wait_s` seconds."""
        if self.visible or not wait_s:
            poll.reply(self._take(poll))
            return
        self.polls.append(poll)
        poll.timer = asyncio.get_running_loop().call_later(wait_s, self._expire, poll)

    def serve(self) -> None:
        """Give the visible messages to the polls that wait."""
        while self.visible and self.polls:
            poll = self.polls.popleft()
            if poll.timer:
                poll.timer.cancel()
            if not poll.gone():
                poll.reply(self._take(poll))

    def delete(self, receipt: bytes) -> None:
        """Delete the message with this receipt; an old receipt is no error, and deletes nothing."""
        message = self.hidden.pop(receipt, None)
        if message is not None:
            self._on_deleted(message)

    def change_visibility(self, receipt: bytes, seconds: float) -> bool:
        """Hide a message for so many seconds from now on; False when the receipt is an old one."""
        message = self.hidden.get(receipt)
        if message is None:
            return False
        if seconds:
            self._hide(message, seconds)
        else:
            self.visible.append(self.hidden.pop(receipt))
            self.serve()
        return True

    def tick(self) -> None:
        """Make the messages visible that have been hidden long enough."""
        now = perf_counter()
        while self._due and self._due[0][0] <= now:
            until, _, message = heapq.heappop(self._due)
            if message.hidden_until == until and self.hidden.get(message.receipt) is message:
                self.visible.append(self.hidden.pop(message.receipt))
        self.serve()

    def _take(self, poll: Poll) -> list[StoredMessage]:
        taken = [self.visible.popleft() for _ in range(min(poll.most, len(self.visible)))]
        for message in taken:
            message.receives += 1
            message.receipt = b"%b%012d%04d" % (_PAD, message.serial, message.receives)
            self.hidden[message.receipt] = message
            self._hide(message, poll.visibility_s)
        return taken

    def _hide(self, message: StoredMessage, seconds: float) -> None:
        message.hidden_until = perf_counter() + seconds
        heapq.heappush(self._due, (message.hidden_until, next(self._tie), message))

    def _expire(self, poll: Poll) -> None:
        self.polls.remove(poll)
        poll.reply([])


def rendered(messages: list[StoredMessage]) -> bytes:
    """Return the body of the answer to ReceiveMessage with these messages."""
    return b'{"Messages":[%b]}' % b",".join(map(_rendered, messages)) if messages else b"{}"


def _rendered(message: StoredMessage) -> bytes:
    attributes = b',"MessageAttributes":' + message.attributes if message.attributes else b""
    body = message.body or body_token(message.account, message.number)
    md5 = hashlib.md5(msgspec.json.decode(body, type=str).encode(), usedforsecurity=False).hexdigest().encode()
    return (
        b'{"MessageId":"%08x-5fea-4b1d-9d2c-%012x","ReceiptHandle":"%b","MD5OfBody":"%b","Body":%b,'
        b'"Attributes":{"SentTimestamp":"1767225600000","ApproximateReceiveCount":"%d"}%b}'
    ) % (message.serial, message.serial, message.receipt, md5, body, message.receives, attributes)


class BatchEntry(msgspec.Struct, rename="pascal"):
    """One entry of a batch call, with the fields of all batch calls."""

    id: str
    receipt_handle: str = ""
    visibility_timeout: int = 0
    delay_seconds: int = 0
    message_body: msgspec.Raw = msgspec.Raw()
    message_attributes: msgspec.Raw = msgspec.Raw()


class SqsCall(msgspec.Struct, rename="pascal"):
    """One call, with the fields of all calls that the stub understands."""

    queue_name: str = ""
    queue_url: str = ""
    max_number_of_messages: int = 1
    wait_time_seconds: int = 0
    visibility_timeout: int = 30
    entries: list[BatchEntry] = []
