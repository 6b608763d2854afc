"""The trial of a slow instance beside its twin: what pairs of canaries show, and what they don't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from random import Random  # noqa: TID251 - seeded: the same pairs in every run

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.detection.trial import (
    MAX_REHEARSED_S,
    MAX_TRIAL_S,
    MAX_YOUNG_TRIAL_S,
    RECENT_S,
    SETTLE_S,
    STAND_BY_S,
    YOUNG_TRIAL_S,
    CanaryPair,
    CopyPair,
    Finding,
    Terms,
    TrialResult,
    judge_trial,
)

USUAL_S = 0.03
WARM_UP_S = 60.0
TERMS = Terms(USUAL_S, WARM_UP_S)
Latency = Callable[[float], float]
"""What a canary takes, in seconds, at so many seconds of the trial."""


def judged(
    own: Latency,
    twin: Latency,
    sides: Sequence[str] = ("leader",),
    usual_s: float | None = USUAL_S,
    age_s: float = inf,
) -> tuple[float, TrialResult]:
    """Hold a trial with a pair each half second from each vantage point; return when it ended, and with what.

    The instance is `age_s` old when it begins.
    """
    pairs: list[CanaryPair] = []
    at, result = 0.0, TrialResult()
    while at < 90:
        at += 0.5
        pairs += [CanaryPair(side, at, own(at), twin(at)) for side in sides]
        result = judge_trial(pairs, [], at, at, Terms(usual_s, WARM_UP_S, age_s=age_s + at))
        if result.finding is not Finding.OPEN:
            break
    return at, result


def always(seconds: float) -> Latency:
    """Take the same time in each pair."""
    return lambda _: seconds


@pytest.mark.parametrize("own_s", [0.09, 0.5, inf], ids=["three times", "far slower", "no answer"])
def test_an_instance_that_is_slower_than_its_twin_is_found_so_within_five_seconds(own_s: float) -> None:
    """Seven pairs of one vantage point are enough."""
    at, result = judged(always(own_s), always(USUAL_S))
    assert result.finding is Finding.SLOWER
    assert at <= 5


@pytest.mark.parametrize("slow_s", [0.03, 0.09, 0.5])
def test_what_makes_both_slow_is_not_the_instance(slow_s: float) -> None:
    """Only a twin that may be cold is waited for."""
    at, result = judged(always(slow_s), always(slow_s))
    assert result.finding is Finding.NO_SLOWER
    assert at <= (5 if slow_s == USUAL_S else WARM_UP_S)


def test_a_cold_twin_is_waited_for() -> None:
    """It is as slow as the sick instance for half a minute; then it shows that it is faster."""
    at, result = judged(always(0.09), lambda at: 0.09 if at < 30 else USUAL_S)
    assert result.finding is Finding.SLOWER
    assert 30 < at < 45


@pytest.mark.parametrize(
    ("cold_s", "ends_at"),
    [(0.0, YOUNG_TRIAL_S), (3.0, 10.0), (6.0, 24.0), (30.0, 50.0)],
    ids=["never", "a moment", "a while", "long"],
)
def test_a_young_instance_is_convicted_by_a_twin_that_is_warm_from_the_beginning(cold_s: float, ends_at: float) -> None:
    """The longer the twin was cold, the longer it takes; after its time to warm up the instance is as any other."""
    at, result = judged(always(0.09), lambda at: 0.09 if at < cold_s else USUAL_S, age_s=20.0)
    assert result.finding is Finding.SLOWER
    assert at == pytest.approx(ends_at, abs=1.5)


@given(st.lists(st.floats(1.0, 8.0), min_size=50, max_size=50), st.floats(15.0, 40.0))
def test_what_any_new_instance_goes_through_convicts_no_young_one(times: list[float], age_s: float) -> None:
    """Whatever an instance is like at each age, if it was slow from its first moment on: its twin will be so, too."""
    slow_from_birth = [max(each, 2.0) if number < 7 else each for number, each in enumerate(times)]

    def takes(age_s: float) -> float:
        return USUAL_S * slow_from_birth[min(int(age_s / 2), len(times) - 1)]

    at, result = judged(lambda at: takes(age_s + at), takes, age_s=age_s)
    assert result.finding is not Finding.SLOWER or age_s + at >= WARM_UP_S + RECENT_S


def test_a_young_instance_that_is_warm_now_is_acquitted_at_once() -> None:
    """Its twin is cold still, and waits for nothing."""
    at, result = judged(lambda at: 0.09 if at < 15 else USUAL_S, lambda at: 0.09 if at < 40 else USUAL_S, age_s=20.0)
    assert result.finding is Finding.NO_SLOWER
    assert at <= 20 + 0.5


def test_the_trial_of_a_young_instance_ends_though_both_stay_cold() -> None:
    """Handlers may take an hour to warm up, and the instance gets little to do while it stands trial."""
    assert judged(always(0.09), always(0.09), age_s=-3600.0)[1].finding is Finding.NO_SLOWER
    assert judged(always(0.09), always(0.09), age_s=-3600.0)[0] == MAX_YOUNG_TRIAL_S


def test_without_a_usual_latency_a_young_instance_is_not_convicted() -> None:
    """Nobody knows whether its twin is warm."""
    at, result = judged(always(0.09), always(USUAL_S), usual_s=None, age_s=20.0)
    assert (at, result.finding) == (WARM_UP_S + RECENT_S - 20.0, Finding.SLOWER)


def test_without_a_usual_latency_a_twin_is_waited_for() -> None:
    """Nobody knows whether it is cold."""
    assert judged(always(USUAL_S), always(USUAL_S), usual_s=None)[0] == WARM_UP_S


def test_a_twin_that_answers_nothing_is_no_good() -> None:
    """It is not the instance's merit: another launch follows."""
    at, result = judged(always(0.09), always(inf))
    assert result.finding is Finding.TWIN_FAILS
    assert at == MAX_TRIAL_S
    assert judge_trial([], [], MAX_TRIAL_S, 100.0, TERMS).finding is Finding.TWIN_FAILS


