"""A lane compared with a model: bounded, fair, nothing lost, nothing twice, suspects alone."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.core.lanes.lane import LAST_RETRY_S, Lane, LaneLimits
from router.core.models import Target

LIMITS = LaneLimits(share_events=12, share_bytes=1000, batch_events=5, batch_bytes=300)
CAPS = {"a": 0, "b": 1, "c": 2}
CONCURRENCY = {1: 8, 2: 3, 3: 1}  # by generation


def target(generation: int) -> Target:
    """An instance of the lane's cell."""
    return Target("cell-0000", generation, f"127.0.0.1:{9000 + generation}", CONCURRENCY[generation], 1)


@dataclass(frozen=True)
class Item:
    """An event. Numbers grow in the order of arrival."""

    number: int
    key: str
    size: int
    from_hold: bool
    suspect: bool

    def rank(self) -> tuple[bool, bool, int]:
        """Its place in the order in which everything is given back."""
        return not self.suspect, not (self.from_hold or self.suspect), self.number


class LaneModel(RuleBasedStateMachine):
    """Every item offered is refused, waits, is in flight, or was handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.lane: Lane[Item] = Lane(LIMITS)
        self.lane.retarget(target(1))
        self.now = 0.0
        self.offered = 0
        self.waiting: set[Item] = set()
        self.in_flight: dict[Item, int] = {}  # item → generation
        self.last = 1  # the generation that it had
        self.probing = False

    def bytes(self) -> int:
        """The bytes of all that waits and is in flight."""
        return sum(item.size for item in (*self.waiting, *self.in_flight))

    def room(self) -> int:
        """The room that is left of the lane's share."""
        left = LIMITS.share_events - len(self.waiting) - len(self.in_flight)
        return max(0, left) if self.bytes() < LIMITS.share_bytes else 0

    def at_target(self) -> list[Item]:
        """The items in flight at the present instance."""
        assert self.lane.target is not None
        return [item for item, generation in self.in_flight.items() if generation == self.lane.target.generation]

    def in_flight_of(self, key: str) -> int:
        """How many items of a key, without suspects, are in flight at any instance."""
        return sum(item.key == key and not item.suspect for item in self.in_flight)

    def passable_keys(self) -> set[str]:
        """The keys that have items waiting and are below their cap."""
        keys = {item.key for item in self.waiting if not item.suspect}
        return {key for key in keys if not CAPS[key] or self.in_flight_of(key) < CAPS[key]}

    def suspects(self) -> list[Item]:
        """The suspects that wait, oldest first."""
        return sorted((item for item in self.waiting if item.suspect), key=Item.rank)

    @rule(
        keys=st.lists(st.sampled_from("abc"), min_size=1, max_size=10),
        size=st.integers(0, 400) | st.integers(0, 9),
        kind=st.sampled_from(["new", "new", "held", "suspect", "held suspect"]),
    )
    def offer(self, keys: list[str], size: int, kind: str) -> None:
        """Offer an item: it is taken in if, and only if, the path is passable."""
        for key in keys:
            item = Item(self.offered, key, size, "held" in kind, "suspect" in kind)
            self.offered += 1
            expected = self.lane.passable(self.now)
            taken = self.lane.offer(
                key, item, size, from_hold=item.from_hold, now=self.now, cap=CAPS[key], suspect=item.suspect
            )
            assert taken == expected
            if taken:
                self.waiting.add(item)

    @rule()
    def take(self) -> None:
        """Take a batch: as much as may pass, in the order of each key; a suspect goes first, and alone."""
        lane, passable = self.lane, self.passable_keys()
        suspects = self.suspects()
        batch = lane.take(self.now)
        if lane.target is None or not lane.passable(self.now):
            assert not batch
            return
        in_flight = self.at_target()
        room = min(lane.window, lane.target.concurrency) - len(in_flight)
        assert lane.window <= (1 if self.probing else lane.target.concurrency)
        if room <= 0:
            assert not batch
        elif suspects and not any(item.suspect for item in in_flight):
            assert [item for item, _ in batch] == suspects[:1]
            self.left(batch)
        else:
            assert bool(batch) == bool(passable)
            self.left(batch)
            self.is_full(batch, room)

    def left(self, batch: list[tuple[Item, int]]) -> None:
        """Count the batch as in flight from now on."""
        for item, size in batch:
            assert item in self.waiting
            assert size == item.size
            first = min((i for i in self.waiting if (i.key, i.suspect) == (item.key, item.suspect)), key=Item.rank)
            assert item is first
            assert item.suspect or item.key in self.passable_keys()
            self.waiting.remove(item)
            assert self.lane.target is not None
            self.in_flight[item] = self.lane.target.generation

    def is_full(self, batch: list[tuple[Item, int]], room: int) -> None:
        """A batch keeps all limits, and ends only because of one of them."""
        size = sum(size for _, size in batch)
        assert len(batch) <= min(room, LIMITS.batch_events)
        assert len(batch) <= 1 or size <= LIMITS.batch_bytes
        if len(batch) < min(room, LIMITS.batch_events):
            next_size = self.lane._queue.next_size()
            assert next_size is None or size + next_size > LIMITS.batch_bytes
            assert (next_size is None) == (not self.passable_keys())

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), latency=st.floats(0, 10) | st.none())
    def settle(self, data: st.DataObject, latency: float | None) -> None:
        """Settle an item in flight; with a latency when the instance has answered it."""
        item = data.draw(st.sampled_from(sorted(self.in_flight, key=Item.rank)))
        generation = self.in_flight[item]
        if latency is not None:
            self.lane.timed(latency, generation)
        del self.in_flight[item]
        self.lane.settled(item.key, item.size, generation, suspect=item.suspect)

    @rule()
    def answered(self) -> None:
        """Report that a batch came to its end, which ends the probing."""
        self.lane.answered()
        self.probing = False

    @rule(most=st.integers(1, 20))
    def shed(self, most: int) -> None:
        """Shed the newest, no more than needed or asked for; from hold stays, and suspects up to half a share."""
        shed = self.lane.shed(most)
        assert len(shed) <= most
        for item in shed:
            assert self.room() == 0
            waiting = self.suspects()
            if item.suspect:
                assert len(waiting) > LIMITS.share_events // 2
                assert item is waiting[-1]
            else:
                assert not item.from_hold
                assert len(waiting) <= LIMITS.share_events // 2
                new = [i for i in self.waiting if not i.from_hold and not i.suspect]
                backlog = max(sum(i.key == key for i in new) for key in CAPS)
                assert sum(i.key == item.key for i in new) == backlog
                assert item.number == max(i.number for i in new if i.key == item.key)
            self.waiting.remove(item)
        if self.room() == 0 and len(shed) < most:
            assert all(item.from_hold or item.suspect for item in self.waiting)
            assert len(self.suspects()) <= LIMITS.share_events // 2

    @rule()
    def fail(self) -> None:
        """Fail: all that waits comes back, suspects first, then what came from hold, then the rest."""
        assert self.lane.failed(self.now) == sorted(self.waiting, key=Item.rank)
        self.waiting.clear()
        self.probing = True
        assert not self.lane.passable(self.now)

    @rule()
    def clear(self) -> None:
        """Clear: all that waits comes back, and the path stays as it is."""
        passable = self.lane.passable(self.now)
        assert self.lane.clear() == sorted(self.waiting, key=Item.rank)
        self.waiting.clear()
        assert self.lane.passable(self.now) == passable

    @rule(wanted=st.sets(st.sampled_from(sorted(CAPS))))
    def take_out(self, wanted: set[str]) -> None:
        """Take out some keys: all that waits of them comes back."""
        expected = [item for item in sorted(self.waiting, key=Item.rank) if item.key in wanted]
        assert self.lane.take_out(lambda key: key in wanted) == expected
        self.waiting.difference_update(expected)

    @rule(generation=st.none() | st.sampled_from(sorted(CONCURRENCY)))
    def retarget(self, generation: int | None) -> None:
        """Retarget: another instance is tried at once, with more than one event; the same one is not."""
        before, passable = self.lane.target, self.lane.passable(self.now)
        self.lane.retarget(target(generation) if generation else None)
        if generation is None:
            self.probing = False
            assert self.lane.window == 0
            assert not self.lane.passable(self.now)
        elif before is None or before.generation != generation:
            self.probing = False
            again = generation == self.last
            assert self.lane.window == (CONCURRENCY[generation] if again else max(1, CONCURRENCY[generation] // 8))
            self.last = generation
            assert self.lane.passable(self.now)
        else:
            assert self.lane.passable(self.now) == passable

    @rule(seconds=st.floats(0, LAST_RETRY_S))
    def wait(self, seconds: float) -> None:
        """Let some time pass."""
        self.now += seconds

    @invariant()
    def knows_what_it_has(self) -> None:
        """The counts and bytes of the lane agree with the model."""
        lane = self.lane
        assert lane.waiting == len(self.waiting)
        assert lane.in_flight == len(self.in_flight)
        assert lane.bytes == self.bytes()
        for key in CAPS:
            assert lane.waiting_of(key) == sum(item.key == key and not item.suspect for item in self.waiting)

    @invariant()
    def says_how_much_room_there_is(self) -> None:
        """New events get what is left of the share; those from hold at least half a share, at most a whole one."""
        lane = self.lane
        assert lane.room() == self.room()
        assert lane.lacks_events(self.now) == (lane.passable(self.now) and self.room() > 9)
        held = sum(item.from_hold or item.suspect for item in self.waiting)
        if self.bytes() >= 2 * LIMITS.share_bytes:
            assert lane.room_for_held() == 0
        else:
            assert lane.room_for_held() >= max(self.room(), LIMITS.share_events // 2 - held)
            assert lane.room_for_held() <= max(0, LIMITS.share_events - held)

    def teardown(self) -> None:
        """In the end the lane remembers nothing of items that are gone."""
        for item, generation in self.in_flight.items():
            self.lane.settled(item.key, item.size, generation, suspect=item.suspect)
        self.lane.clear()
        assert not self.lane._in_flight_at
        assert not self.lane._suspect_at
        assert not self.lane._queue._keys

    @invariant()
    def knows_whether_it_probes(self) -> None:
        """The lane probes from a failure on until an answer."""
        assert self.lane.probing == self.probing


TestLane = LaneModel.TestCase
