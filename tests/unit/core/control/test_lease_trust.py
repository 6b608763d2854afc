"""When an ended lease means a dead instance, and which live lease is false."""

from __future__ import annotations

from router.core.control.lease_trust import LeaseTrust


def test_trust_needs_a_lease_lifetime_of_reading_without_a_gap() -> None:
    """Trust begins anew at the start, after a gap and after a loss of data."""
    trust = LeaseTrust(2.0)
    assert not trust.trusted(0)
    for step in range(9):
        trust.read(step / 4, whole=True)
    assert trust.trusted(2.0)
    trust.read(3.5, whole=True)  # a gap of 1.5 s
    assert not trust.trusted(3.5)
    for step in range(14, 23):
        trust.read(step / 4, whole=True)
    assert trust.trusted(5.5)
    trust.read(5.75, whole=False)  # emptied
    assert not trust.trusted(5.75)
