"""The trial of a slow instance beside its twin: what pairs of canaries show, and what they don't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from random import Random  # noqa: TID251 - seeded: the same pairs in every run

import pytest

from router.core.detection.trial import (
    MAX_TRIAL_S,
    SETTLE_S,
    CanaryPair,
    Finding,
    TrialResult,
    judge_trial,
)

USUAL_S = 0.03
WARM_UP_S = 60.0
Latency = Callable[[float], float]
"""What a canary takes, in seconds, at so many seconds of the trial."""


def judged(
    own: Latency,
    twin: Latency,
    sides: Sequence[str] = ("leader",),
    usual_s: float | None = USUAL_S,
) -> tuple[float, TrialResult]:
    """Hold a trial with a pair each half second from each vantage point; return when it ended, and with what."""
    pairs: list[CanaryPair] = []
    at, result = 0.0, TrialResult()
    while at < 90:
        at += 0.5
        pairs += [CanaryPair(side, at, own(at), twin(at)) for side in sides]
        result = judge_trial(pairs, at, at, usual_s, WARM_UP_S)
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


def test_without_a_usual_latency_a_twin_is_waited_for() -> None:
    """Nobody knows whether it is cold."""
    assert judged(always(USUAL_S), always(USUAL_S), usual_s=None)[0] == WARM_UP_S


def test_a_twin_that_answers_nothing_is_no_good() -> None:
    """It is not the instance's merit: another launch follows."""
    at, result = judged(always(0.09), always(inf))
    assert result.finding is Finding.TWIN_FAILS
    assert at == MAX_TRIAL_S
    assert judge_trial([], MAX_TRIAL_S, 100.0, USUAL_S, WARM_UP_S).finding is Finding.TWIN_FAILS


def test_a_slow_path_of_one_vantage_point_is_no_slow_instance() -> None:
    """The leader sees it 100 ms slower, and two routers don't."""
    pairs = [
        CanaryPair(side, at / 2, USUAL_S + (0.1 if side == "leader" else 0.0), USUAL_S)
        for at in range(1, 20)
        for side in ("leader", "router-0", "router-1")
    ]
    assert judge_trial(pairs, 9.5, 9.5, USUAL_S, WARM_UP_S).finding is Finding.NO_SLOWER


def test_two_vantage_points_must_agree() -> None:
    """One alone of two convicts nobody."""
    pairs = [
        CanaryPair(side, at / 2, slow_s, USUAL_S) for at in range(1, 20) for side, slow_s in (("a", 0.2), ("b", 0.03))
    ]
    assert judge_trial(pairs, 9.5, 9.5, USUAL_S, WARM_UP_S).finding is Finding.OPEN


def test_a_router_that_died_in_the_trial_has_no_say() -> None:
    """Its last pairs are old."""
    pairs = [CanaryPair("a", at / 2, 0.03, 0.03) for at in range(4, 9)]
    pairs += [CanaryPair("b", at / 2, 0.2, 0.03) for at in range(4, 28)]
    pairs.sort(key=lambda pair: pair.at)
    assert judge_trial(pairs, 13.5, 13.5, USUAL_S, WARM_UP_S).finding is Finding.SLOWER


def test_pairs_before_both_are_measured_alike_do_not_count() -> None:
    """The instance still has all its events then."""
    pairs = [CanaryPair("leader", at / 100, 0.5, USUAL_S) for at in range(1, 50)]
    assert judge_trial(pairs, SETTLE_S, SETTLE_S, USUAL_S, WARM_UP_S).pairs == 0


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
