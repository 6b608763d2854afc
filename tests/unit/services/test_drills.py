"""Drills on virtual time: what holds, what breaks, and that what was done is always taken back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from router.core.drills.judging import lines_of
from router.core.drills.kinds import DrillKind, under_way
from router.core.models import Message
from router.core.undo import to_undo
from router.services.drills import DrillRefusedError
from tests.support.drill_world import CELLS, VICTIM, WATCH_S, DrillWorld, in_drill_world
from tests.support.fake_cells import Sickness

OTHER = "cell-0002"


def broken(report: object) -> list[str]:
    """Name the promises that a report calls broken."""
    return [finding.promise for finding in getattr(report, "findings") if not finding.held]  # noqa: B009


def test_a_killed_instance_is_replaced_and_every_promise_holds() -> None:
    """No slot moves, no other cell notices, nothing that was sent is lost; the audit says who did what and why."""

    async def story(world: DrillWorld) -> None:
        report = await world.report(DrillKind.KILL)
        assert report.held, list(lines_of(report))
        assert broken(report) == []
        assert [finding.promise for finding in report.findings] == [
            *("0 moved", "others untouched", "others' p99", "0 lost", "served by another instance", "all well again")
        ]
        assert world.system.control.contents.cells[VICTIM].generation == 2
        assert world.audit() == [
            f"drill: kill 0000000a: {VICTIM}: its instance is killed. to see",
            "drill ended: kill 0000000a: every promise held. to see",
        ]
        assert report.keys["before"].keys() == {f"cell-{i:04d}" for i in range(CELLS)}
        assert min(keys.events for keys in report.keys["during"].values()) > 80

    in_drill_world(story)


def test_an_evacuated_cell_has_its_share_again_and_undo_knows_nothing_of_it() -> None:
    """The others' keys stay where they are; the drill's own changes of the policy are no person's to take back."""

    async def story(world: DrillWorld) -> None:
        before = world.system.map()
        report = await world.report(DrillKind.EVACUATE)
        assert report.held, list(lines_of(report))
        has = world.system.control.contents
        assert has.policy.draining == has.policy.cordoned == frozenset()
        assert abs(world.system.map().counts()[VICTIM] - before.counts()[VICTIM]) <= 1
        moved = [(a, b) for a, b in zip(before.owners, world.system.map().owners, strict=True) if a != b]
        assert all(VICTIM in pair for pair in moved)
        assert [line.partition(":")[0] for line in world.audit()] == [
            *("drill", "drill drain", "drill uncordon", "drill ended")
        ]
        assert to_undo(has.versions) == []

    in_drill_world(story)


def test_another_cell_that_gets_slow_stops_the_drill_and_the_deed_is_taken_back_at_once() -> None:
    """Its keys' p99 is judged as soon as there are events enough, and long before anything else would end the drill."""

    async def story(world: DrillWorld) -> None:
        drilling, deed = world.drilling(DrillKind.SLOW)
        going = asyncio.ensure_future(drilling.run())
        await world.until_told("gets slow")
        world.system.cells.cells[OTHER].sick[1] = Sickness(event_extra_s=0.3)
        await world.system.until(lambda: deed.undone > 0, "taken back", 15)
        world.system.cells.cells[OTHER].sick.clear()
        report = await going
        assert not report.held
        assert f"p99 of {OTHER}'s keys is" in (report.stopped or "")
        assert "others' p99" in broken(report)
        assert deed.undone_at - deed.done_at < WATCH_S
        assert "not every promise held" in world.audit()[-1]
        assert f"stopped: {report.stopped}" in list(lines_of(report))

    in_drill_world(story)


def test_slots_that_somebody_moves_meanwhile_stop_it_too() -> None:
    """A drill can't tell who moved them: what it promised does not hold."""

    async def meddle(world: DrillWorld) -> None:
        await world.until_told("is killed")
        await world.system.decide(lambda policy: policy.with_weight(OTHER, 1.2))

    async def story(world: DrillWorld) -> None:
        report = await world.report(DrillKind.KILL, meddle)
        assert "slots moved that this drill does not touch" in (report.stopped or "")
        assert "0 moved" in broken(report)

    in_drill_world(story)


