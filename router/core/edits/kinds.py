"""The edits: every change of the policy that a person can want, as the command line and the Admin API name it. Pure.

Each is a record that says what is wanted, and knows what that comes to on what the registry holds now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final

import msgspec

from router.core.edits.decided import PolicyEdit, record_in
from router.core.fairness.turns import MAX_TURN, Fairness, Priority, why_bad_fairness
from router.core.fairness.turns import described as turns_of
from router.core.models import Reason
from router.core.policy import (
    MAX_BURST,
    MAX_CELLS,
    MAX_CONCURRENCY,
    MAX_KEY_CHARS,
    MAX_RATE,
    MAX_WEIGHT,
    MIN_RATE,
    MIN_WEIGHT,
    FifoHead,
    Policy,
    Quarantine,
    TenantLimit,
)
from router.core.registry import Snapshot
from router.core.scaling.wanted import (
    MAX_AFTER_S,
    MAX_CELL_RATE,
    MAX_TARGET,
    MIN_AFTER_S,
    MIN_TARGET,
    Scaling,
    described,
    why_bad_scaling,
)

MAX_QUARANTINE_S: Final = 100 * 365 * 86400.0  # a century; who wants a longer one wants one without an end
BY_HAND: Final = "by hand"  # why a key is in quarantine, where a person gave no reason

KeyName = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=MAX_KEY_CHARS, description="The partition key.", examples=["acme"]),
]
CellName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, description="The cell.", examples=["cell-0003"])]
Rate = Annotated[
    float,
    msgspec.Meta(ge=0, le=MAX_RATE, description="Events a second in the long run, per router; 0: no limit."),
]
Burst = Annotated[int, msgspec.Meta(ge=1, le=MAX_BURST, description="Events at once after a pause.")]
Concurrency = Annotated[
    int, msgspec.Meta(ge=0, le=MAX_CONCURRENCY, description="Events in flight at once, per router; 0: no limit.")
]
Weight = Annotated[
    float,
    msgspec.Meta(ge=MIN_WEIGHT, le=MAX_WEIGHT, description="Its share of the slots; others have 1.", examples=[2.0]),
]
TurnWeight = Annotated[
    int,
    msgspec.Meta(ge=1, le=MAX_TURN, description="Events of it that leave in one turn; others have 1.", examples=[4]),
]
QuarantineSeconds = Annotated[
    float, msgspec.Meta(ge=0, le=MAX_QUARANTINE_S, description="For how long; 0: until it is released by hand.")
]

CellCount = Annotated[int, msgspec.Meta(ge=1, le=MAX_CELLS, description="How many cells.", examples=[4])]
WatchedSeconds = Annotated[
    float,
    msgspec.Meta(ge=MIN_AFTER_S, le=MAX_AFTER_S, description="For how long the load is watched before a change."),
]


class Edit(msgspec.Struct, frozen=True, tag_field="edit", forbid_unknown_fields=True):
    """One change of the policy that a person wants."""

    def why_bad(self) -> Reason | None:
        """Say why nobody can want this, whatever the registry holds; None when somebody can."""
        return None

    def on(self, snapshot: Snapshot, why: str, /) -> PolicyEdit:
        """Return what it comes to now; `why` are the person's own words. Raises NoSuchCellError."""
        raise NotImplementedError


