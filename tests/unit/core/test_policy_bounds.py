"""No policy that the leader accepts can hurt: whatever its numbers, everything that goes by it works (P13)."""

from __future__ import annotations

from dataclasses import fields, replace
from math import ceil, inf, isfinite, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.control.moves import map_steps
from router.core.control.observed import Observed
from router.core.fairness.turns import MAX_TURN, Fairness, Priority
from router.core.lanes.admission import Admission, OverLimit, ToLane
from router.core.lanes.fair_queue import FairQueue
from router.core.lanes.rates import LONGEST_S, RateLimiter
from router.core.models import Event, HoldCause, cell_ids
from router.core.policy import (
    MAX_BURST,
    MAX_CELLS,
    MAX_KEY_CHARS,
    MAX_KEYS,
    MAX_KILLED,
    MAX_RATE,
    MAX_SLOT,
    MAX_TIME_MS,
    MAX_WEIGHT,
    MAX_WHY_CHARS,
    MIN_RATE,
    MIN_WEIGHT,
    NO_POLICY,
    Policy,
    Quarantine,
    Ruling,
    TenantLimit,
    judge,
    to_blob,
)
from router.core.scaling.wanted import Scaling
from router.core.slot_map.forecast import forecast
from router.core.slot_map.slots import SlotMap, assign

CELLS = cell_ids(3)
MAP = SlotMap(1, assign(None, dict.fromkeys(CELLS, 1.0)))
GENERATIONS = dict.fromkeys(CELLS, 5)
SUBNORMAL = 1e-310
HUGE = 10**5000
"""So long that Python refuses to write it out."""

floats = st.floats() | st.sampled_from([0.0, -0.0, SUBNORMAL, 5e-324, MIN_RATE, 1.0, MAX_RATE, 1e308, inf, -inf, nan])
integers = st.integers() | st.integers(0, 20) | st.sampled_from([-1, 0, 1, 2**53, 2**63 - 1, 2**63, HUGE, -HUGE])
sane_rates = st.just(0.0) | st.floats(MIN_RATE, MAX_RATE)
keys = st.text(max_size=4) | st.sampled_from(["a", "b"])
names = st.sampled_from([*CELLS, "cell-0009", ""])


def policies_of(
    rates: st.SearchStrategy[float],
    bursts: st.SearchStrategy[int],
    numbers: st.SearchStrategy[int],
    weights: st.SearchStrategy[float],
    cells: st.SearchStrategy[str],
    scalings: st.SearchStrategy[Scaling],
) -> st.SearchStrategy[Policy]:
    """Policies of such numbers, with so few entries that a policy is often good in all of its parts."""
    turns = st.builds(Fairness, numbers, st.sampled_from(Priority))
    limits, of_cells = st.builds(TenantLimit, rates, bursts, numbers), st.frozensets(cells, max_size=2)
    return st.builds(
        Policy,
        st.just(0),
        limits,
        st.dictionaries(keys, limits, max_size=2),
        st.dictionaries(keys, st.builds(Quarantine, st.text(max_size=5), numbers, numbers), max_size=2),
        st.dictionaries(keys, cells, max_size=2),
        st.dictionaries(cells, weights, max_size=2),
        of_cells,
        st.just(frozenset()) | of_cells,
        st.just(0) | numbers,
        st.just(0) | numbers,
        of_cells,
        of_cells,
        st.dictionaries(cells, numbers, max_size=2),
        st.dictionaries(cells, numbers, max_size=2),
        scaling=st.none() | scalings,
        fairness=st.dictionaries(keys, turns, max_size=2),
        homes=st.just({}) | st.dictionaries(numbers, cells, max_size=2),
    )


wild_scalings = st.builds(Scaling, integers, integers, floats, floats, floats, floats)
wild = policies_of(floats, integers, integers, floats, names, wild_scalings)
sane = policies_of(
    sane_rates,
    st.integers(1, MAX_BURST),
    st.integers(1, 5),
    st.floats(MIN_WEIGHT, MAX_WEIGHT),
    st.sampled_from(CELLS),
    st.just(Scaling(1, 9)),
)
PARTS = [field.name for field in fields(Policy) if field.name != "version"]


def with_one_part(of: Policy, other: Policy, part: str) -> Policy:
    """The policy with one part of another one."""
    return replace(of, **{part: getattr(other, part)})


policies = wild | sane | st.builds(with_one_part, sane, wild, st.sampled_from(PARTS))


def ruling_on(policy: Policy) -> Ruling:
    """What the leader says to it where there are three cells, as the controller asks."""
    cells = cell_ids(min(policy.cells or len(CELLS), MAX_CELLS))
    return judge("p", policy, NO_POLICY, cells, CELLS, can_launch=True, generations=GENERATIONS)[0]


def observed(slot_map: SlotMap | None, policy: Policy) -> Observed:
    """What a controller sees that has just come to lead, where no cell has an instance yet."""
    return Observed(1, {}, (), (), slot_map, leases_trusted=True, policy=policy)


