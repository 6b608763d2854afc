"""A lane against a model: bounded, fair, nothing lost, nothing twice; then the cases that read better as stories."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.core.lane import LAST_RETRY_S, Lane, LaneLimits
from router.core.models import Target

LIMITS = LaneLimits(share_events=12, share_bytes=1000, batch_events=5, batch_bytes=300)


def target(generation: int = 1, concurrency: int = 8) -> Target:
    """An instance of the lane's cell."""
    return Target("cell-0000", generation, f"127.0.0.1:{9000 + generation}", concurrency, 1)


@dataclass(frozen=True)
class Item:
    """What the model knows of an event."""

    number: int
    key: str
    size: int
    held: bool
    suspect: bool


class LaneModel(RuleBasedStateMachine):
    """Every item offered is refused, waits, is in flight, or was handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.lane: Lane[Item] = Lane(LIMITS)
        self.now = 0.0
        self.next = 0
        self.waiting: list[Item] = []
        self.flying: list[tuple[Item, int]] = []  # with their generations
        self.caps: dict[str, int] = {}

    def at_target(self) -> list[Item]:
        """In flight at the present instance, since it is the present one."""
        now = self.lane.target
        return [item for item, generation in self.flying if now is not None and generation == now.generation]

    @rule(key=st.sampled_from("abc"), size=st.integers(0, 400), held=st.booleans(), rare=st.integers(0, 9))
    def offer(self, key: str, size: int, held: bool, rare: int) -> None:
        """Taken in only when passable."""
        item, self.next = Item(self.next, key, size, held, suspect=rare == 0), self.next + 1
        expected = self.lane.passable(self.now)
        cap = 2 if key == "c" else 0
        taken = self.lane.offer(key, item, size, held=held, now=self.now, cap=cap, suspect=item.suspect)
        assert taken == expected
        if expected:
            self.waiting.append(item)

    @rule()
    def take(self) -> None:
        """Within window, batch and caps; in order within a key; a suspect alone."""
        window = self.lane.window
        before = self.at_target()
        taken = [item for item, _ in self.lane.take(self.now)]
        if self.lane.target is None or not self.lane.passable(self.now):
            assert not taken
            return
        assert len(before) + len(taken) <= max(window, len(before))
        assert window <= self.lane.target.concurrency
        assert len(taken) <= LIMITS.batch_events
        assert len(taken) <= 1 or sum(item.size for item in taken) <= LIMITS.batch_bytes
        for item in taken:
            self.waiting.remove(item)
            self.flying.append((item, self.lane.target.generation))
            first = [i for i in self.waiting if i.key == item.key and i.suspect == item.suspect]
            later = [i for i in first if (i.held, -i.number) > (item.held, -item.number)]
            assert item.suspect or not later
        suspects = [item for item in self.at_target() if item.suspect]
        assert len(suspects) <= 1
        assert len(taken) == 1 or not any(item.suspect for item in taken)
        capped = [item for item, _ in self.flying if item.key == "c" and not item.suspect]
        assert len(capped) <= 2

    @rule(pick=st.integers(0, 100))
    def settle(self, pick: int) -> None:
        """One in flight has its result."""
        if self.flying:
            item, generation = self.flying.pop(pick % len(self.flying))
            self.lane.timed(0.01, generation)
            self.lane.settled(item.key, item.size, generation, suspect=item.suspect)

    @rule()
    def shed(self) -> None:
        """New ones only, the newest of their keys, and no more than it takes to be within the share again."""
        excess = self.lane.shed()
        for position, item in enumerate(excess):
            self.waiting.remove(item)
            assert not item.held
            assert not item.suspect
            kept = [*self.waiting, *excess[position + 1 :]]
            assert all(i.number < item.number for i in kept if i.key == item.key and not (i.held or i.suspect))
        assert self.lane.room() > 0 or not [i for i in self.waiting if not (i.held or i.suspect)]
        if excess:
            last = excess[-1]
            held_bytes = sum(i.size for i in [*self.waiting, last]) + sum(i.size for i, _ in self.flying)
            held = len(self.waiting) + len(self.flying) + 1
            assert held >= LIMITS.share_events or held_bytes >= LIMITS.share_bytes

    @rule()
    def fail(self) -> None:
        """Shut: all that waits comes back, suspects first, then what was held, each oldest first."""
        expected = sorted(self.waiting, key=lambda i: (not i.suspect, not (i.held or i.suspect), i.number))
        assert self.lane.failed(self.now) == expected
        self.waiting = []
        assert not self.lane.passable(self.now)

    @rule()
    def answer(self) -> None:
        """A batch came to its end."""
        self.lane.answered()
        assert not self.lane.probing

    @rule(generation=st.none() | st.integers(1, 3))
    def retarget(self, generation: int | None) -> None:
        """A changed instance is tried at once. Generations only grow, so none comes back."""
        before = self.lane.target
        if (
            generation
            and any(g == generation for _, g in self.flying)
            and (before is None or before.generation != generation)
        ):
            return
        self.lane.retarget(target(generation) if generation else None)
        if generation and (before is None or before.generation != generation):
            assert self.lane.passable(self.now)

    @rule(seconds=st.floats(0, LAST_RETRY_S))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @invariant()
    def bounded(self) -> None:
        """It knows what it holds."""
        lane = self.lane
        assert lane.waiting == len(self.waiting)
        assert lane.in_flight == len(self.flying)
        assert lane.bytes == sum(item.size for item in self.waiting) + sum(item.size for item, _ in self.flying)
        assert 0 <= lane.room() <= LIMITS.share_events
        assert 0 <= lane.room_for_held() <= LIMITS.share_events


TestLane = LaneModel.TestCase


def lane_with(count: int, now: float = 0, concurrency: int = 8) -> Lane[int]:
    """A lane with so many events of one key."""
    lane: Lane[int] = Lane(LaneLimits())
    lane.retarget(target(concurrency=concurrency))
    for item in range(count):
        assert lane.offer("k", item, 1, held=False, now=now)
    return lane


def test_the_window_is_the_cells_concurrency() -> None:
    """No more in flight at an instance than it works on at once; a new instance has a window of its own."""
    lane = lane_with(10, concurrency=3)
    assert [item for item, _ in lane.take(0)] == [0, 1, 2]
    assert lane.take(0) == []
    lane.settled("k", 1, 1)
    assert [item for item, _ in lane.take(0)] == [3]
    lane.retarget(target(2, concurrency=2))
    assert [item for item, _ in lane.take(0)] == [4, 5]
    lane.settled("k", 1, 1)
    assert lane.take(0) == []


def test_after_a_failure_one_event_goes_until_the_cell_answers() -> None:
    """A cell that is still dead costs one event a try, not a batch; then the window opens from its half."""
    lane = lane_with(0)
    lane.failed(0.0)
    for item in range(6):
        assert lane.offer("k", item, 1, held=False, now=1)
    assert [item for item, _ in lane.take(1)] == [0]
    assert lane.take(1) == []
    lane.settled("k", 1, 1)
    lane.answered()
    assert [item for item, _ in lane.take(1)] == [1, 2, 3, 4]


def test_what_comes_from_the_hold_queue_has_room_of_its_own() -> None:
    """However many new events there are, half a share is left for it."""
    lane: Lane[int] = Lane(LIMITS)
    lane.retarget(target())
    for item in range(50):
        lane.offer("k", item, 1, held=False, now=0)
    assert lane.room() == 0
    assert lane.room_for_held() == 6
    for item in range(6):
        lane.offer("k", 100 + item, 1, held=True, now=0)
    assert lane.room_for_held() == 0


def test_back_off_grows_and_a_full_answer_ends_it() -> None:
    """0.2 s, 0.4 s, … at most 5 s, until the cell answers again."""
    lane: Lane[int] = Lane(LaneLimits())
    lane.retarget(target())
    pauses = []
    for number in range(7):
        now = 100.0 * number
        lane.failed(now)
        lane.failed(now + 0.1)  # another batch of the same failure
        pauses.append(next(t / 10 for t in range(1000) if lane.passable(now + t / 10)))
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    lane.answered()
    lane.failed(900.0)
    assert lane.passable(900.21)
