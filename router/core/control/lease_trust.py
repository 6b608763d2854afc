"""When a missing lease says something, when it only says that the registry was away, and which lease is no one's.

After an outage, a freeze or a loss of data every lease looks ended, though every cell is well. A lease's end counts
only after the registry has been read without a gap for as long as a lease lives.
"""

from __future__ import annotations

from router.core.models import InstanceView, LeaseView


class LeaseTrust:
    """Fed with each attempt to read the registry; times are monotonic seconds."""

    def __init__(self, lease_ttl_s: float) -> None:
        self._ttl_s = lease_ttl_s
        self._since: float | None = None
        self._last = 0.0

    def read(self, now: float, *, whole: bool) -> None:
        """The registry answered; `whole`: with all that it should hold."""
        gap = now - self._last > self._ttl_s / 2
        if self._since is None or gap or not whole:
            self._since = now
        self._last = now

    def trusted(self, now: float) -> bool:
        """Whether a lease that has ended means an instance that is gone."""
        return self._since is not None and now - self._since >= self._ttl_s


def contradiction(lease: LeaseView, instance: InstanceView | None) -> str:
    """Why a live lease isn't that of the instance which was started for it, in one word; empty: nothing is against it.

    A provisioner that has addresses knows where it has put an instance. One that says it is elsewhere, or was never
    started, is none.
    """
    if not lease.live:
        return ""
    if instance is None:
        return "unknown"
    return "address" if instance.address not in ("", lease.address) else ""