def passes(limit: TenantLimit, admission: Admission, key: str) -> None:
    """Send events of the key until one has to wait, and see that it passes when it comes again as it was told."""
    queue: FairQueue[str] = FairQueue()
    now = 1e6
    for number in range(30):
        match admission.check(Event("e", key, b""), 1, lambda _: 0, now):
            case ToLane(cap):
                queue.push(key, "item", 1, from_hold=False, cap=cap)
                assert queue.next_size() is not None
                queue.pop()
                queue.done(key)
            case OverLimit(delay_s, cause):
                assert cause is HoldCause.RATE
                assert number
                assert isfinite(delay_s)
                assert 0 < delay_s <= max(LONGEST_S, 2.001 / limit.rate_per_s)
                now += ceil(delay_s)
                assert isinstance(admission.check(Event("e", key, b""), 1, lambda _: 0, now), ToLane)


@given(policies)
def test_nothing_that_is_accepted_hurts(policy: Policy) -> None:
    """Every key's events pass, and the slots can be divided; what is refused comes with a reason that can be told."""
    ruling = ruling_on(policy)
    assert ruling.accepted != bool(ruling.reasons)
    assert all(len(reason) < 1000 for reason in ruling.reasons)
    if not ruling.accepted:
        return
    assert msgspec.json.decode(to_blob(policy), type=Policy) == policy
    admission = Admission(lambda: 2)
    admission.policy = replace(policy, quarantined={})
    for key in (*policy.limits, "of no limit of its own"):
        passes(policy.limit_of(key), admission, key)
    admission.policy = policy
    for key in policy.quarantined:
        found = admission.quarantine(Event("e", key, b""), 1, 1_700_000_000_000)
        assert found is None or 0 <= found.left_s <= MAX_TIME_MS / 1000
    cells = cell_ids(policy.cells or len(CELLS))
    assert not forecast(MAP, NO_POLICY, policy, CELLS, cells).faults
    for slot_map in (None, MAP):
        observed = Observed(
            1, {}, (), (), slot_map, leases_trusted=True, policy=replace(policy, scaling_from=0), may_found=True
        )
        assert len(list(map_steps(cells, observed))) <= 1


@given(floats, integers, integers, st.floats(0, 1e9))
def test_a_limit_that_nobody_judged_stops_no_key(rate: float, burst: int, concurrency: int, now: float) -> None:
    """A policy that an older leader accepted, or that was written by hand, may hold any numbers."""
    admission = Admission(lambda: 2)
    admission.policy = Policy(default=TenantLimit(rate, burst, concurrency))
    for _ in range(20):
        match admission.check(Event("e", "k", b""), 1, lambda _: 0, now):
            case OverLimit(delay_s):
                assert 0 < delay_s <= max(LONGEST_S, 2.001 / MIN_RATE)
                now += ceil(delay_s)
            case ToLane(cap):
                assert cap >= 0


@given(
    st.lists(st.tuples(st.floats(MIN_RATE, MAX_RATE), st.integers(1, 10), st.integers(1, 5)), min_size=2, max_size=5)
)
def test_a_key_whose_limit_is_raised_passes_by_the_new_one(steps: list[tuple[float, int, int]]) -> None:
    """What it used up under a lower rate is forgotten: it waits for one event's time by the limit as it is now."""
    limiter, now = RateLimiter(), 100.0
    for rate, burst, events in steps:
        limit = TenantLimit(rate, burst)
        for _ in range(events):
            limiter.admit("k", limit, now)
        now += 1.01 / rate + 1e-6
        assert limiter.admit("k", limit, now) == 0.0


