"""A fair queue compared with a model: lists of arrivals by key."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.core.fairness.turns import AS_ALL, MAX_TURN, ORDER, Fairness, Priority
from router.core.lanes.fair_queue import FairQueue

KEYS = "abcd"
CAPS = {"a": 0, "b": 1, "c": 2, "d": 0}  # at the start; `recap` changes them

LONGEST_WAIT = {Priority.HIGH: 1, Priority.NORMAL: 3, Priority.LOW: 15}
"""How many items of other priorities leave at most before the next one of each, while such a one may leave."""

keys = st.sampled_from(KEYS)
fairness = st.builds(Fairness, st.integers(1, 4), st.sampled_from(Priority))


class FairQueueModel(RuleBasedStateMachine):
    """Every item pushed waits, is in flight, or was handed out; items are numbers in the order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.arrivals = 0
        self.size_of: dict[int, int] = {}
        self.key_of: dict[int, str] = {}
        self.from_hold: dict[str, list[int]] = {key: [] for key in KEYS}
        self.new: dict[str, list[int]] = {key: [] for key in KEYS}
        self.in_flight: dict[str, list[int]] = {key: [] for key in KEYS}
        self.cap = dict(CAPS)
        self.fairness: dict[str, Fairness] = {}
        self.before: dict[str, Counter[str]] = {key: Counter() for key in KEYS}
        """By key that can pass and has had no turn since: how many items of each other key left before it."""
        self.waits: Counter[Priority] = Counter()
        """By priority that can pass and has had no place since: how many items of others left before it."""

    def passable(self) -> set[str]:
        """The keys that have items waiting and are below their cap."""
        waiting = {key for key in KEYS if self.from_hold[key] or self.new[key]}
        return {key for key in waiting if not self.cap[key] or len(self.in_flight[key]) < self.cap[key]}

    def turns(self, key: str) -> Fairness:
        """How the key takes turns."""
        return self.fairness.get(key, AS_ALL)

    def all_waiting(self) -> list[int]:
        """The order in which take_out gives everything back."""
        return sorted(chain(*self.from_hold.values())) + sorted(chain(*self.new.values()))

    @rule(key=keys, size=st.integers(0, 9), from_hold=st.booleans())
    def push(self, key: str, size: int, from_hold: bool) -> None:
        """Push an item: it joins the end of its key's items from the hold queue, or of its new ones."""
        item, self.arrivals = self.arrivals, self.arrivals + 1
        self.queue.push(key, item, size, from_hold=from_hold, cap=self.cap[key])
        self.size_of[item], self.key_of[item] = size, key
        (self.from_hold if from_hold else self.new)[key].append(item)

    @rule(key=keys, size=st.integers(0, 9), cap=st.integers(0, 3))
    def recap(self, key: str, size: int, cap: int) -> None:
        """Change the cap of a key with its next item."""
        self.cap[key] = cap
        self.push(key, size, from_hold=False)

    @rule(fairness=st.dictionaries(keys, fairness))
    def weigh(self, fairness: dict[str, Fairness]) -> None:
        """Change how the keys take turns; what waits stays where it is in its key."""
        self.fairness = fairness
        self.queue.weigh(fairness)
        for before in self.before.values():
            before.clear()
        self.waits.clear()

    @precondition(lambda self: self.passable())
    @rule()
    def pop(self) -> None:
        """Pop the next item of a key that may pass: from hold before new, oldest first, and no key out of turn."""
        announced = self.queue.next_size()
        item, size = self.queue.pop()
        key = self.key_of[item]
        assert key in self.passable()
        assert size == announced == self.size_of[item]
        assert item == (self.from_hold[key] or self.new[key]).pop(0)
        self.in_flight[key].append(item)
        self.in_turn(key)

    def in_turn(self, key: str) -> None:
        """Count the turn, of which no other key or priority has waited for too many."""
        own = self.turns(key)
        self.before[key].clear()
        self.waits[own.priority] = 0
        for other in self.passable() - {key}:
            if self.turns(other).priority is own.priority:
                self.before[other][key] += 1
                assert self.before[other][key] <= own.weight, f"{key} again before {other}"
        for priority in {self.turns(other).priority for other in self.passable()} - {own.priority}:
            self.waits[priority] += 1
            assert self.waits[priority] <= LONGEST_WAIT[priority], f"{priority} waits for too many"

    @rule()
    def peek(self) -> None:
        """Ask for the next size, which changes nothing."""
        assert (self.queue.next_size() is not None) == bool(self.passable())

    @precondition(lambda self: any(self.in_flight.values()))
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        """Report one item as in flight no more."""
        key = data.draw(st.sampled_from([key for key in KEYS if self.in_flight[key]]))
        self.in_flight[key].pop()
        self.queue.done(key)

    @rule(count=st.integers(0, 6))
    def shed(self, count: int) -> None:
        """Shed: the newest new item of a key that has most for its weight; what came from the hold queue stays."""
        candidates = self.queue.shed()
        for _ in range(count):
            most = max(len(items) / self.turns(key).weight for key, items in self.new.items())
            item = next(candidates, None)
            if not most:
                assert item is None
                return
            assert item is not None
            key = self.key_of[item]
            assert len(self.new[key]) / self.turns(key).weight == most
            assert item == self.new[key].pop()

    @rule(wanted=st.sets(st.sampled_from(KEYS)))
    def take_out(self, wanted: set[str]) -> None:
        """Take out all that waits of some keys: from hold first, each kind in the order of arrival."""
        expected = [item for item in self.all_waiting() if self.key_of[item] in wanted]
        assert self.queue.take_out(lambda key: key in wanted) == expected
        for key in wanted:
            self.from_hold[key], self.new[key] = [], []

    @invariant()
    def counts(self) -> None:
        """The counts agree with the model."""
        waiting = self.all_waiting()
        assert self.queue.waiting == len(waiting)
        assert self.queue.from_hold == sum(len(items) for items in self.from_hold.values())
        assert self.queue.bytes == sum(self.size_of[item] for item in waiting)
        for key in KEYS:
            assert self.queue.waiting_of(key) == len(self.from_hold[key]) + len(self.new[key])

    @invariant()
    def remember_who_could_pass(self) -> None:
        """A key that could not pass for a while has lost its turn."""
        passable = self.passable()
        for key in KEYS:
            if key not in passable:
                self.before[key].clear()
        for priority in Priority:
            if priority not in {self.turns(key).priority for key in passable}:
                self.waits[priority] = 0

    def teardown(self) -> None:
        """In the end the queue remembers no key that has nothing left."""
        while self.queue.next_size() is not None:
            self.pop()
        for key in KEYS:
            while self.in_flight[key]:
                self.in_flight[key].pop()
                self.queue.done(key)
                while self.queue.next_size() is not None:
                    self.pop()
        assert not self.all_waiting()
        assert not self.queue._keys
        assert not any(self.queue._rings.values())


