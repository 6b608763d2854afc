"""Serves the pages that are open to everybody, so that nobody who asks for them takes the process from its work.

A part of the wire contract. Health, metrics and the dashboard ask for no password, and whoever reaches them may ask as
often as a machine can. Then making a page takes SHARE of the process' time and no more, and so does answering with it.
Who asks waits: no more clients than the server has places. What is made is given to all who ask meanwhile, and for a
moment longer when making it anew would take too much.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, MutableMapping
from functools import partial
from http import HTTPStatus
from types import coroutine
from typing import Any, Final, NamedTuple

from cell_worker.contract.http_guard import SAFEGUARDS, AsgiApp, Message, Receive, Send

SHARE: Final = 0.02
"""The part of the process' time that making one page may take in the long run, and that answering with it may."""
BURST_S: Final = 0.1
"""How many seconds of that time either may take at once, when nobody has asked for a while."""
ANSWER_S: Final = 0.0005
"""What it takes to read one request and to answer it with a page that is made."""
KEPT_S: Final = 0.5
"""How old an answer may be that is given again, when making it anew would take more than its share."""
MAX_KEPT: Final = 8
"""Answers of one page, which may depend on what is asked of it."""

Scope = MutableMapping[str, Any]
_BUSY: Final[list[Message]] = [
    {"type": "http.response.start", "status": HTTPStatus.SERVICE_UNAVAILABLE, "headers": list(SAFEGUARDS)},
    {"type": "http.response.body", "body": b"too many ask for this page at once, each in another way\n"},
]


class OpenPages:
    """An ASGI application that gives the answers of another one, whose pages have these paths.

    `now` and `sleep` are a clock's, in seconds; `spent` says how much of the process' time the loop has taken. The
    answers of `streams` go on and on: to begin one takes its share as any other answer does, and the rest is theirs.
    """

    def __init__(
        self,
        app: AsgiApp,
        paths: Collection[str],
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        spent: Callable[[], float] = time.thread_time,
        streams: Collection[str] = (),
    ) -> None:
        self._app = app
        self._streams = streams
        self._now = now
        self._spent = spent
        self._pages = {path: _Page(now, sleep) for path in paths}
        self._nowhere = _Page(now, sleep)  # all paths that there aren't

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI asks."""
        page = self._pages.get(scope["path"], self._nowhere)
        if not page.answering.begin() and not await unless_gone(page.answering.wait(), receive):
            return
        page.answering.spend(ANSWER_S)
        if scope["path"] in self._streams:
            await self._app(scope, receive, send)
            return
        asked = (scope["method"], scope["path"], scope["query_string"], dict(scope["headers"]).get(b"host"))
        answer = page.answer(asked, self._now(), partial(self._made, page, scope))
        for message in _BUSY if answer is None else (await asyncio.shield(answer)).messages:
            await send(message)

    async def _made(self, page: _Page, scope: Scope) -> _Made:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}  # no page reads a body

        async def send(message: Message) -> None:
            sent.append(message)

        if not page.making.begin():
            await page.making.wait()
        await timed(self._app(scope, receive, send).__await__(), self._spent, page.making.spend)
        return _Made(self._now(), sent)


class _Made(NamedTuple):
    """An answer that is there, and since when."""

    at: float
    messages: list[Message]


class Budget:
    """What something may still take of the process' time; who comes when that is nothing waits for its turn.

    `share` is the part of that time which it may take in the long run.
    """

    def __init__(
        self, now: Callable[[], float], sleep: Callable[[float], Awaitable[None]], share: float = SHARE
    ) -> None:
        self._now = now
        self._sleep = sleep
        self._share = share
        self._queue = asyncio.Lock()
        self._left_s = BURST_S
        self._at = now()

    def begin(self) -> bool:
        """Whether there is time left, and nobody waits for it."""
        return self._left() > 0 and not self._queue.locked()

    async def wait(self) -> None:
        """Wait for those who came before, and then until there is time."""
        async with self._queue:
            while (left_s := self._left()) <= 0:
                await self._sleep(-left_s / self._share + 0.001)

    def spend(self, seconds: float) -> None:
        """Count what was taken."""
        self._left_s -= seconds

    def _left(self) -> float:
        now = self._now()
        self._left_s, self._at = min(BURST_S, self._left_s + (now - self._at) * self._share), now
        return self._left_s


class _Page:
    """One page: its budgets, and its newest answers, which are there or in the making."""

    def __init__(self, now: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self.answering = Budget(now, sleep)
        self.making = Budget(now, sleep)
        self._answers: dict[object, asyncio.Task[_Made]] = {}

    def answer(
        self, asked: object, now: float, make: Callable[[], Coroutine[Any, Any, _Made]]
    ) -> asyncio.Task[_Made] | None:
        """Return the answer to what is asked; None when too many others are in the making."""
        made = self._answers.get(asked)
        if made is None or _is_old(made, now) or (made.done() and self.making.begin()):
            self._answers.pop(asked, None)
            if len(self._answers) >= MAX_KEPT:
                there = next((each for each, other in self._answers.items() if other.done()), None)
                if there is None:
                    return None
                del self._answers[there]
            made = self._answers[asked] = asyncio.create_task(make())
        return made


def _is_old(made: asyncio.Task[_Made], now: float) -> bool:
    if not made.done():
        return False
    return made.cancelled() or made.exception() is not None or now - made.result().at >= KEPT_S


async def unless_gone(waiting: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Wait for something; False when the client has gone before it comes."""
    turn, gone = asyncio.create_task(waiting), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((turn, gone), return_when=asyncio.FIRST_COMPLETED)
        return turn.done()
    finally:
        turn.cancel()
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@coroutine
def timed(
    work: Generator[Any, Any, None], spent: Callable[[], float], spend: Callable[[float], None]
) -> Generator[Any, Any, None]:
    """Run what makes a page, and tell of each of its steps how much of the process' time it has taken."""
    step: Callable[[], Any] = partial(work.send, None)
    while True:
        began = spent()
        try:
            waits_for = step()
        except StopIteration:
            return
        finally:
            spend(spent() - began)
        try:
            yield waits_for
        except BaseException as error:  # noqa: BLE001 - it is the page's
            step = partial(work.throw, error)
        else:
            step = partial(work.send, None)
