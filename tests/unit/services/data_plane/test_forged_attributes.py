"""A sender who writes a router's own attributes gets no key into quarantine, on whichever queue it may write."""

from __future__ import annotations

import json

import pytest

from router.core.messages.parser import KILLED, UNANSWERED, held_draft
from router.core.messages.proofs import ATTEMPT, PROOF
from router.core.models import Draft, Event
from router.core.telemetry import BadInput, KeyQuarantined
from tests.support.attribute_keys import KEYS
from tests.support.fake_clock import play
from tests.support.router_world import World

VICTIM = "victim"


def event(name: str) -> Event:
    """An event of the key that somebody wants to harm."""
    return Event(name, VICTIM, json.dumps({"event_id": name, "tenant": VICTIM}).encode())


@pytest.mark.parametrize("where", ["source", "hold", "quarantine"])
@pytest.mark.parametrize("proof", [None, "f" * 32, "moved"])
def test_a_forged_history_quarantines_no_key(where: str, proof: str | None) -> None:
    """Nor does it use up attempts: each event has its effect once, and the forgery is told once, not for each."""
    world = World()

    async def story() -> None:
        cell_id = world.owner(VICTIM)
        for _ in range(4):
            world.replace(cell_id)
        queue = {"source": world.source, "hold": world.holds[cell_id], "quarantine": world.quarantine}[where]
        honest = held_draft(event("honest"), 0, KEYS)
        moved = {PROOF: honest.attributes[PROOF] if proof == "moved" else proof} if proof else {}
        for n in range(5):
            history = {ATTEMPT: "99", UNANSWERED: "1,2,3", KILLED: "1,2", **moved}
            attributes = {"event_id": f"e{n}", "partition_key": VICTIM, **history}
            await queue.send([Draft(event(f"e{n}").body.decode(), attributes)])
        async with world.routing():
            await world.settled()
            while len(world.quarantine):
                await world.clock.sleep(0.5)
        assert set(world.cells.effects()) == {f"e{n}" for n in range(5)}
        assert world.notes.count(KeyQuarantined) == 0
        assert len(world.dead) == 0
        told = [record for record in world.notes.records if isinstance(record, BadInput)]
        assert [record.source for record in told] == ["message attributes"]

    play(world.clock, story())


def test_what_a_router_writes_itself_still_counts() -> None:
    """The same history, signed, puts the key in quarantine."""
    world = World()

    async def story() -> None:
        cell_id = world.owner(VICTIM)
        for _ in range(4):
            world.replace(cell_id)
        suspect = Event("e", VICTIM, event("e").body, 2, (1, 2, 3), (1, 2))
        await world.source.send([held_draft(suspect, 0, KEYS)])
        async with world.routing():
            while not world.notes.count(KeyQuarantined):
                await world.clock.sleep(0.5)
        assert not [record for record in world.notes.records if isinstance(record, BadInput)]

    play(world.clock, story())
