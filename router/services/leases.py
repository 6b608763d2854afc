"""What this process believes of ended leases, and tells when it begins or ceases to doubt them."""

from __future__ import annotations

from router.core.control.lease_trust import NO_DOUBT, Doubt, LeaseTrust, doubt
from router.core.registry import Snapshot
from router.core.telemetry import LeasesDoubted
from router.ports import Observer


class Leases:
    """Judges the leases of every snapshot that a router or a controller reads."""

    def __init__(self, lease_ttl_s: float, observer: Observer) -> None:
        self._trust = LeaseTrust(lease_ttl_s)
        self._observer = observer
        self.trusted = False  # an ended lease means an instance that is gone
        self.doubted = NO_DOUBT

    def read(self, now: float, snapshot: Snapshot, *, whole: bool) -> Doubt:
        """Take in what was read at `now`, in monotonic seconds; returns the cells whose ended lease says nothing."""
        self._trust.read(now, snapshot.leases, whole=whole)
        self.trusted = self._trust.trusted(now)
        before, self.doubted = self.doubted, doubt(snapshot, trusted=self.trusted)
        if bool(before.cells) != bool(self.doubted.cells):
            self._observer.observe(LeasesDoubted(self.doubted.why))
        return self.doubted
