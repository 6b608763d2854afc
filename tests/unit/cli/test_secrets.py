"""`cellrouter secrets`: who uses which secret, and whether an old one can go."""

from __future__ import annotations

from router.cli.secrets import uses_of, what_is_next
from router.core.models import LeaseView
from router.core.registry import Snapshot


def lease(cell_id: str, generation: int, secret_id: str, *, live: bool = True) -> LeaseView:
    """A lease that is proven by this secret."""
    return LeaseView(cell_id, generation, "i", "a:1", 8, ready=True, live=live, secret_id=secret_id)


def test_an_old_secret_can_go_when_no_live_instance_uses_it() -> None:
    """A lease that has ended says nothing, and a cell may have an instance of each for a while."""
    leases = (lease("a", 1, "old"), lease("a", 2, "new"), lease("b", 1, "old"), lease("c", 1, "old", live=False))
    uses = uses_of(["new", "old"], Snapshot(0, None, {}, leases, ""))
    assert [(use.secret, use.signs, use.instances, use.cells) for use in uses] == [
        ("new", True, 1, ["a"]),
        ("old", False, 2, ["a", "b"]),
    ]
    assert what_is_next(uses).startswith("2 instances use another secret")
    assert "the others can go" in what_is_next(uses_of(["new", "old"], Snapshot(0, None, {}, leases[1:2], "")))
    assert "one secret" in what_is_next(uses_of(["new"], Snapshot(0, None, {}, leases, "")))