TestFairQueue = FairQueueModel.TestCase


def popped(queue: FairQueue[str], count: int) -> str:
    """Pop so many items, one after the other."""
    return "".join(queue.pop()[0] for _ in range(count) if queue.next_size() is not None)


def test_no_key_waits_behind_anothers_backlog() -> None:
    """With 100 items of one key before it, another key's first item is the second to leave."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("loud", "l", 1, from_hold=False)
    for _ in range(3):
        queue.push("quiet", "q", 1, from_hold=False)
    assert popped(queue, 8) == "lqlqlqll"


def test_what_comes_back_goes_first_within_its_key_only() -> None:
    """A key's items from the hold queue overtake its new ones, but no other key's."""
    queue: FairQueue[str] = FairQueue()
    for item, key, held in [("1", "a", False), ("2", "b", False), ("3", "b", True), ("4", "b", True)]:
        queue.push(key, item, 1, from_hold=held)
    assert popped(queue, 4) == "1342"


def test_a_key_at_its_cap_is_passed_over_until_one_of_its_items_is_done() -> None:
    """A key at its cap is passed over without cost to others, and then takes its turn again."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(3):
        queue.push("capped", "c", 7, from_hold=False, cap=1)
        queue.push("free", "f", 1, from_hold=False)
    assert popped(queue, 9) == "cfff"
    assert queue.next_size() is None
    assert queue.waiting == 2
    queue.done("capped")
    assert queue.next_size() == 7
    assert popped(queue, 9) == "c"


