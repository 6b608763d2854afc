"""What the pages that are open to everybody may take of a process' time, on virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pytest

from cell_worker.contract.http_guard import Message
from cell_worker.contract.open_pages import ANSWER_S, BURST_S, KEPT_S, MAX_KEPT, SHARE, OpenPages
from tests.support.fake_clock import FakeClock, play

COST_S: Final = 0.02
"""What making the page /slow takes of the process' time."""
SECONDS: Final = 60


class World:
    """An application behind its guard, and how much of the process' time its pages have taken."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.made = Counter[str]()
        self.taken_s = 0.0
        self.refused = 0
        sleep, now = self.clock.sleep, self.clock.monotonic
        self.pages = OpenPages(self.app, ["/slow", "/quick"], now, sleep, lambda: self.taken_s, ["/live"])

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.made[path] += 1
        self.taken_s += COST_S if path == "/slow" else 0.0
        await self.clock.sleep(0.01)  # it waits for something, and others go on
        if path == "/live":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await self.clock.sleep(1000)
        if path == "/fails":
            raise ValueError("as the test wants it")
        text = f"{path} {self.made[path]}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text})

    async def get(self, path: str, query: str = "", gone: asyncio.Event | None = None) -> bytes:
        """Ask for a page, and return its text; empty when the client has gone before it was there."""
        sent = list[Message]()
        asked = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if asked:
                return asked.pop()
            await (gone or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}
        await self.pages(scope, receive, send)
        self.refused += sum(message.get("status") == 503 for message in sent)
        return b"".join(message.get("body", b"") for message in sent)

    async def flood(self, path: str, query: Callable[[int], str] = lambda _: "", clients: int = 50) -> int:
        """Have so many clients ask for a page for a minute, each again at once; return how often they got it."""
        answers = 0

        async def ask() -> None:
            nonlocal answers
            while True:
                assert await self.get(path, query(answers))
                answers += 1

        asking = [asyncio.create_task(ask()) for _ in range(clients)]
        await self.clock.sleep(SECONDS)
        for task in asking:
            task.cancel()
        return answers


def test_a_page_takes_its_share_of_the_process_and_no_more() -> None:
    """However many ask for it, and however long it takes to make; all who ask meanwhile get what is made."""
    world = World()
    answers = play(world.clock, world.flood("/slow"))
    assert world.taken_s <= BURST_S + SECONDS * SHARE + COST_S
    assert answers * ANSWER_S <= (BURST_S + SECONDS * SHARE) * 1.1
    assert world.made["/slow"] >= SECONDS * SHARE / COST_S - 1
    assert answers > 10 * world.made["/slow"]


def test_a_page_that_is_asked_for_in_ever_other_ways_takes_no_more() -> None:
    """Those for whom nothing can be made soon are told so."""
    world = World()
    count = iter(range(10**9))
    play(world.clock, world.flood("/slow", lambda _: f"limit={next(count)}"))
    assert world.taken_s <= BURST_S + SECONDS * SHARE + MAX_KEPT * COST_S
    assert world.refused > world.made["/slow"] > 0


def test_a_flood_of_one_page_keeps_nobody_from_another() -> None:
    """A health check is answered at once while somebody asks for the metrics as often as possible."""
    world = World()

    async def story() -> None:
        flood = asyncio.create_task(world.flood("/slow"))
        for _ in range(30):
            began = world.clock.now
            assert await world.get("/quick")
            assert world.clock.now - began < 0.1
            await world.clock.sleep(1)
        flood.cancel()

    play(world.clock, story())


def test_who_asks_now_and_then_gets_a_new_page_at_once() -> None:
    """As scrapers do; also who has just changed something and looks again."""
    world = World()

    async def story() -> None:
        for number in range(1, 20):
            began = world.clock.now
            assert await world.get("/slow") == b"/slow %d" % (2 * number - 1)
            assert await world.get("/slow") == b"/slow %d" % (2 * number)
            assert world.clock.now - began < 0.1
            await world.clock.sleep(5)

    play(world.clock, story())


def test_all_who_ask_at_once_get_one_answer_and_what_is_asked_decides_which() -> None:
    """One that is made already is given until it is too old."""
    world = World()

    async def story() -> None:
        found = await asyncio.gather(*(world.get("/quick") for _ in range(20)), world.get("/quick", "limit=2"))
        assert found == [b"/quick 2"] * 20 + [b"/quick 2"]
        assert world.made["/quick"] == 2
        await world.clock.sleep(KEPT_S)
        assert await world.get("/quick") == b"/quick 3"

    play(world.clock, story())


def test_who_goes_away_takes_no_turn() -> None:
    """Those who ask and never wait for an answer keep nobody waiting."""
    world = World()

    async def story() -> None:
        flood = asyncio.create_task(world.flood("/quick"))
        await world.clock.sleep(5)
        gone = asyncio.Event()
        left = [asyncio.create_task(world.get("/quick", gone=gone)) for _ in range(1000)]
        await world.clock.sleep(0.001)
        gone.set()
        assert await asyncio.gather(*left) == [b""] * 1000
        began = world.clock.now
        assert await world.get("/quick")
        assert world.clock.now - began < 3
        flood.cancel()

    play(world.clock, story())


def test_an_error_is_told_to_all_who_asked() -> None:
    """The server answers each of them with 500, and the next one asks anew."""
    world = World()

    async def story() -> None:
        found = await asyncio.gather(world.get("/fails"), world.get("/fails"), return_exceptions=True)
        assert [type(error) for error in found] == [ValueError] * 2
        with pytest.raises(ValueError, match="as the test"):
            await world.get("/fails")
        assert world.made["/fails"] == 2

    play(world.clock, story())


def test_a_stream_is_sent_as_it_comes_and_begins_no_oftener_than_a_page() -> None:
    """Nobody waits for its end; who opens and drops one again and again takes no more than who asks for a page."""
    world = World()

    async def story() -> None:
        begun = 0

        async def drop(message: Message) -> None:
            nonlocal begun
            if message.get("body") == b"first":
                begun += 1
                raise ConnectionError("the client has gone")

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError("it stays")

        async def ask() -> None:
            scope = {"type": "http", "method": "GET", "path": "/live", "query_string": b"", "headers": []}
            while True:
                with suppress(ConnectionError):
                    await world.pages(scope, receive, drop)

        asking = [asyncio.create_task(ask()) for _ in range(50)]
        await world.clock.sleep(SECONDS)
        for task in asking:
            task.cancel()
        assert 0 < begun * ANSWER_S <= (BURST_S + SECONDS * SHARE) * 1.1

    play(world.clock, story())