BAD = {
    "a rate that is too low to divide by": Policy(default=TenantLimit(SUBNORMAL)),
    "a rate just below the lowest": Policy(default=TenantLimit(MIN_RATE * 0.999)),
    "a rate that is too high": Policy(limits={"k": TenantLimit(MAX_RATE * 1.001)}),
    "an infinite rate": Policy(limits={"k": TenantLimit(inf)}),
    "a rate that is no number": Policy(limits={"k": TenantLimit(nan)}),
    "a negative rate": Policy(default=TenantLimit(-1.0)),
    "no burst": Policy(default=TenantLimit(1.0, 0)),
    "a negative burst": Policy(default=TenantLimit(0.0, -1)),
    "a burst that is too large": Policy(default=TenantLimit(1.0, MAX_BURST + 1)),
    "a burst too long to write": Policy(default=TenantLimit(1.0, HUGE)),
    "a negative concurrency": Policy(limits={"k": TenantLimit(concurrency=-1)}),
    "a concurrency too long to write": Policy(limits={"k": TenantLimit(concurrency=HUGE)}),
    "a weight that is no number": NO_POLICY.with_weight(CELLS[0], nan),
    "an infinite weight": NO_POLICY.with_weight(CELLS[0], inf),
    "a weight that is too low": NO_POLICY.with_weight(CELLS[0], MIN_WEIGHT / 2),
    "a weight that is too high": NO_POLICY.with_weight(CELLS[0], MAX_WEIGHT + 1),
    "more cells than there can be": Policy(cells=MAX_CELLS + 1),
    "a number of cells too long to write": Policy(cells=HUGE),
    "a negative number of cells": Policy(cells=-1),
    "a negative number of cells to go back to": Policy(cells=3, scaling_from=-1),
    "more cells to go back to than there are": Policy(cells=3, scaling_from=4),
    "a slot that there isn't": Policy(aside=frozenset({0, MAX_SLOT + 1})),
    "a cell that drains and may get slots": Policy(draining=frozenset(CELLS)),
    "a quarantine that began before 1970": Policy(quarantined={"k": Quarantine("", -1)}),
    "a quarantine that ends after 9999": Policy(quarantined={"k": Quarantine("", 1, MAX_TIME_MS + 1)}),
    "a quarantine with a book for a reason": Policy(quarantined={"k": Quarantine("x" * (MAX_WHY_CHARS + 1), 1)}),
    "a quarantine for more kills than are remembered": Policy(
        quarantined={"k": Quarantine("", 1, killed=tuple(range(1, MAX_KILLED + 2)))}
    ),
    "a quarantine for an instance that never was": Policy(quarantined={"k": Quarantine("", 1, by_event=(0,))}),
    "a quarantine with a book for an event": Policy(quarantined={"k": Quarantine("", 1, event="x" * 1000)}),
    "a cell that bears nearly nothing": Policy(scaling=Scaling(1, 9, cell_rate=1e-9)),
    "no turn": Policy(fairness={"k": Fairness(0)}),
    "a weight that is too large": Policy(fairness={"k": Fairness(MAX_TURN + 1)}),
    "a weight too long to write": Policy(fairness={"k": Fairness(HUGE)}),
    "turns of a key that no event has": Policy(fairness={"k" * (MAX_KEY_CHARS + 1): Fairness(2)}),
    "more turns than a router should read": Policy(fairness={str(n): Fairness(2) for n in range(MAX_KEYS + 1)}),
    "a key that no event has": Policy(limits={"k" * (MAX_KEY_CHARS + 1): TenantLimit(1.0)}),
    "more limits than a router should read": Policy(limits={str(n): TenantLimit(1.0) for n in range(MAX_KEYS + 1)}),
    "more quarantines than a router should read": Policy(
        quarantined={str(n): Quarantine("", 1) for n in range(MAX_KEYS + 1)}
    ),
    "more pins than a router should read": Policy(pins={str(n): CELLS[0] for n in range(MAX_KEYS + 1)}),
    "an order on generation 0": NO_POLICY.with_order(CELLS[0], 0, evict=False),
    "an order on generations to come": NO_POLICY.with_order(CELLS[0], 6, evict=True),
    "an order on all generations": NO_POLICY.with_order(CELLS[0], 2**63 - 1, evict=False),
}


@pytest.mark.parametrize("policy", BAD.values(), ids=BAD)
def test_what_hurts_is_refused(policy: Policy) -> None:
    """One reason says what is wrong, in a line that people can read."""
    ruling = ruling_on(policy)
    assert not ruling.accepted
    assert any(10 < len(reason) < 300 for reason in ruling.reasons)


def test_an_order_that_is_in_force_stays_so_when_generations_are_lost() -> None:
    """After a loss of the registry generations may be lower; a change of something else is not refused for it."""
    current = NO_POLICY.with_order(CELLS[0], 5, evict=True)
    wanted = current.with_limit("k", TenantLimit(1.0))
    assert judge("p", wanted, current, CELLS, CELLS, can_launch=True, generations={})[0].accepted


def test_the_limits_of_the_bounds_themselves_are_accepted() -> None:
    """The lowest and the highest value of each kind can be had."""
    extreme = {"a": TenantLimit(MIN_RATE, MAX_BURST), "b": TenantLimit(MAX_RATE), "c": TenantLimit(concurrency=1)}
    turns = {"a": Fairness(MAX_TURN, Priority.HIGH), "b": Fairness(1, Priority.LOW)}
    policy = Policy(
        limits=extreme, fairness=turns, weights={CELLS[0]: MIN_WEIGHT, CELLS[1]: MAX_WEIGHT}, cells=MAX_CELLS
    )
    assert ruling_on(policy).accepted


def test_cells_that_all_drain_keep_their_slots() -> None:
    """As after a scaling that failed and left only cells that were to be emptied; no policy is refused for it."""
    policy = Policy(cordoned=frozenset(CELLS), draining=frozenset(CELLS))
    for slot_map in (None, MAP):
        assert not list(
            map_steps(CELLS, Observed(1, {}, (), (), slot_map, leases_trusted=True, policy=policy, may_found=True))
        )