def test_a_slow_path_of_one_vantage_point_is_no_slow_instance() -> None:
    """The leader sees it 100 ms slower, and two routers don't."""
    pairs = [
        CanaryPair(side, at / 2, USUAL_S + (0.1 if side == "leader" else 0.0), USUAL_S)
        for at in range(1, 20)
        for side in ("leader", "router-0", "router-1")
    ]
    assert judge_trial(pairs, [], 9.5, 9.5, TERMS).finding is Finding.NO_SLOWER


def test_two_vantage_points_must_agree() -> None:
    """One alone of two convicts nobody."""
    pairs = [
        CanaryPair(side, at / 2, slow_s, USUAL_S) for at in range(1, 20) for side, slow_s in (("a", 0.2), ("b", 0.03))
    ]
    assert judge_trial(pairs, [], 9.5, 9.5, TERMS).finding is Finding.OPEN


def test_a_router_that_died_in_the_trial_has_no_say() -> None:
    """Its last pairs are old."""
    pairs = [CanaryPair("a", at / 2, 0.03, 0.03) for at in range(4, 9)]
    pairs += [CanaryPair("b", at / 2, 0.2, 0.03) for at in range(4, 28)]
    pairs.sort(key=lambda pair: pair.at)
    assert judge_trial(pairs, [], 13.5, 13.5, TERMS).finding is Finding.SLOWER


def test_pairs_before_both_are_measured_alike_do_not_count() -> None:
    """The instance still has all its events then."""
    pairs = [CanaryPair("leader", at / 100, 0.5, USUAL_S) for at in range(1, 50)]
    assert judge_trial(pairs, [], SETTLE_S, SETTLE_S, TERMS).pairs == 0


@pytest.mark.parametrize("sides", [("leader",), ("leader", "router-0", "router-1")], ids=["one", "three"])
def test_chance_convicts_nobody(sides: Sequence[str]) -> None:
    """Heavy tails, the same of both: no trial of 500 finds the instance slower."""
    draw = Random(1)
    wrong = 0

    def either(_: float) -> float:
        return draw.lognormvariate(-3.5, 0.4)

    for _ in range(500):
        wrong += judged(either, either, sides)[1].finding is Finding.SLOWER
    assert wrong == 0


@pytest.mark.parametrize("ratio", [2.0, 3.0])
def test_a_noisy_instance_that_is_slow_is_convicted(ratio: float) -> None:
    """Nearly always."""
    draw = Random(2)
    found = 0
    for _ in range(200):
        _, result = judged(
            lambda _: ratio * USUAL_S * draw.lognormvariate(0, 0.15), lambda _: USUAL_S * draw.lognormvariate(0, 0.15)
        )
        found += result.finding is Finding.SLOWER
    assert found >= 198