def test_shedding_levels_the_keys() -> None:
    """The key with most items gives its newest; what came from the hold queue would come straight back."""
    queue: FairQueue[str] = FairQueue()
    for item in "ABCDEF":
        queue.push("loud", item, 1, from_hold=False)
    for item in "uvw":
        queue.push("held", item, 1, from_hold=True)
    for item in "xy":
        queue.push("quiet", item, 1, from_hold=False)
    candidates = queue.shed()
    assert [next(candidates) for _ in range(4)] == ["F", "E", "D", "C"]
    assert sorted(candidates) == ["A", "B", "x", "y"]
    assert queue.take_out(lambda _: True) == ["u", "v", "w"]


def test_keys_that_were_shed_leave_nothing_behind_while_nothing_can_be_sent() -> None:
    """A hung cell sends nothing and gets ever new keys, which are shed; the queue must not remember them all."""
    queue: FairQueue[int] = FairQueue()
    for item in range(1000):
        queue.push(f"key-{item}", item, 1, from_hold=False)
        if queue.waiting > 10:
            next(queue.shed())
    assert len(queue._keys) <= 20
    assert sum(map(len, queue._rings.values())) <= 20


def backlogged(fairness: dict[str, Fairness], items: int) -> FairQueue[str]:
    """A queue in which every key has so many items, which are its name."""
    queue: FairQueue[str] = FairQueue()
    queue.weigh(fairness)
    for key in fairness:
        for _ in range(items):
            queue.push(key, key, 1, from_hold=False)
    return queue


@given(st.dictionaries(keys, st.builds(Fairness, st.integers(1, 9)), min_size=2), st.integers(1, 200))
def test_keys_with_backlogs_share_a_lane_by_their_weights(fairness: dict[str, Fairness], count: int) -> None:
    """At every moment no key is more than one turn ahead of another, whatever their weights."""
    left = Counter(popped(backlogged(fairness, count), count))
    turns = [left[key] / fairness[key].weight for key in fairness]
    assert max(turns) - min(turns) <= 1


@given(st.dictionaries(keys, fairness, min_size=1))
def test_every_priority_has_its_places_of_any_16_in_a_row(fairness: dict[str, Fairness]) -> None:
    """High has 11, normal 4 and low 1 where all wait, and what nobody needs is for the highest that waits."""
    left = [fairness[key].priority for key in popped(backlogged(fairness, 64), 48)]
    present = {each.priority for each in fairness.values()}
    for start in range(48 - len(ORDER) + 1):
        window = Counter(left[start : start + len(ORDER)])
        assert all(window[priority] >= ORDER.count(priority) for priority in present)
        if present == set(Priority):
            assert window == Counter(ORDER)


def test_a_key_that_is_alone_leaves_nothing_unused_and_saves_nothing_up() -> None:
    """A low priority with nobody beside it has every place; a turn that ended early makes no later one longer."""
    queue = backlogged({"a": Fairness(3, Priority.LOW)}, 2)
    assert popped(queue, 9) == "aa"
    queue.weigh({"a": Fairness(3)})
    for key in "aaaaabbb":
        queue.push(key, key, 1, from_hold=False)
    assert popped(queue, 9) == "aaabaabb"


def test_a_weight_that_nobody_judged_stops_no_key() -> None:
    """A policy that an older leader accepted, or that was written by hand, may hold any numbers."""
    queue = backlogged({"a": Fairness(-5), "b": Fairness(10**30), "c": Fairness(0)}, 3 * MAX_TURN)
    left = popped(queue, 4 * MAX_TURN)
    assert all(left.count(key) >= 3 for key in "abc")
    assert max(len(run_) for run_ in left.replace("a", " ").replace("c", " ").split()) == MAX_TURN
