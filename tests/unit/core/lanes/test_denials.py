"""Whose trouble a denial is: the event's own, or everybody's."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from router.core.lanes.denials import MIN_KEYS, PERIOD_S, STANDSTILL_S, Denials

CELL = "cell-0000"


def seen(denied: Iterable[str], served: Iterable[str], *, place: str = CELL) -> Denials:
    """Judged after these keys were denied and then those served, in the same second."""
    denials = Denials()
    for key in denied:
        denials.denied(place, key, f"event of {key}", "AccessDenied", 0)
    for key in served:
        denials.served(place, key)
    return denials


def keys(count: int, name: str = "tenant") -> list[str]:
    """So many keys."""
    return [f"{name}-{i}" for i in range(count)]


def test_one_denied_key_among_served_ones_is_its_own_trouble() -> None:
    """However few are served: one is enough to show that not all are denied."""
    for served in (1, 100):
        denials = seen(["bad"], keys(served))
        assert denials.why_shared(1) is None
        assert denials.own(CELL)


def test_nothing_is_known_before_anything_is_served_or_judged() -> None:
    """Nothing counts against an event then, and nobody is alarmed for a single one."""
    denials = seen(["bad"], keys(5))
    assert not denials.own(CELL)
    denials = seen(["bad"], [])
    assert denials.why_shared(1) is None
    assert not denials.own(CELL)


def test_several_denied_keys_are_everybodys_trouble() -> None:
    """Unless they are a few of many. Those of two that have an object of their own each are two."""
    denials = seen(keys(MIN_KEYS, "bad"), keys(10))
    why = denials.why_shared(1)
    assert why is not None
    assert why.endswith(": AccessDenied")
    assert not denials.own(CELL)
    denials = seen(keys(MIN_KEYS, "bad"), keys(10 * MIN_KEYS))
    assert denials.why_shared(1) is None
    assert denials.own(CELL)
    assert seen(keys(MIN_KEYS - 1, "bad"), keys(1)).why_shared(1) is None


def test_two_keys_events_of_one_id_are_two() -> None:
    """Two tenants that each count from 1, and nothing is served for a minute: that is four events, not two."""
    denials = Denials()
    for now in (0, PERIOD_S):
        for key in ("a", "b"):
            for event_id in ("1", "2"):
                denials.denied(CELL, key, event_id, "AccessDenied", now)
    assert denials.why_shared(PERIOD_S) is not None


def test_a_cell_with_a_role_of_its_own_has_a_trouble_of_its_own() -> None:
    """The reason names it. What is denied elsewhere meanwhile is counted as ever."""
    denials = seen(keys(4, "bad"), [], place="cell-0007")
    denials.denied("cell-0001", "other", "e", "NoSuchKey or no right", 0)
    for key in keys(100):
        denials.served("cell-0001", key)
    why = denials.why_shared(1)
    assert why is not None
    assert "at cell-0007 " in why
    assert (denials.own("cell-0007"), denials.own("cell-0001")) == (False, True)


def test_few_keys_in_each_of_many_cells_are_several_together() -> None:
    """A key of KMS is disabled that some objects of every tenant need."""
    denials = Denials()
    for cell in keys(5, "cell"):
        denials.denied(cell, f"tenant of {cell}", "e", "KMS.DisabledException", 0)
        denials.served(cell, f"tenant of {cell}")
    assert denials.why_shared(1) is not None
    assert not any(denials.own(cell) for cell in keys(5, "cell"))


def test_a_system_of_one_tenant_learns_that_nothing_works() -> None:
    """It can have no other keys. A single event that is tried again and again says nothing."""
    denials = Denials()
    for second in range(round(2 * PERIOD_S)):
        denials.denied(CELL, "only", "e", "AccessDenied", second)
        assert denials.why_shared(second) is None
    for event in "abc":
        denials.denied(CELL, "only", event, "AccessDenied", 2 * PERIOD_S)
    assert denials.why_shared(2 * PERIOD_S) is not None
    assert not denials.at_standstill(2 * PERIOD_S)


def test_a_standstill_is_several_keys_in_a_row_for_a_while() -> None:
    """Anything that is served ends it at once."""
    denials = seen(keys(MIN_KEYS), [])
    assert not denials.at_standstill(STANDSTILL_S - 1)
    assert denials.at_standstill(STANDSTILL_S)
    denials.served(CELL, "tenant-9")
    assert not denials.at_standstill(STANDSTILL_S)


def test_what_was_denied_is_forgotten() -> None:
    """Two periods later there is no trouble, and no standstill."""
    denials = seen(keys(20), [])
    assert denials.why_shared(PERIOD_S) is not None
    assert denials.why_shared(3 * PERIOD_S) is None
    assert denials.why_shared(9 * PERIOD_S) is None
    assert not denials.at_standstill(9 * PERIOD_S)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(keys(3)), st.floats(0, 30)), max_size=60))
def test_one_tenant_alone_stops_nobody(happened: list[tuple[bool, str, float]]) -> None:
    """Whatever it sends, and when, the intake goes on; with two others that are served it is not even an alarm."""
    denials, now = Denials(), 0.0
    for denied, key, later_s in happened:
        now += later_s
        if denied:
            denials.denied(CELL, "hostile", f"e{now}", "AccessDenied", now)
        else:
            denials.served(CELL, key)
        assert not denials.at_standstill(now)
