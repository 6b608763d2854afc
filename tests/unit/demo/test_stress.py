"""A stress run: an open loop whose times nothing delays, its report, its picture, and what it compares."""

from __future__ import annotations

import random  # noqa: TID251 - seeded: the test owns chance too
import xml.etree.ElementTree as ET  # the picture is our own
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from router.adapters.memory import MemorySource
from router.api.stress import StressObserver
from router.cli.main import app
from router.core.load.findings import Figures, Knee, LoadReport, PhaseFound, PhaseSent, RouterSaid, Totals
from router.core.load.marks import ATTRIBUTE, read_mark
from router.core.load.profiles import Profile, phases_of, shots
from router.core.messages.parser import Extraction
from router.core.models import Draft, Outcome
from router.core.telemetry import EventTimed
from router.demo.stress.events import StressError, archived, made_up, marked, read_archive
from router.demo.stress.picture import picture
from router.demo.stress.report import differences, lines_of, read_report
from router.demo.stress.sender import Sender
from tests.support.fake_clock import FakeClock, play
from tests.support.keys import SECRET
from tests.support.router_world import World

PHASES = phases_of(Profile.STEADY, 50, 10)


class SlowQueue(MemorySource):
    """A queue that takes `took_s` for every call, from a moment on."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__("source", clock)
        self.clock = clock
        self.took: list[Draft] = []

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        await self.clock.sleep(20.0 if len(self.took) > 100 else 0.001)
        self.took += drafts
        return await super().send(drafts)


def test_a_queue_that_gets_slow_moves_no_intended_time() -> None:
    """It is an open loop: no event is left out, or waits for an earlier one; that it was late is measured."""
    clock = FakeClock()
    queue, began_ms = SlowQueue(clock), clock.time_ms()
    sender = Sender("run", queue, made_up("run", 1, 0), PHASES, clock)
    wanted = list(shots(PHASES, 5, 1.0, random.Random(1).random))
    play(clock, sender.send(iter(wanted)))
    marks = [read_mark(draft.attributes[ATTRIBUTE]) for draft in queue.took]
    meant = sorted(mark.intended_ms - began_ms for mark in marks if mark is not None)
    assert meant == [round(1000 * shot.at_s) for shot in wanted]
    assert sender.sent[0].events == sender.events == len(wanted)
    assert sender.sent[0].late.quantile(0.1) < 50
    assert sender.sent[0].late.quantile(0.99) > 15_000


def test_what_the_queue_refuses_for_good_is_counted() -> None:
    """It is tried again before."""
    clock = FakeClock()
    queue = MemorySource("source", clock)
    queue.down = True
    sender = Sender("run", queue, made_up("run", 1, 0), PHASES, clock)
    play(clock, sender.send(shots(PHASES, 5, 1.0, random.Random(1).random)))
    assert sender.events == 0
    assert sender.sent[0].refused > 400


def test_routers_time_marked_events_from_when_they_were_meant_to_be_sent() -> None:
    """Through a hold queue too: one that fails first is timed by its own mark. Without a mark nothing is counted."""
    world, observer = World(cells=2), StressObserver()
    for cell in world.cells.cells.values():
        cell.behaviour = lambda event, cell=cell: (  # type: ignore[misc] # bound at once
            Outcome.FAILED if b'"n": 3,' in event.body and cell.deliveries[event.event_id] == 1 else Outcome.OK
        )

    async def story() -> None:
        sender = Sender("run", world.source, made_up("run", 1, 0), PHASES, world.clock)
        few = [shot for shot in shots(PHASES, 5, 1.0, random.Random(1).random) if shot.at_s < 1]
        await world.source.send([Draft('{"tenant": "a"}'), Draft('{"tenant": "b"}', {ATTRIBUTE: "no mark"})])
        await sender.send(iter(few))
        await world.clock.sleep(5)
        async with world.routing():
            await world.clock.sleep(60)
        for record in world.notes.records:
            if isinstance(record, EventTimed):
                observer.handlers[EventTimed](record)
        raw = msgspec.json.encode(observer.tallies.view("run"))
        totals = Totals([msgspec.json.decode(raw, type=RouterSaid)])
        assert totals.done == {0: len(few)}
        assert totals.failures == {0: 1}
        times = [latencies.quantile(0.0001) for latencies in totals.tenants[0].values()]
        assert min(times) > 4000

    play(world.clock, story())


def test_an_archive_keeps_its_keys_and_is_read_before_anything_is_sent(tmp_path: Path) -> None:
    """Each round has ids of its own, so that no event is taken for one of before."""
    file = tmp_path / "archive.jsonl"
    file.write_text('{"tenant": "acme"}\n\n{"tenant": "other"}\n')
    make = archived("run", read_archive(file, Extraction()))
    shot = next(iter(shots(PHASES, 1, 1.0, random.Random(1).random)))
    found = [make(shot, number) for number in range(4)]
    assert [message.key for message in found] == ["acme", "other"] * 2
    assert len({message.draft.attributes["event_id"] for message in found}) == 4
    mark = read_mark("run:0:1")
    assert mark is not None
    fifo = marked(found[0], mark, fifo=True)
    assert (fifo.group_id, fifo.attributes[ATTRIBUTE]) == ("acme", "run:0:1")
    file.write_text('{"tenant": "acme"}\n{"n": 1}\n')
    with pytest.raises(StressError, match="line 2: no partition key"):
        read_archive(file, Extraction())


def report(p99: float = 40.0, knee: float = 200.0) -> LoadReport:
    """What a ramp of two phases has found."""
    phases = tuple(
        PhaseFound(
            PhaseSent(f"step {n}", 100.0 * n, 10, 1000, 0, 1.0, 0, 0),
            Figures(1000, 5, 10, p99 * n, 90 * n),
            0,
            0,
            {"cell-0000": Figures(500, 5, 10, p99, 90), "<script>": Figures(500, 5, 10, 2 * p99, 90)},
            {"tenant-00001": Figures(5, 5, 10, p99, 90)},
        )
        for n in (1, 2)
    )
    return LoadReport("stress", "ramp", 200, 20, 9, 1.1, 1, 7, "run", 3, phases, Knee(knee, "p99 was high"))


def test_the_picture_shows_load_latency_knee_and_cells() -> None:
    """It is well-formed whatever cells are called, and an earlier run is dashed."""
    for text in (picture(report()), picture(report(), before=report(80))):
        drawn = ET.fromstring(text)
        texts = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
        assert "knee 200" in texts
        assert {"p50", "p99.9", "cell-0000", "<script>", "100", "200"} <= set(texts)
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline[@stroke-dasharray]")) == 4
    heights = [
        float(line.split("points=")[1].split(",")[1].split()[0].strip('"')) for line in _lines(picture(report()))
    ]
    assert heights == sorted(heights, reverse=True)  # p99.9 is above p50
    assert ET.fromstring(picture(msgspec.structs.replace(report(), phases=()))) is not None


def _lines(svg: str) -> list[str]:
    return [line for line in svg.splitlines() if line.startswith("<polyline")]


def test_two_runs_are_compared_by_their_files(tmp_path: Path) -> None:
    """What differs by more than chance is said, and what makes the two unlike."""
    file = tmp_path / "before.json"
    file.write_bytes(msgspec.json.encode(report()))
    before = read_report(file)
    assert before == report()
    assert list(differences(before, report())) == []
    said = list(differences(before, msgspec.structs.replace(report(60, knee=100), seed=2)))
    assert said == [
        "note: seed was 1 and is 2: the runs are not alike",
        "knee: 200 → 100 events/s",
        "step 1: p99 40 → 60 ms (+50 %)",
        "step 2: p99 80 → 120 ms (+50 %)",
    ]
    assert any("Not done at the end: 3 events" in line for line in lines_of(report()))
    for content in (b"{}", b"[", b'{"phases": 1}', b"\xff"):
        file.write_bytes(content)
        with pytest.raises(StressError, match="is no report"):
            read_report(file)


def test_live_gets_no_load(tmp_path: Path) -> None:
    """Neither by name, nor by a configuration that is of another environment than the one that is named."""
    environ = {"CELLROUTER_SECRET": SECRET, "XDG_STATE_HOME": str(tmp_path)}
    refused = CliRunner().invoke(app, ["stress", "--env", "live"], env=environ)
    assert isinstance(refused.exception, StressError)
    assert "gets no load" in str(refused.exception)
    other = CliRunner().invoke(app, ["stress", "--env", "stress"], env=environ)
    assert other.exit_code == 2
    assert "the configuration is that of live" in other.output
