"""Who gets a place at an HTTP server, and who makes room."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from cell_worker.contract.http_server import Door


class Visitor:
    """A connection that waits since some time, or is at work."""

    def __init__(self, waits_since: float | None) -> None:
        self.waits_since = waits_since
        self.was_cut = False

    def look(self, now: float) -> None:
        pass

    def cut(self) -> None:
        self.was_cut = True


def full(door: Door, count: int, address: str, *, at_work: bool = False) -> list[Visitor]:
    """Let so many enter; each has waited for less than the one before."""
    visitors = [Visitor(None if at_work else float(number)) for number in range(count)]
    assert all(door.enter(visitor, address) for visitor in visitors)
    return visitors


def test_those_that_have_waited_longest_make_room() -> None:
    """An eighth of them goes at once, so that a flood costs little; the newest stay."""
    door = Door(64)
    waiting = full(door, 32, "10.0.0.1")
    assert door.enter(Visitor(99.0), "10.0.0.1")
    assert [visitor.was_cut for visitor in waiting] == [True] * 4 + [False] * 28
    assert len(door) == 29


def test_what_is_at_work_is_never_cut() -> None:
    """Even where that leaves no place for anybody else from that address."""
    door = Door(64)
    busy = full(door, 32, "10.0.0.1", at_work=True)
    assert not door.enter(Visitor(0.0), "10.0.0.1")
    assert not any(visitor.was_cut for visitor in busy)
    assert door.enter(Visitor(0.0), "10.0.0.2")


def test_one_address_takes_half_of_all_places_at_most() -> None:
    """The other half is for others; all of an IPv6 network counts as one address."""
    door = Door(64)
    full(door, 16, "fd00::1")
    full(door, 16, "fd00::2")
    assert door.enter(Visitor(99.0), "fd00::3")
    assert len(door) <= 32
    others = full(door, 20, "::ffff:10.0.0.1")
    assert not any(visitor.was_cut for visitor in others)


def test_many_addresses_make_room_for_each_other() -> None:
    """The overall number holds, however many addresses there are."""
    door = Door(64)
    visitors = [full(door, 1, f"10.0.0.{number}")[0] for number in range(200)]
    assert len(door) <= 64
    assert not visitors[-1].was_cut
    for visitor in visitors:
        door.leave(visitor)
    assert len(door) == 0


@pytest.mark.parametrize("minutes", [1, 3])
def test_scarce_places_are_told_once_a_minute(minutes: int) -> None:
    """A flood must not fill the log either."""
    door = Door(64)
    with capture_logs() as logs:
        for second in range(60 * minutes):
            for _ in range(50):
                door.enter(Visitor(float(second)), "10.0.0.9")
            door.look(float(second))
    assert len(logs) == minutes
    assert all(entry["mostly_from"] == "10.0.0.9" for entry in logs)