def test_events_that_no_cell_does_are_told_as_lost() -> None:
    """A queue that loses some is a fault that nothing but counting finds."""

    async def meddle(world: DrillWorld) -> None:
        await world.until_told("is killed")
        source, receive = world.system.source, world.system.source.receive

        async def losing(max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
            messages = await receive(max_messages, wait_s, visibility_s)
            if len(messages) > 1 and not lost:
                lost.append(messages[0])
                await source.delete(messages[:1])
                return messages[1:]
            return messages

        lost: list[Message] = []
        source.receive = losing  # type: ignore[method-assign] # a broken queue

    async def story(world: DrillWorld) -> None:
        report = await world.report(DrillKind.KILL, meddle)
        assert report.stopped is None
        assert broken(report) == ["0 lost"]
        assert "1 of " in report.verdict

    in_drill_world(story)


@pytest.mark.parametrize("kind", list(DrillKind))
def test_nothing_is_done_where_not_all_is_well(kind: DrillKind) -> None:
    """Neither before it begins nor, as the audit says then, while it is watched before the deed."""

    async def story(world: DrillWorld) -> None:
        system = world.system
        await system.decide(lambda policy: policy.with_cordon(OTHER, drain=True))
        drilling, deed = world.drilling(kind)
        with pytest.raises(DrillRefusedError, match=f"cellrouter apply uncordon {OTHER}"):
            await drilling.run()
        assert world.audit() == []
        await system.decide(lambda policy: policy.without_cordon(OTHER))
        await system.until(system.at_rest, "all well again")
        going = asyncio.ensure_future(world.drilling(kind)[0].run())
        await world.until_told("before anything is done")
        await system.clock.sleep(WATCH_S / 2)
        system.machines.end(OTHER, 1)
        with pytest.raises(DrillRefusedError, match="it was not steady: cell-0002 "):
            await going
        assert [line.partition(":")[0] for line in world.audit()] == ["drill", "drill refused"]
        assert getattr(deed, "done_at", 0.0) == 0.0
        assert system.control.contents.policy.draining == frozenset()

    in_drill_world(story)


def test_of_two_at_once_one_is_done() -> None:
    """Whoever began first by the audit goes on; the other says whose drill that is."""

    async def story(world: DrillWorld) -> None:
        drills = [world.drilling(DrillKind.KILL, drill_id) for drill_id in ("0000000a", "0000000b")]
        found = await asyncio.gather(*(drilling.run() for drilling, _ in drills), return_exceptions=True)
        [refused] = [each for each in found if isinstance(each, DrillRefusedError)]
        assert "one drill at a time: me-0000000" in str(refused)
        assert sum(deed.done_at > 0 for _, deed in drills) == 1
        audit = await world.system.control.audit(1000)
        assert under_way(audit, world.system.clock.time_ms()) is None  # nothing keeps another one from beginning

    in_drill_world(story)


def test_whoever_ends_it_has_taken_back_what_it_did() -> None:
    """Ctrl-C in the middle of an evacuation leaves no cell drained, and the audit tells the end."""

    async def story(world: DrillWorld) -> None:
        going = asyncio.ensure_future(world.drilling(DrillKind.EVACUATE)[0].run())
        await world.until_told("go to the others")
        await world.system.clock.sleep(2)
        assert world.system.control.contents.policy.draining == {VICTIM}
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        assert world.system.control.contents.policy.draining == frozenset()
        assert world.audit()[-1].startswith("drill ended: evacuate 0000000a: it was interrupted")

    in_drill_world(story)


def test_a_drill_that_sees_nothing_any_more_stops_and_takes_back_once_it_can() -> None:
    """The registry is gone for longer than it goes on blindly."""

    async def meddle(world: DrillWorld) -> None:
        await world.until_told("go to the others")
        await world.system.clock.sleep(1.5)
        world.system.control.down = True
        await world.system.clock.sleep(25)
        world.system.control.down = False

    async def story(world: DrillWorld) -> None:
        report = await world.report(DrillKind.EVACUATE, meddle)
        assert "it can't be watched for 15 s" in (report.stopped or "")
        assert world.system.control.contents.policy.cordoned == frozenset()

    in_drill_world(story)


def test_a_load_that_tells_nothing_is_no_load_to_drill_by() -> None:
    """So few events that no p99 can be told, or a limit that is passed already: nothing is done."""

    async def story(world: DrillWorld) -> None:
        drilling, deed = world.drilling(DrillKind.KILL, p99_ms=1.0)
        with pytest.raises(DrillRefusedError, match="already, above 1 ms"):
            await drilling.run()
        drilling, deed = world.drilling(DrillKind.KILL, "0000000b")
        drilling._plan = replace(drilling._plan, watch_s=1.0)
        with pytest.raises(DrillRefusedError, match="watch for longer"):
            await drilling.run()
        assert deed.done_at == 0.0

    in_drill_world(story)
