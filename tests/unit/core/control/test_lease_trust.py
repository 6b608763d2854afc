"""When an ended lease means a dead instance, and which live lease is false."""

from __future__ import annotations

from dataclasses import replace

from router.core.control.lease_trust import NO_DOUBT, LeaseTrust, doubt, refused_leases
from router.core.models import CellRecord, InstanceView, LeaseView
from router.core.registry import Snapshot
from router.core.telemetry import LeaseRefusal


def lease(cell: int, beat: int = 0, *, live: bool = True, ended_ms: int = 0) -> LeaseView:
    """Make the lease of a cell's first instance."""
    where = (f"cell-{cell:04d}", 1, "i", "10.0.0.1:8080", 8)
    return LeaseView(*where, ready=True, live=live, ended_ms=ended_ms, beat=beat)


def read(trust: LeaseTrust, since: float, until: float, *, renewed: bool = True) -> float:
    """Read the registry every 0.25 s; one instance renews every 0.5 s, or not since 4 s. Returns when that ended."""
    for step in range(round(since * 4), round(until * 4) + 1):
        trust.read(step / 4, [lease(0, step // 2 if renewed else 8), lease(1, live=False)], whole=True)
    return until


def test_trust_needs_a_lease_lifetime_of_reading_without_a_gap() -> None:
    """Trust begins anew at the start, after a gap and after a loss of data."""
    trust = LeaseTrust(2.0)
    assert not trust.trusted(0)
    assert trust.trusted(read(trust, 0, 2.0))
    trust.read(3.5, [lease(0, 7)], whole=True)  # a gap of 1.5 s
    assert not trust.trusted(3.5)
    assert trust.trusted(read(trust, 3.5, 5.5))
    trust.read(5.75, [lease(0, 12)], whole=False)  # emptied
    assert not trust.trusted(5.75)


def test_trust_needs_a_lease_lifetime_of_renewals_without_a_gap() -> None:
    """When no instance renews, trust ends before the first lease does, and comes back a lifetime after renewals do."""
    trust = LeaseTrust(2.0)
    assert trust.trusted(read(trust, 0, 4.0))
    assert trust.trusted(read(trust, 4.25, 4.75, renewed=False))
    assert not trust.trusted(read(trust, 5.0, 5.25, renewed=False))  # renewed last at 4.0: it ends at 6.0
    read(trust, 5.5, 60.0, renewed=False)
    assert not trust.trusted(60.0)
    assert not trust.trusted(read(trust, 60.25, 61.75))
    assert trust.trusted(read(trust, 62.0, 62.5))


def snapshot(*leases: LeaseView) -> Snapshot:
    """Make a registry of four cells with these leases."""
    cells = [CellRecord(f"cell-{i:04d}", generation=1) for i in range(4)]
    return Snapshot(1, None, {cell.cell_id: cell for cell in cells}, leases, "")


def test_without_trust_every_ended_lease_is_in_doubt_and_with_it_one_is_not() -> None:
    """A single cell that falls silent while the others renew is gone."""
    one = snapshot(lease(0, live=False), lease(1), lease(2), lease(3))
    assert doubt(one, trusted=False).cells == {"cell-0000"}
    assert doubt(one, trusted=True) is NO_DOUBT
    assert doubt(snapshot(*map(lease, range(4))), trusted=False) is NO_DOUBT


def test_leases_that_end_together_are_in_doubt_for_a_while() -> None:
    """Most instances don't die at once. Those that stay silent are believed to be gone; a lost lease says nothing."""
    ended = [lease(0, live=False, ended_ms=14_000), lease(1, live=False, ended_ms=16_000)]
    found = doubt(snapshot(*ended, lease(2)), trusted=True)
    assert found.cells == {"cell-0000", "cell-0003"}
    assert found.why == "the leases of 2 of 4 cells ended together"


def test_a_lease_that_somebody_took_away_is_in_doubt_and_one_that_said_it_ends_is_not() -> None:
    """Whoever may write leases can take others' away, and can't say for them that they have ended."""
    gone = replace(lease(0, live=False, ended_ms=99_000), missing=True)
    found = doubt(snapshot(gone, lease(1), lease(2), lease(3)), trusted=True)
    assert found.cells == {"cell-0000"}
    assert "taken away" in (found.why or "")
    left = replace(lease(0, live=False), released=True)
    for trusted in (True, False):
        assert doubt(snapshot(left, lease(1), lease(2), lease(3)), trusted=trusted) is NO_DOUBT


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
    assert refused_leases([lease(0)], {("cell-0000", 1): InstanceView("cell-0000", 1, running=True)}) == {}
