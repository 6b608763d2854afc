"""What tells environments apart: their names, how they come configured, and what a copy of a platform leaves out."""

from __future__ import annotations

import pytest

from router.core.environments import (
    LIVE,
    NOT_COPIED,
    PRESETS,
    platform_parameters,
    preset,
    why_foreign,
    why_no_platform,
    why_no_side_effects,
    with_own_names,
)

LIVES: dict[str, str] = {
    **dict.fromkeys(NOT_COPIED, "lives"),
    "Prefix": "acme",
    "Environment": LIVE,
    "Cells": "8",
    "VpcId": "vpc-1",
    "MakeEndpoints": "false",
}


def test_only_live_has_side_effects_whatever_a_copy_is_like() -> None:
    """Faults may be injected everywhere but in `live` and where old events come once more."""
    assert [name for name in PRESETS if preset(name).side_effects] == [LIVE]
    assert not preset("copy", like=LIVE).side_effects
    assert [name for name in (*PRESETS, "copy") if preset(name).chaos] == ["stress", "copy"]
    assert preset("copy", like="replay").chaos is preset("replay").chaos is False
    assert why_no_side_effects(LIVE, wanted=True) is None
    assert why_no_side_effects("copy", wanted=False) is None
    assert "environment copy" in (why_no_side_effects("copy", wanted=True) or "")


@pytest.mark.parametrize(
    "document", [{}, {"environment": LIVE}, {"environment": "Bad"}, {"source": {"queue": "theirs"}}]
)
def test_the_names_of_live_stay_as_they_were(document: dict[str, object]) -> None:
    """An installation that is there already finds its queues and its volumes."""
    assert with_own_names(document) == document


def test_what_no_setting_names_is_the_environments_own() -> None:
    """What one names stays; a section that is none is left for whoever says so."""
    given = {"environment": "stress", "aws": {"prefix": "acme"}, "source": {"queue": "mine", "wait_s": 1}, "cells": 3}
    found = with_own_names(given)
    assert found == given | {
        "source": {
            "queue": "mine",
            "wait_s": 1,
            "dead_letter_queue": "acme-stress-dead-letters",
            "quarantine_queue": "acme-stress-quarantine",
        }
    }
    assert with_own_names({"environment": "a"})["cells"] == {"data_dir": "cellrouter-data-a"}


def test_a_copy_of_a_platform_has_none_of_what_is_lives_alone() -> None:
    """Neither its Redis, nor its sources, nor its right to change accounts; all the rest is the same."""
    assert platform_parameters(LIVES, "stress", {"Cells": "2"}) == {
        **NOT_COPIED,
        "Prefix": "acme",
        "Environment": "stress",
        "Cells": "2",
        "VpcId": "vpc-1",
        "MakeEndpoints": "false",
    }


@pytest.mark.parametrize(
    ("of_like", "given", "why"),
    [
        ({}, {"Cells": "2"}, None),
        ({}, {"Cellz": "2"}, "no parameter Cellz"),
        ({}, {"Environment": "live"}, "is the command's argument"),
        ({}, {"SideEffects": "true"}, "only `live` may"),
        ({}, {"RemedyRole": "cellrouter-remedy"}, "only `live` may"),
        ({"MakeEndpoints": "true"}, {}, "let in its own tasks alone"),
        ({"MakeEndpoints": "true"}, {"VpcId": "vpc-2"}, None),
    ],
)
def test_a_platform_that_could_not_work_is_not_begun(
    of_like: dict[str, str], given: dict[str, str], why: str | None
) -> None:
    """The reason says what to give, or to leave out."""
    found = why_no_platform(LIVES | of_like, "stress", given)
    assert (found is None) if why is None else (why in (found or ""))


def test_a_resource_without_a_tag_may_be_ours_and_one_of_another_environment_never_is() -> None:
    """Whoever sends the events may have made the queue."""
    assert why_foreign("", "cellrouter-stress") is None
    assert why_foreign("cellrouter-stress", "cellrouter-stress") is None
    assert "cellrouter-live" in (why_foreign("cellrouter-live", "cellrouter-stress") or "")
