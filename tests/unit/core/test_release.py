"""What the leader says to a proposed release, and what becomes of the one that is there."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest

from router.core.models import cell_ids
from router.core.policy import NO_POLICY, Policy, Ruling, judge
from router.core.release import MAX_IMAGE_CHARS, MAX_WAVES, Phase, Release, Wave, ruled

CELLS = cell_ids(3)
GOOD = Release("repo@sha256:0", (Wave(cells=1), Wave(percent=100.0)))
RUNNING = replace(GOOD, number=4, phase=Phase.BAKING, wave=1, before="old")


def ruling(wanted: Policy, current: Policy = NO_POLICY, *, takes_images: bool = True) -> tuple[Ruling, Policy]:
    """Have the leader rule where new instances may be slow for a minute."""
    return judge(
        "p", wanted, current, CELLS, CELLS, can_launch=True, generations={}, takes_images=takes_images, warm_up_s=60
    )


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, image=""),
        replace(GOOD, image="a b"),
        replace(GOOD, image="\x1b[2J"),
        replace(GOOD, image="i" * (MAX_IMAGE_CHARS + 1)),
        replace(GOOD, waves=()),
        replace(GOOD, waves=(Wave(cells=1),)),
        replace(GOOD, waves=(Wave(percent=99.0),)),
        replace(GOOD, waves=(Wave(percent=nan), Wave(percent=100.0))),
        replace(GOOD, waves=(Wave(), Wave(percent=100.0))),
        replace(GOOD, waves=(Wave(cells=3), Wave(cells=2), Wave(percent=100.0))),
        replace(GOOD, waves=(Wave(percent=100.0),) * (MAX_WAVES + 1)),
        replace(GOOD, wave=2),
        *(replace(GOOD, bake_s=bake_s) for bake_s in (nan, inf, 0.0, -1.0, 79.0)),
        *(replace(GOOD, at_once=at_once) for at_once in (0, 51, -1)),
        *(replace(GOOD, slower=slower) for slower in (nan, 1.0, inf)),
        *(replace(GOOD, errors=errors) for errors in (nan, -0.1, 1.0)),
    ],
)
def test_a_release_that_can_not_be_carried_out_or_judged_is_refused(bad: Release) -> None:
    """With a reason, and the policy stays as it is."""
    found, after = ruling(replace(NO_POLICY, release=bad))
    assert found.reasons
    assert after == NO_POLICY


def test_a_release_begins_with_nothing_but_what_a_person_says() -> None:
    """How far it is, is the leader's own word; so is the image of all cells."""
    proposed = replace(GOOD, phase=Phase.DONE, wave=1, before="mine", why="trust me")
    found, after = ruling(replace(NO_POLICY, release=proposed, image="mine"))
    assert found.accepted
    assert after.release == replace(GOOD, number=1)
    assert after.image == ""


def test_where_no_image_is_launched_a_release_is_refused() -> None:
    """Processes, and what something else starts, have none."""
    found, _ = ruling(replace(NO_POLICY, release=GOOD), takes_images=False)
    assert "only cells.provisioner docker or ecs" in "".join(found.reasons)


def test_one_release_runs_at_a_time() -> None:
    """A second one is refused; after its end the next one may begin, but not with the image that all have."""
    current = replace(NO_POLICY, version=9, release=RUNNING)
    assert "under way" in "".join(ruling(replace(current, release=GOOD), current)[0].reasons)
    ended = replace(current, image="repo@sha256:0", release=replace(RUNNING, phase=Phase.DONE))
    assert "all cells have this image" in "".join(ruling(replace(ended, release=GOOD), ended)[0].reasons)
    other = replace(GOOD, image="repo@sha256:1")
    assert ruling(replace(ended, release=other), ended)[1].release == replace(other, number=10)


def test_a_policy_without_the_release_that_runs_takes_it_back() -> None:
    """As `deploy cells --stop` and `undo` make it. Any other change leaves it as the leader knows it."""
    current = replace(NO_POLICY, version=9, image="old", release=RUNNING)
    for gone in (None, replace(GOOD, number=3)):
        _, after = ruling(replace(current, release=gone), current)
        assert after.release is not None
        assert (after.release.phase, after.release.number) == (Phase.ROLLING_BACK, 4)
    stale = replace(RUNNING, wave=0, phase=Phase.CHANGING)
    _, after = ruling(replace(current, release=stale, image="new").with_weight(CELLS[0], 2.0), current)
    assert (after.release, after.image, after.weights) == (RUNNING, "old", {CELLS[0]: 2.0})


def test_what_has_ended_is_neither_begun_again_nor_forgotten() -> None:
    """An undo that goes back to before it changes no cell."""
    ended = replace(RUNNING, phase=Phase.ROLLED_BACK)
    for wanted in (None, RUNNING, ended):
        assert ruled(wanted, ended, 12) == ended
    back = replace(RUNNING, phase=Phase.ROLLING_BACK, why="bad")
    assert ruled(None, back, 12) == back
