"""What a stress run sends and when: the rate, the tenants and the phases, whatever happens to the events."""

from __future__ import annotations

import random  # noqa: TID251 - seeded: the test owns chance too
from collections import Counter
from itertools import pairwise

import pytest

from router.core.load.profiles import (
    HOT_SHARE,
    NOISE,
    RAMP_STEPS,
    Profile,
    Shot,
    noisy_tenants,
    phases_of,
    shots,
)


def all_of(profile: Profile, *, rate: float = 500, seconds: float = 60, zipf: float = 1.1, seed: int = 1) -> list[Shot]:
    """All events of a run with 1000 tenants."""
    uniform = random.Random(seed).random
    return list(shots(phases_of(profile, rate, seconds), 1000, zipf, uniform))


@pytest.mark.parametrize("profile", Profile)
def test_each_phase_has_its_rate_and_its_time(profile: Profile) -> None:
    """In the order of their times; a seed makes the same run again."""
    found, phases, begins = all_of(profile), phases_of(profile, 500, 60), 0.0
    assert [shot.at_s for shot in found] == sorted(shot.at_s for shot in found)
    assert found == all_of(profile)
    assert found != all_of(profile, seed=2)
    for number, phase in enumerate(phases):
        of_phase = [shot for shot in found if shot.phase == number]
        assert len(of_phase) == pytest.approx(phase.rate * phase.seconds, rel=0.1)
        assert all(begins <= shot.at_s < begins + phase.seconds for shot in of_phase)
        begins += phase.seconds
    assert begins == pytest.approx(60)
    assert max(phase.rate for phase in phases) == 500


def test_arrivals_are_as_irregular_as_those_of_many_tenants() -> None:
    """The times between them are exponential: their deviation is as large as their mean."""
    times = [shot.at_s for shot in all_of(Profile.STEADY)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 == pytest.approx(mean, rel=0.05)


def test_tenants_send_as_zipf_says() -> None:
    """The second sends 2^-1.1 of what the first does; with an exponent of 0 all are alike."""
    sent = Counter(shot.tenant for shot in all_of(Profile.STEADY))
    assert sent[1] / sent[0] == pytest.approx(2**-1.1, rel=0.15)
    assert sent[9] / sent[0] == pytest.approx(10**-1.1, rel=0.3)
    alike = Counter(shot.tenant for shot in all_of(Profile.STEADY, zipf=0))
    assert max(alike.values()) < 8 * min(alike.values())  # chance: each has 30
    assert len(alike) == 1000


def test_a_ramp_goes_up_in_equal_steps() -> None:
    """So a line through the figures of the phases is latency against load."""
    assert [phase.rate for phase in phases_of(Profile.RAMP, 800, 60)] == [100.0 * n for n in range(1, RAMP_STEPS + 1)]


def test_one_tenant_is_hot_in_the_middle_alone() -> None:
    """Its share there is half of all events, and what it sends otherwise."""
    share = [
        sum(shot.tenant == 0 for shot in of_phase) / len(of_phase)
        for number in range(3)
        if (of_phase := [shot for shot in all_of(Profile.ONE_HOT_TENANT) if shot.phase == number])
    ]
    assert share[1] == pytest.approx(HOT_SHARE + (1 - HOT_SHARE) * share[0], rel=0.05)
    assert share[2] == pytest.approx(share[0], rel=0.2)


def test_few_tenants_are_noisy_in_the_middle_alone() -> None:
    """Their events take much more work; they are no more events than before."""
    found = all_of(Profile.NOISY_NEIGHBOURS)
    loud = {shot.tenant for shot in found if shot.work == NOISE}
    assert loud <= noisy_tenants(1000)
    assert 10 < len(loud) <= len(noisy_tenants(1000)) == 20
    assert 0 not in loud
    assert {shot.phase for shot in found if shot.work != 1} == {1}
    assert noisy_tenants(1) == {0}
