"""What the dashboard is told, how often the registry is read for it, and what its files are."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import AsyncIterator
from fnmatch import fnmatch
from typing import Any, Final
from urllib.parse import quote

from prometheus_client import CollectorRegistry

from router.api.app import create_app
from router.api.dashboard import FILES, INDEX, LIVE_PATH, VERSION, add_dashboard
from router.api.feed import IDLE_S, LIVE_S, MAX_STREAMS
from router.core.slot_map.placement import after_move
from tests.support.aio import run
from tests.support.fake_clock import FakeClock, play
from tests.support.fleet_world import SICK, FleetWorld
from tests.support.paths import REPOSITORY

TICKS: Final = 3


class World(FleetWorld):
    """A fleet whose dashboard is asked without a server."""

    def __init__(self) -> None:
        self.fake = FakeClock()
        super().__init__(self.fake)
        self.feed._spent = lambda: 0.0
        self.app = create_app("router", CollectorRegistry(), list, list, self.nothing, self.registry.audit)
        add_dashboard(self.app, self.feed)

    async def nothing(self) -> list[Any]:
        return []

    async def get(self, path: str, query: str = "") -> tuple[int, dict[bytes, bytes], bytes]:
        """Make one request; returns its status, its headers and its body."""
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}
        await self.app(scope, receive, send)
        return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent)

    async def json(self, path: str, query: str = "") -> Any:
        """Make one request; returns what it answers."""
        return json.loads((await self.get(path, query))[2])


async def told(frames: AsyncIterator[bytes]) -> Any:
    """Take the next thing that a page is told."""
    frame = await anext(frames)
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"\n\n")
    assert frame.count(b"\n") == 2, "a line break ends an event"
    return json.loads(frame[6:])


def test_the_registry_is_read_often_only_while_somebody_watches() -> None:
    """Once in a step of the history otherwise, for each of perhaps a hundred processes."""
    world = World()
    reads = 0
    snapshot = world.registry.snapshot

    async def counted() -> Any:
        nonlocal reads
        reads += 1
        return await snapshot()

    world.registry.snapshot = counted  # type: ignore[method-assign]

    async def story() -> None:
        nonlocal reads
        feeding = asyncio.create_task(world.feed.run())
        await world.fake.sleep(10 * IDLE_S - 1)
        assert reads == 10
        frames = world.feed.frames()
        await anext(frames)
        reads = 0
        await world.fake.sleep(10 * LIVE_S + 0.5)
        assert reads in (10, 11)
        await frames.aclose()
        await world.fake.sleep(IDLE_S)
        reads = 0
        await world.fake.sleep(10 * IDLE_S)
        assert reads == 10
        feeding.cancel()

    play(world.fake, story())


def test_a_page_is_told_of_a_change_within_a_second() -> None:
    """And since when it is so."""
    world = World()

    async def story() -> None:
        feeding, frames = asyncio.create_task(world.feed.run()), world.feed.frames()
        assert (await told(frames))["headline"] == "Nothing is known yet"
        while (first := await told(frames))["status"] != "well":
            pass
        assert first["since_ms"] == first["watched_ms"], "who has just come says that it has just come"
        await world.fake.sleep(30)
        world.falls_ill()
        began, at_ms = world.fake.monotonic(), world.fake.time_ms()
        while (found := await told(frames))["status"] != "acting":
            pass
        assert world.fake.monotonic() - began <= LIVE_S
        assert 0 <= found["since_ms"] - at_ms <= LIVE_S * 1000
        assert found["watched_ms"] == first["watched_ms"] < found["since_ms"]
        feeding.cancel()

    play(world.fake, story())


def test_without_redis_the_last_state_is_told_with_its_age() -> None:
    """Every second, so that nobody takes it for the process itself; and all is as before once Redis answers."""
    world = World()

    async def story() -> None:
        feeding = asyncio.create_task(world.feed.run())
        await world.fake.sleep(1)
        world.registry.down = True
        world.page()
        await world.fake.sleep(7)
        lost = world.page()
        assert (lost["status"], len(lost["cells"])) == ("unknown", 24)
        assert lost["needs"][0]["what"] == "The registry is out of reach: is down"
        assert 6 <= lost["age_s"] <= 9
        await world.fake.sleep(2)
        assert len(world.page()["needs"]) == 1
        world.registry.down = False
        await world.fake.sleep(1.5)
        assert (world.page()["status"], world.page()["age_s"] < 2) == ("well", True)
        feeding.cancel()

    play(world.fake, story())


def test_what_nobody_foresaw_is_noted_and_ends_nothing() -> None:
    """The page says that it is not up to date, and why; the process routes on."""
    world = World()

    async def story() -> None:
        feeding = asyncio.create_task(world.feed.run())
        await world.fake.sleep(1)
        world.registry.contents.routers["r"] = "no report"  # type: ignore[assignment]
        world.page()
        await world.fake.sleep(2)
        assert world.page()["status"] == "unknown"
        assert world.page()["needs"][0]["what"].startswith("The dashboard has an error: ValueError")
        assert not feeding.done()
        assert len(world.told) >= 1
        feeding.cancel()

    play(world.fake, story())


def test_only_so_many_pages_hold_a_stream_and_others_ask() -> None:
    """Each takes one of the server's places; a page that is closed gives it back, and so does the process' end."""
    world = World()

    async def story() -> None:
        streams = [world.feed.frames() for _ in range(MAX_STREAMS)]
        for frames in streams:
            await anext(frames)
        assert (await world.get(LIVE_PATH))[0] == 503
        assert (await world.get("/fleet"))[0] == 200
        await streams[0].aclose()
        assert not world.feed.full
        waiting = [asyncio.ensure_future(anext(frames, None)) for frames in streams[1:]]
        await world.fake.sleep(0.1)
        world.feed.close()
        assert await asyncio.gather(*waiting) == [None] * (MAX_STREAMS - 1)
        assert (await world.get(LIVE_PATH))[0] == 503

    play(world.fake, story())


def test_how_much_has_moved_is_known_from_where_it_began() -> None:
    """The line of a move has the share that is done, as far as this process has watched."""
    world = World()

    async def story() -> None:
        feeding = asyncio.create_task(world.feed.run())
        world.is_in_hand()
        await world.fake.sleep(1)
        has = world.registry.contents
        assert has.slot_map is not None
        has.slot_map = after_move(has.slot_map)
        world.page()
        await world.fake.sleep(2)
        assert world.page()["moving"]["left"] < world.page()["moving"]["most"] == 683
        feeding.cancel()

    play(world.fake, story())


def test_a_cell_and_a_key_have_the_rows_of_the_commands() -> None:
    """What there is not is told as such, and a lost registry as 503."""
    world = World()

    async def story() -> None:
        feeding = asyncio.create_task(world.feed.run())
        await world.fake.sleep(1)
        found = await world.json("/fleet/cell", f"cell={SICK}")
        assert dict(found["summary"])["verdict"] == "healthy: no rule says that anything is wrong"
        assert dict(found["evidence"])["canary"] == "11.0 ms"
        assert found["components"] == [["worker", "well"], ["sink", "not well: Firehose: throttled"]]
        assert [peer["cell_id"] for peer in found["peers"]] == list(world.names)
        assert [entry["action"] for entry in found["audit"]] == ["launch", "admit"]
        assert found["past"]["health"][-1] == "well"
        key = "tenant/ä 1"
        found = await world.json("/fleet/key", f"key={quote(key)}")
        rows = dict(found.pop("rows"))
        assert (rows["key"], rows["cell"].endswith(", serving")) == (key, True)
        cell = rows["cell"].partition(",")[0]
        undecided = {"pinned": False, "limited": False, "weight": 1, "priority": "normal", "quarantined": False}
        assert found == undecided | {"cell": cell}
        world.is_in_hand()
        assert (await world.json("/fleet/key", "key=acme"))["limited"]
        assert (await world.json("/fleet/key", "key=globex"))["quarantined"]
        assert (await world.get("/fleet/cell", "cell=cell-9999"))[0] == 404
        world.registry.down = True
        assert (await world.get("/fleet/cell", f"cell={SICK}"))[0] == 503
        assert await world.json("/fleet/key", "key=a") == {"detail": "the registry: is down"}
        world.registry.down, world.registry.contents.slot_map = False, None
        assert (await world.get("/fleet/key", "key=a"))[0] == 503
        feeding.cancel()

    play(world.fake, story())


def test_an_instance_is_asked_seldom_however_many_pages_are_open() -> None:
    """And one that does not answer costs the page nothing but that row."""
    world = World()

    async def story() -> None:
        for _ in range(20):
            await asyncio.gather(*(world.json("/fleet/cell", f"cell={SICK}") for _ in range(5)))
            await world.fake.sleep(0.5)
        assert world.asked == [SICK, SICK]
        found = await world.json("/fleet/cell", "cell=cell-0001")
        assert found["components"] == [["its instance", "does not tell: no answer"]]
        assert found["summary"]

    play(world.fake, story())


def test_the_last_hour_is_there_for_a_page_that_is_opened_now() -> None:
    """That of all cells whole, and the last minutes of each."""
    world = World()

    async def story() -> None:
        feeding = asyncio.create_task(world.feed.run())
        await world.fake.sleep(61)
        past = await world.json("/fleet/history")
        assert (past["step_ms"], len(past["fleet"]["rate"])) == (10_000, 360)
        assert len(past["cells"][SICK]["latency_ms"]) == 60
        assert [health for health in past["fleet"]["health"] if health] == ["well"] * 7
        feeding.cancel()

    play(world.fake, story())


def test_the_audit_is_searched_by_words_and_paged_from_the_newest() -> None:
    """Each word has to be somewhere in who, what, which cell or why, whatever its case."""
    world = World()
    world.registry.contents.audit.clear()
    for number in range(120):
        world.audit("replace" if number % 2 else "admit", f"cell-{number % 4:04}", f"entry {number}", "Ada@bastion")

    async def whys(query: str) -> list[str]:
        return [entry["why"] for entry in await world.json("/audit", query)]

    async def story() -> None:
        assert await whys("limit=2") == ["entry 118", "entry 119"]
        assert await whys("limit=2&skip=2") == ["entry 116", "entry 117"]
        assert await whys("limit=3&skip=118") == ["entry 0", "entry 1"]
        assert await whys("limit=2&skip=200") == []
        assert await whys("limit=2&find=ada+REPLACE+cell-0003") == ["entry 115", "entry 119"]
        assert await whys("limit=2&skip=2&find=cell-0003") == ["entry 107", "entry 111"]
        assert await whys("find=nobody") == []

    run(story())


def test_the_files_of_the_page_are_kept_by_browsers_and_are_in_the_wheel() -> None:
    """Each has a path with the version of all of them, so that none is ever older than the others."""
    world = World()

    async def story() -> None:
        kinds = {"main.js": b"text/javascript", "page.css": b"text/css", "icon.svg": b"image/svg+xml"}
        for name, kind in kinds.items():
            status, headers, content = await world.get(f"/static/{VERSION}/{name}")
            assert (status, content) == (200, FILES[name])
            assert headers[b"content-type"].startswith(kind)
            assert b"immutable" in headers[b"cache-control"]
        assert (await world.get("/static/older/main.js"))[0] == 404

    run(story())
    named = re.findall(rb'(?:src|href)="static/([^/]+)/([^"]+)"', INDEX)
    assert {version.decode() for version, _ in named} == {VERSION}
    imported = {name for content in FILES.values() for name in re.findall(rb'from "\./([^"]+)"', content)}
    assert {name.decode() for name in {name for _, name in named} | imported} == set(FILES)
    tool = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]
    patterns, package = tool["setuptools"]["package-data"]["router"], REPOSITORY / "router"
    there = {path.relative_to(package).as_posix() for path in (package / "api" / "static").iterdir()}
    assert {path for path in there if any(fnmatch(path, pattern) for pattern in patterns)} == there
    assert {path.rpartition("/")[2] for path in there} == {*FILES, "index.html"}


def test_the_files_of_the_page_are_short() -> None:
    """A reader can keep each of them in mind."""
    assert {name: lines for name, content in FILES.items() if (lines := content.count(b"\n")) > 400} == {}
