"""When an ended lease means a dead instance, and which live lease is false."""

from __future__ import annotations

from router.core.control.lease_trust import LeaseTrust, refused_leases
from router.core.models import InstanceView, LeaseView
from router.core.telemetry import LeaseRefusal


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


def test_a_lease_is_refused_that_the_provisioner_contradicts() -> None:
    """It never started that instance, or has put it elsewhere; an ended lease contradicts nothing."""
    leases = [LeaseView("cell-0000", n, "i", "10.0.0.1:8080", 8, ready=True, live=n < 4) for n in (1, 2, 3, 4)]
    placed = {
        ("cell-0000", 1): InstanceView("cell-0000", 1, running=True, address="10.0.0.1:8080"),
        ("cell-0000", 2): InstanceView("cell-0000", 2, running=True, address="10.6.6.6:8080"),
    }
    assert refused_leases(leases, placed) == {leases[1]: LeaseRefusal.ADDRESS, leases[2]: LeaseRefusal.UNKNOWN}


def test_a_provisioner_that_knows_no_addresses_refuses_no_lease() -> None:
    """It can't tell an instance that it did not start from one that it has forgotten."""
    lease = LeaseView("cell-0000", 7, "i", "10.0.0.1:8080", 8, ready=True, live=True)
    assert refused_leases([lease], {("cell-0000", 1): InstanceView("cell-0000", 1, running=True)}) == {}
