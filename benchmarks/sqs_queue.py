"""One queue of the SQS stub: visible, hidden and delayed messages, and long polls that wait for them.

Times are perf_counter seconds of the stub's process.
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
"""The body of a message that is made only when it is received."""
_PAD: Final = b"AQEB" + b"x" * 156
"""Receipt handles are as long as SQS' own."""


@dataclass(slots=True, eq=False)
class Stored:
    """One message."""

    serial: int  # makes the message id
    number: int  # of the event in it; a copy in another queue has the same
    enqueued_at: float  # the event, whatever queue it is in now
    account: bytes = b""
    body: bytes = SYNTHETIC  # a JSON string, quotes included
    attributes: bytes = b""  # MessageAttributes as JSON
    receives: int = 0
    receipt: bytes = b""
    hidden_until: float = 0.0


@dataclass(slots=True, eq=False)
class Poll:
    """A ReceiveMessage that waits."""

    most: int
    visibility_s: float
    reply: Callable[[list[Stored]], None]
    gone: Callable[[], bool]  # whether its client has left: a reply would be lost until the visibility is over
    timer: asyncio.TimerHandle | None = None


class Queue:
    """A standard queue: what is received is hidden for a while, and gone only once deleted by its newest receipt."""

    def __init__(self, name: str, on_deleted: Callable[[Stored], None]) -> None:
        self.name = name
        self.visible: deque[Stored] = deque()
        self.hidden: dict[bytes, Stored] = {}  # by receipt; delayed ones too
        self.polls: deque[Poll] = deque()
        self._on_deleted = on_deleted
        self._due: list[tuple[float, int, Stored]] = []
        self._tie = itertools.count()
        self._delayed = itertools.count()

    def put(self, message: Stored, delay_s: float = 0) -> None:
        """Enqueue."""
        if delay_s:
            message.receipt = b"delayed-%d" % next(self._delayed)
            self.hidden[message.receipt] = message
            self._hide(message, delay_s)
        else:
            self.visible.append(message)

    def poll(self, poll: Poll, wait_s: float) -> None:
        """Reply now when there is something, else when there is or the wait is over."""
        if self.visible or not wait_s:
            poll.reply(self._take(poll))
            return
        self.polls.append(poll)
        poll.timer = asyncio.get_running_loop().call_later(wait_s, self._expire, poll)

    def serve(self) -> None:
        """Let polls that wait have what is visible."""
        while self.visible and self.polls:
            poll = self.polls.popleft()
            if poll.timer:
                poll.timer.cancel()
            if not poll.gone():
                poll.reply(self._take(poll))

    def delete(self, receipt: bytes) -> None:
        """An old receipt is no error, and deletes nothing."""
        message = self.hidden.pop(receipt, None)
        if message is not None:
            self._on_deleted(message)

    def change_visibility(self, receipt: bytes, seconds: float) -> bool:
        """False for an old receipt."""
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
        """Make visible what has been hidden long enough."""
        now = perf_counter()
        while self._due and self._due[0][0] <= now:
            until, _, message = heapq.heappop(self._due)
            if message.hidden_until == until and self.hidden.get(message.receipt) is message:
                self.visible.append(self.hidden.pop(message.receipt))
        self.serve()

    def _take(self, poll: Poll) -> list[Stored]:
        taken = [self.visible.popleft() for _ in range(min(poll.most, len(self.visible)))]
        for message in taken:
            message.receives += 1
            message.receipt = b"%b%012d%04d" % (_PAD, message.serial, message.receives)
            self.hidden[message.receipt] = message
            self._hide(message, poll.visibility_s)
        return taken

    def _hide(self, message: Stored, seconds: float) -> None:
        message.hidden_until = perf_counter() + seconds
        heapq.heappush(self._due, (message.hidden_until, next(self._tie), message))

    def _expire(self, poll: Poll) -> None:
        self.polls.remove(poll)
        poll.reply([])


def rendered(messages: list[Stored]) -> bytes:
    """The answer to ReceiveMessage."""
    return b'{"Messages":[%b]}' % b",".join(map(_rendered, messages)) if messages else b"{}"


def _rendered(message: Stored) -> bytes:
    attributes = b',"MessageAttributes":' + message.attributes if message.attributes else b""
    body = message.body or body_token(message.account, message.number)
    md5 = hashlib.md5(msgspec.json.decode(body, type=str).encode(), usedforsecurity=False).hexdigest().encode()
    return (
        b'{"MessageId":"%08x-5fea-4b1d-9d2c-%012x","ReceiptHandle":"%b","MD5OfBody":"%b","Body":%b,'
        b'"Attributes":{"SentTimestamp":"1767225600000","ApproximateReceiveCount":"%d"}%b}'
    ) % (message.serial, message.serial, message.receipt, md5, body, message.receives, attributes)


class Entry(msgspec.Struct, rename="pascal"):
    """One entry of a batch call."""

    id: str
    receipt_handle: str = ""
    visibility_timeout: int = 0
    delay_seconds: int = 0
    message_body: msgspec.Raw = msgspec.Raw()
    message_attributes: msgspec.Raw = msgspec.Raw()


class Call(msgspec.Struct, rename="pascal"):
    """What the calls that the stub understands carry, all in one."""

    queue_name: str = ""
    queue_url: str = ""
    max_number_of_messages: int = 1
    wait_time_seconds: int = 0
    visibility_timeout: int = 30
    entries: list[Entry] = []