def test_the_result_is_said_with_both_distributions() -> None:
    """As the audit has it."""
    assert str(TrialResult(Finding.SLOWER, 0.503, 0.003, 12, 2)) == (
        "503 ms, its twin 3 ms (medians of 12 pairs of canaries, from 2 vantage points)"
    )
    assert "no answer, its twin 3 ms" in str(TrialResult(Finding.SLOWER, inf, 0.003, 12, 1))


def rehearsed(
    own: Callable[[int], float],
    twin_s: float = 0.05,
    sides: Sequence[str] = ("router-0", "router-1"),
    canary_s: float = USUAL_S,
    size: Callable[[int], int] = lambda _: 1,
    seconds: float = 90,
) -> tuple[float, TrialResult]:
    """Hold a trial whose canaries are quick: each half second a copy from each router; `own` has its number."""
    copies: list[CopyPair] = []
    pairs: list[CanaryPair] = []
    at, result = 0.0, TrialResult()
    while at < seconds and result.finding is Finding.OPEN:
        at += 0.5
        number = round(2 * at)
        for side in sides:
            beside = CanaryPair(side, at, canary_s, USUAL_S)
            pairs.append(CanaryPair(side, at, USUAL_S, USUAL_S))
            copies.append(CopyPair(side, at, own(number), twin_s, beside, size(number)))
        result = judge_trial(pairs, copies, at, at, Terms(USUAL_S, WARM_UP_S, rehearses=True))
    return at, result


def test_an_instance_that_is_slow_for_a_part_of_its_events_is_found_so() -> None:
    """Three in ten take ten times as long, and no canary shows it."""
    at, result = rehearsed(lambda number: 0.5 if number % 10 < 3 else 0.05)
    assert result.finding is Finding.SLOWER
    assert at < 20
    assert "events that both rehearsed: 500 ms, its twin 50 ms; its canaries 30 ms, its twin 30 ms" in str(result)


def test_that_it_is_the_large_events_is_said() -> None:
    """By the size from which on events are slower."""
    large = (7, 3)
    _, result = rehearsed(
        lambda number: 0.5 if number % 10 in large else 0.05,
        size=lambda number: 90_000 if number % 10 in large else 900,
    )
    assert result.finding is Finding.SLOWER
    assert result.part.larger_than == 900
    assert ", the larger ones (over 0.9 kB): 500 ms, its twin 50 ms" in str(result)


@pytest.mark.parametrize("own_s", [0.05, 0.12], ids=["as quick", "within the margin"])
def test_rehearsed_events_that_are_as_quick_acquit_the_instance(own_s: float) -> None:
    """Once there are enough of them; before that the canaries alone acquit nobody."""
    at, result = rehearsed(lambda _: own_s)
    assert result.finding is Finding.NO_SLOWER
    assert 10 < at < 20
    assert str(result).startswith("none of 60 events that both rehearsed took longer; its canaries 30 ms")


def test_a_late_canary_beside_it_excuses_an_event() -> None:
    """The instance stalls, or has work: its twin has none."""
    assert rehearsed(lambda _: 0.5, canary_s=0.3)[1].finding is Finding.NO_SLOWER


def test_few_slower_events_convict_nobody() -> None:
    """One in twenty is hardly felt, and may be chance."""
    at, result = rehearsed(lambda number: 0.5 if number % 20 == 0 else 0.05)
    assert (at, result.finding) == (MAX_REHEARSED_S, Finding.NO_SLOWER)


def test_events_that_take_long_in_both_say_nothing() -> None:
    """A slow dependency, or a large event: its twin takes as long."""
    assert rehearsed(lambda _: 5.0, twin_s=5.0)[1].finding is Finding.NO_SLOWER
    assert rehearsed(lambda _: inf, twin_s=inf)[1].finding is Finding.NO_SLOWER


def test_one_of_two_routers_alone_convicts_nobody_by_rehearsals() -> None:
    """It is its path."""
    copies = [
        CopyPair(side, at / 2, slow_s, 0.05, CanaryPair(side, at / 2, USUAL_S, USUAL_S))
        for at in range(1, 61)
        for side, slow_s in (("a", 0.5), ("b", 0.05))
    ]
    pairs = [copy.canaries for copy in copies]
    terms = Terms(USUAL_S, WARM_UP_S, rehearses=True)
    assert judge_trial(pairs, copies, 29.5, 29.5, terms).finding is Finding.OPEN
    assert judge_trial(pairs, copies, 30.0, 30.0, terms).finding is Finding.NO_SLOWER


