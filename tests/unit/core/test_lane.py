"""A lane against a model: bounded, in order, nothing lost, nothing twice."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.core.lane import LAST_RETRY_S, Lane, LaneLimits
from router.core.models import Target

LIMITS = LaneLimits(share_events=12, share_bytes=1000, batch_events=5, batch_bytes=300)


def target(generation: int = 1, concurrency: int = 8) -> Target:
    """An instance of the lane's cell."""
    return Target("cell-0000", generation, f"127.0.0.1:{9000 + generation}", concurrency, 1)


class LaneModel(RuleBasedStateMachine):
    """Every item offered is refused, waits, is in flight, or was handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.lane: Lane[int] = Lane(LIMITS)
        self.now = 0.0
        self.next = 0
        self.waiting: dict[bool, list[int]] = {True: [], False: []}
        self.flying: dict[int, tuple[int, int]] = {}  # item → size, generation
        self.sizes: dict[int, int] = {}

    @rule(size=st.integers(0, 400), held=st.booleans())
    def offer(self, size: int, held: bool) -> None:
        """Taken in only when passable."""
        item, self.next = self.next, self.next + 1
        expected = self.lane.passable(self.now)
        assert self.lane.offer(item, size, held=held, now=self.now) == expected
        if expected:
            self.waiting[held].append(item)
            self.sizes[item] = size

    @rule()
    def take(self) -> None:
        """Held ones first, each in order; within window and batch."""
        taken = self.lane.take(self.now)
        order = self.waiting[True] + self.waiting[False]
        assert [item for item, _ in taken] == order[: len(taken)]
        assert len(taken) <= LIMITS.batch_events
        assert len(taken) <= 1 or sum(size for _, size in taken) <= LIMITS.batch_bytes
        if self.lane.target is None or not self.lane.passable(self.now):
            assert not taken
        for item, size in taken:
            (self.waiting[True] if item in self.waiting[True] else self.waiting[False]).remove(item)
            assert self.lane.target is not None
            self.flying[item] = (size, self.lane.target.generation)

    @rule(pick=st.integers(0, 100))
    def settle(self, pick: int) -> None:
        """One in flight has its result."""
        if self.flying:
            item = sorted(self.flying)[pick % len(self.flying)]
            self.lane.settled(*self.flying.pop(item))

    @rule()
    def shed(self) -> None:
        """The newest new ones, and no more than it takes to be within the share again."""
        excess = self.lane.shed()
        kept = self.waiting[False][: len(self.waiting[False]) - len(excess)]
        assert kept + excess[::-1] == self.waiting[False]
        self.waiting[False] = kept
        assert self.lane.room() > 0 or not kept
        if excess:
            sizes = [self.sizes[i] for i in self.waiting[True] + kept + excess[-1:]]
            held_bytes = sum(sizes) + sum(size for size, _ in self.flying.values())
            held = self.lane.waiting + self.lane.in_flight + 1
            assert held >= LIMITS.share_events or held_bytes >= LIMITS.share_bytes

    @rule()
    def fail(self) -> None:
        """Shut: all that waits comes back, oldest held ones first."""
        assert self.lane.failed(self.now) == self.waiting[True] + self.waiting[False]
        self.waiting = {True: [], False: []}
        assert not self.lane.passable(self.now)

    @rule(generation=st.none() | st.integers(1, 3))
    def retarget(self, generation: int | None) -> None:
        """A changed instance is tried at once."""
        before = self.lane.target
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
        assert lane.waiting == len(self.waiting[True]) + len(self.waiting[False])
        assert lane.in_flight == len(self.flying)
        sizes = [self.sizes[i] for queue in self.waiting.values() for i in queue]
        assert lane.bytes == sum(sizes) + sum(size for size, _ in self.flying.values())


TestLane = LaneModel.TestCase


def test_the_window_is_the_cells_concurrency() -> None:
    """No more in flight at an instance than it works on at once; a new instance has a window of its own."""
    lane: Lane[int] = Lane(LaneLimits())
    lane.retarget(target(concurrency=3))
    for item in range(10):
        assert lane.offer(item, 1, held=False, now=0)
    assert [item for item, _ in lane.take(0)] == [0, 1, 2]
    assert lane.take(0) == []
    lane.settled(1, 1)
    assert [item for item, _ in lane.take(0)] == [3]
    lane.retarget(target(2, concurrency=2))
    assert [item for item, _ in lane.take(0)] == [4, 5]
    lane.settled(1, 1)
    assert lane.take(0) == []


def test_after_a_failure_one_event_goes_until_the_cell_answers() -> None:
    """A cell that is still dead costs one event a try, not a batch."""
    lane: Lane[int] = Lane(LaneLimits())
    lane.retarget(target())
    lane.failed(0.0)
    for item in range(5):
        assert lane.offer(item, 1, held=False, now=1)
    assert [item for item, _ in lane.take(1)] == [0]
    assert lane.take(1) == []
    lane.settled(1, 1)
    lane.answered()
    assert [item for item, _ in lane.take(1)] == [1, 2, 3, 4]


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