class PinEdit(Edit, frozen=True, tag="pin"):
    """Put a key in a cell of your choice, whatever its slot says."""

    key: KeyName
    cell: CellName

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Pin the key to the cell."""
        record_in(snapshot.cells, self.cell)
        text = f"{self.key}: pinned to {self.cell}"
        return PolicyEdit("pin", text, lambda policy, _: policy.with_pin(self.key, self.cell), cell_id=self.cell)


class UnpinEdit(Edit, frozen=True, tag="unpin"):
    """Take a key's pin away: its slot says again where it goes."""

    key: KeyName

    def on(self, _snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Take the pin away."""
        text, unchanged = f"{self.key}: where its slot is", f"{self.key} is not pinned"
        return PolicyEdit("unpin", text, lambda policy, _: policy.with_pin(self.key, None), unchanged)


class WeightEdit(Edit, frozen=True, tag="weight"):
    """Give a cell another share of the slots than the others, which have 1 each."""

    cell: CellName
    weight: Weight

    def why_bad(self) -> Reason | None:
        """Hold the weight to its bounds; NaN is never within them."""
        bounds = f"{MIN_WEIGHT:g} to {MAX_WEIGHT:g}"
        good = MIN_WEIGHT <= self.weight <= MAX_WEIGHT
        return None if good else f"a weight must be {bounds}; to empty a cell: cellrouter apply drain"

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Change the cell's share."""
        record_in(snapshot.cells, self.cell)
        text = f"{self.cell}: weight {self.weight:g}"
        return PolicyEdit(
            "weight", text, lambda policy, _: policy.with_weight(self.cell, self.weight), cell_id=self.cell
        )


class CordonEdit(Edit, frozen=True, tag="cordon"):
    """Give a cell no more slots; it keeps what it has."""

    cell: CellName

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Cordon the cell, without draining it."""
        record_in(snapshot.cells, self.cell)
        text = f"{self.cell}: cordoned"
        return PolicyEdit("cordon", text, lambda policy, _: policy.with_cordon(self.cell), cell_id=self.cell)


class DrainEdit(Edit, frozen=True, tag="drain"):
    """Move all that a cell has to the others; it goes on running, with nothing."""

    cell: CellName

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Cordon the cell and drain it."""
        record_in(snapshot.cells, self.cell)
        return PolicyEdit(
            "drain",
            f"{self.cell}: draining",
            lambda policy, _: policy.with_cordon(self.cell, drain=True),
            cell_id=self.cell,
        )


class UncordonEdit(Edit, frozen=True, tag="uncordon"):
    """Let a cell that was cordoned or drained have its share again."""

    cell: CellName

    def on(self, _snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Take the cordon away, also of a cell that there is no longer."""
        text, unchanged = f"{self.cell}: has its share again", f"{self.cell} is not cordoned"
        return PolicyEdit("uncordon", text, lambda policy, _: policy.without_cordon(self.cell), unchanged)


class LimitEdit(Edit, frozen=True, tag="limit"):
    """Limit a key, or all keys without a limit of their own. What is over the limit waits in the hold queue."""

    key: KeyName | None  # None: every key without a limit of its own
    rate: Rate = 0.0
    burst: Burst = 1
    concurrency: Concurrency = 0

    def why_bad(self) -> Reason | None:
        """Hold the rate to its bounds, and want a rate or a concurrency; NaN is no rate."""
        if not (self.rate == 0 or MIN_RATE <= self.rate <= MAX_RATE):
            return f"a rate must be 0, or {MIN_RATE:g} to {MAX_RATE:g} events a second"
        if not self.rate and not self.concurrency:
            return "give a rate, a concurrency or both; to take a limit away: cellrouter apply unlimit"
        return None

    def on(self, _snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Set the limit in place of another."""
        wanted = TenantLimit(self.rate, self.burst, self.concurrency)
        text = f"{self.key or 'default'}: rate {self.rate:g}/s, burst {self.burst}, "
        text += f"concurrency {self.concurrency or 'any'}"
        return PolicyEdit("limit", text, lambda policy, _: policy.with_limit(self.key, wanted))


class UnlimitEdit(Edit, frozen=True, tag="unlimit"):
    """Take a key's own limit away, or the one of all keys without a limit of their own."""

    key: KeyName | None  # None: every key without a limit of its own

    def on(self, _snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Take the limit away."""
        name = self.key or "default"
        text, unchanged = f"{name}: no limit of its own any more", f"{name} has no limit"
        return PolicyEdit("unlimit", text, lambda policy, _: policy.with_limit(self.key, None), unchanged)


class FairnessEdit(Edit, frozen=True, tag="fairness"):
    """Have a key take more turns in its cell's lane than other keys, or earlier ones; weight 1 and normal: as all."""

    key: KeyName
    weight: TurnWeight = 1
    priority: Priority = Priority.NORMAL

    def why_bad(self) -> Reason | None:
        """Hold the weight to its bounds."""
        return next(why_bad_fairness(f"key {self.key!r:.100}", self.fairness()), None)

    def fairness(self) -> Fairness:
        """Return what this asks for, as the policy has it."""
        return Fairness(self.weight, self.priority)

    def on(self, _snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Set how the key takes turns in place of what it had."""
        text = f"{self.key}: {turns_of(self.fairness())}"
        return PolicyEdit("fairness", text, lambda policy, _: policy.with_fairness(self.key, self.fairness()))


class QuarantineEdit(Edit, frozen=True, tag="quarantine"):
    """Keep a key's events from its cell: they wait in the quarantine queue."""

    key: KeyName
    seconds: QuarantineSeconds = 0.0

    def why_bad(self) -> Reason | None:
        """Hold the time to its bounds; NaN is never within them."""
        good = 0 <= self.seconds <= MAX_QUARANTINE_S
        return None if good else f"seconds must be at most {MAX_QUARANTINE_S:g}; 0: until released by hand"

    def on(self, _snapshot: Snapshot, why: str, /) -> PolicyEdit:
        """Quarantine the key from now on."""

        def make(policy: Policy, now_ms: int) -> Policy:
            until_ms = now_ms + round(self.seconds * 1000) if self.seconds else 0
            return policy.with_quarantine(self.key, Quarantine(why or BY_HAND, now_ms, until_ms), now_ms)

        until = f"for {self.seconds:g} s" if self.seconds else "until it is released"
        return PolicyEdit("quarantine", f"{self.key}: in quarantine {until}", make)


class ReleaseEdit(Edit, frozen=True, tag="release"):
    """Let a key's events go to its cell again, those that waited too."""

    key: KeyName

    def on(self, _snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Release the key from its quarantine."""

        def make(policy: Policy, now_ms: int) -> Policy:
            known = policy.in_quarantine(self.key, now_ms) or policy.killed_by(self.key, now_ms)
            return policy.with_quarantine(self.key, None, now_ms) if known else policy

        unchanged = f"{self.key} is not in quarantine; cellrouter policy show lists who is"
        return PolicyEdit("release", f"{self.key}: released; what waited goes on soon", make, unchanged)


class ScalingEdit(Edit, frozen=True, tag="scaling"):
    """Let the number of cells follow the load, between two bounds: one more or one fewer at a time."""

    min_cells: CellCount
    max_cells: CellCount
    target: Annotated[
        float,
        msgspec.Meta(
            ge=MIN_TARGET, le=MAX_TARGET, description="The share of the cells in use above which one is added."
        ),
    ] = 0.6
    cell_rate: Annotated[
        float,
        msgspec.Meta(
            ge=0, le=MAX_CELL_RATE, description="Events a second that a cell bears; more waits. 0: not known."
        ),
    ] = 0.0
    out_after_s: WatchedSeconds = 180.0
    in_after_s: WatchedSeconds = 900.0

    def why_bad(self) -> Reason | None:
        """Hold the bounds, the share and the times to what the leader accepts."""
        return next(why_bad_scaling(self.scaling(), MAX_CELLS), None)

    def scaling(self) -> Scaling:
        """Return what this asks for, as the policy has it."""
        return Scaling(self.min_cells, self.max_cells, self.target, self.cell_rate, self.out_after_s, self.in_after_s)

    def on(self, _snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Put the bounds in force in place of others."""
        wanted = self.scaling()
        return PolicyEdit("scaling", described(wanted), lambda policy, _: replace(policy, scaling=wanted))


class NoScalingEdit(Edit, frozen=True, tag="no-scaling"):
    """Let the number of cells follow no load: it stays as it is until a person changes it."""

    def on(self, _snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Take the bounds away, and let each slot that was moved go where the others are."""
        unchanged = "The number of cells follows no load"
        return PolicyEdit(
            "no scaling", "the cells stay as many", lambda p, _: replace(p, scaling=None, homes={}), unchanged
        )


class FifoHeadEdit(Edit, frozen=True, tag="fifo-head"):
    """Choose what becomes of the first event of a FIFO group once it has killed too many instances."""

    choice: FifoHead

    def on(self, _snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Make the choice for every group."""
        text = f"the head of a FIFO group that killed too many instances: {self.choice}"
        return PolicyEdit("fifo-head", text, lambda policy, _: replace(policy, fifo_head=self.choice))