@pytest.mark.parametrize(("few", "finding"), [(9, Finding.SLOWER), (40, Finding.NO_SLOWER)], ids=["few", "as many"])
def test_a_router_that_few_events_came_to_neither_convicts_nor_acquits(few: int, finding: Finding) -> None:
    """What the other one saw decides in the end; with as many of its own that are quick, they don't agree."""
    copies = [
        CopyPair(side, at / 2, own_s, 0.05, CanaryPair(side, at / 2, USUAL_S, USUAL_S))
        for side, number, slow_s in (("a", 40, 0.5), ("b", few, 0.05))
        for at, own_s in ((60 - each, slow_s if each % 2 else 0.05) for each in reversed(range(number)))
    ]
    pairs = [copy.canaries for copy in copies]
    assert judge_trial(pairs, copies, 30.0, 30.0, Terms(USUAL_S, WARM_UP_S, rehearses=True)).finding is finding


def test_without_any_event_the_canaries_decide_in_the_end() -> None:
    """The cell has none to rehearse."""
    pairs = [CanaryPair("leader", at / 2, USUAL_S, USUAL_S) for at in range(1, 70)]
    terms = Terms(USUAL_S, WARM_UP_S, rehearses=True)
    assert judge_trial(pairs, [], MAX_REHEARSED_S - 1, 33.0, terms).finding is Finding.OPEN
    assert judge_trial(pairs, [], MAX_REHEARSED_S, 34.0, terms).finding is Finding.NO_SLOWER


@pytest.mark.parametrize("sides", [("router-0",), ("router-0", "router-1", "router-2")], ids=["one", "three"])
def test_chance_convicts_nobody_by_rehearsals(sides: Sequence[str]) -> None:
    """Heavy tails of each call, the same in both: no trial of 60 finds the instance slower."""
    draw = Random(3)
    wrong = 0
    for _ in range(60):
        copies: list[CopyPair] = []
        pairs: list[CanaryPair] = []
        found = Finding.OPEN
        for step in range(1, 61):
            at = step / 2
            for side in sides:
                beside = CanaryPair(side, at, USUAL_S, USUAL_S)
                pairs.append(beside)
                copies.append(CopyPair(side, at, 0.05 * draw.paretovariate(2), 0.05 * draw.paretovariate(2), beside))
            found = judge_trial(pairs, copies, at, at, Terms(USUAL_S, WARM_UP_S, rehearses=True)).finding
            wrong += found is Finding.SLOWER
    assert wrong == 0


def standing_by(own: Latency, *, comes_and_goes: bool = True, usual_s: float = USUAL_S) -> tuple[float, TrialResult]:
    """Hold a trial of three vantage points whose twin is quick."""
    pairs: list[CanaryPair] = []
    at, result = 0.0, TrialResult()
    terms = Terms(usual_s, WARM_UP_S, comes_and_goes=comes_and_goes)
    while at < 120 and result.finding is Finding.OPEN:
        at += 0.5
        pairs += [CanaryPair(side, at, own(at), USUAL_S) for side in ("leader", "router-0", "router-1")]
        result = judge_trial(pairs, [], at, at, terms)
    return at, result


def test_a_twin_stands_by_until_a_flapping_instance_is_slow_again() -> None:
    """Slow for 10 s of 30: a first trial in its good phase acquits it, and a second one waits for the bad one."""
    assert (
        standing_by(lambda at: 0.12 if at % 30 > 20 else USUAL_S, comes_and_goes=False)[1].finding is Finding.NO_SLOWER
    )
    at, result = standing_by(lambda at: 0.12 if at % 30 > 20 else USUAL_S)
    assert result.finding is Finding.SLOWER
    assert 20 < at <= 30


def test_a_twin_does_not_stand_by_for_ever_nor_for_what_is_slow_in_both() -> None:
    """An instance that stays well is kept, and so is one that is as slow as its twin."""
    assert standing_by(always(USUAL_S)) == (STAND_BY_S, standing_by(always(USUAL_S))[1])
    assert standing_by(always(USUAL_S))[1].finding is Finding.NO_SLOWER
