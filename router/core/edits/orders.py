"""The edits that depend on how the cells are now: orders about one cell's instances, scaling, and releases. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Final

import msgspec

from router.core.edits.decided import PolicyEdit, record_in
from router.core.edits.kinds import (
    CellName,
    CordonEdit,
    DrainEdit,
    Edit,
    FairnessEdit,
    FifoHeadEdit,
    LimitEdit,
    NoScalingEdit,
    PinEdit,
    QuarantineEdit,
    ReleaseEdit,
    ScalingEdit,
    UncordonEdit,
    UnlimitEdit,
    UnpinEdit,
    WeightEdit,
)
from router.core.errors import BadEditError, NothingToChangeError
from router.core.fleet.routes import wanted_cells
from router.core.models import CellRecord, Reason
from router.core.policy import MAX_CELLS, Policy
from router.core.registry import Snapshot
from router.core.release import MAX_AT_ONCE, MAX_IMAGE_CHARS, Release, Wave, why_bad_release

MAX_WAVES_CHARS: Final = 300
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_CELLS, description="How many cells there shall be.", examples=[6])]
Image = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_IMAGE_CHARS,
        description="By digest, as REPO@sha256:…; a tag may come to mean another image.",
        examples=["registry.example/worker@sha256:5e1f"],
    ),
]
Waves = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_WAVES_CHARS,
        description="Cells that have it after each wave: numbers, or per cent by weight.",
        examples=["1,25%,100%"],
    ),
]


class FreezeEdit(Edit, frozen=True, tag="freeze"):
    """Leave a cell's instance as it is: no recovery, eviction, replacement or new launch, even when it dies."""

    cell: CellName

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Freeze the cell as it is."""
        return _of_cell(self.cell, snapshot, "freeze", "frozen", lambda p: p.with_frozen(self.cell, frozen=True))


class UnfreezeEdit(Edit, frozen=True, tag="unfreeze"):
    """Give a frozen cell back to automation."""

    cell: CellName

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Unfreeze the cell, if it is frozen."""
        text, unchanged = "looked after by automation again", f"{self.cell} is not frozen"
        return _of_cell(
            self.cell, snapshot, "unfreeze", text, lambda p: p.with_frozen(self.cell, frozen=False), unchanged
        )


class EjectEdit(Edit, frozen=True, tag="eject"):
    """Send a cell no events until it is readmitted: they wait in its hold queue, or with FIFO in the source."""

    cell: CellName

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Eject the cell until it is readmitted."""
        return _of_cell(self.cell, snapshot, "eject", "ejected", lambda p: p.with_ejected(self.cell, ejected=True))


class ReadmitEdit(Edit, frozen=True, tag="readmit"):
    """Send an ejected cell its events again; frozen too when automation had ejected it, which would do so again."""

    cell: CellName

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Readmit the cell, frozen where it must be."""
        record = record_in(snapshot.cells, self.cell)
        text = f"readmitted{', and frozen' * snapshot.policy.ejected_by_ladder(record)}"
        unchanged = f"{self.cell} is not ejected"
        return _of_cell(self.cell, snapshot, "readmit", text, lambda p: readmitted(p, record), unchanged)


class EvictEdit(Edit, frozen=True, tag="evict"):
    """End a cell's instance now and launch another; its events wait meanwhile."""

    cell: CellName

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Order the instance of now evicted."""
        return _order(self.cell, snapshot, evict=True)


class ReplaceEdit(Edit, frozen=True, tag="replace"):
    """Launch another instance beside a cell's own, which serves until that one is verified."""

    cell: CellName

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Order the instance of now replaced."""
        return _order(self.cell, snapshot, evict=False)


class ScaleEdit(Edit, frozen=True, tag="scale"):
    """Add cells or take some away: launched, verified by a canary, then slots a few at a time."""

    cells: Count

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Want another number of cells than there shall be now."""
        now = len(wanted_cells(snapshot))

        def make(policy: Policy, _: int) -> Policy:
            return policy if self.cells == now else policy.with_cells(self.cells, now)

        return PolicyEdit("scale", f"{now} → {self.cells} cells", make)


class DeployEdit(Edit, frozen=True, tag="deploy"):
    """Release a worker image in waves of cells; the leader does it, and takes a bad one back by itself."""

    image: Image
    waves: Waves = "1,25%,100%"
    bake_s: Annotated[float, msgspec.Meta(description="Seconds for which each wave is judged.")] = 120.0
    at_once: Annotated[int, msgspec.Meta(ge=1, le=MAX_AT_ONCE, description="Cells changed at the same time.")] = 3
    slower: Annotated[float, msgspec.Meta(description="Canaries slower than so many times the others' are bad.")] = 1.5
    errors: Annotated[float, msgspec.Meta(description="A share of failed events so far above the others' is bad.")] = (
        0.02
    )

    def why_bad(self) -> Reason | None:
        """Say what is wrong with the waves and the figures."""
        try:
            return next(why_bad_release(self.release()), None)
        except BadEditError as error:
            return str(error)

    def release(self) -> Release:
        """Return the release that this asks for. Raises BadEditError for waves that are none."""
        return Release(self.image, parsed(self.waves), self.bake_s, self.at_once, self.slower, self.errors)

    def on(self, _snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Propose the release to the leader."""
        wanted = self.release()
        text = f"{self.image} in waves of {self.waves}, each judged for {self.bake_s:g} s"
        return PolicyEdit("release", text, lambda policy, _: replace(policy, release=wanted))


class StopDeployEdit(Edit, frozen=True, tag="stop-deploy"):
    """Take back the release that runs: all cells as before."""

    def on(self, snapshot: Snapshot, _why: str, /) -> PolicyEdit:
        """Take the release out of the policy."""
        release = snapshot.policy.release
        if release is None or not release.runs:
            raise NothingToChangeError("No release runs")
        text = f"release of {release.image} at wave {release.wave + 1} of {len(release.waves)}"
        return PolicyEdit("stop release", text, lambda policy, _: replace(policy, release=None))


AnyEdit = (
    PinEdit
    | UnpinEdit
    | WeightEdit
    | CordonEdit
    | DrainEdit
    | UncordonEdit
    | LimitEdit
    | UnlimitEdit
    | FairnessEdit
    | QuarantineEdit
    | ReleaseEdit
    | FifoHeadEdit
    | ScalingEdit
    | NoScalingEdit
    | FreezeEdit
    | UnfreezeEdit
    | EjectEdit
    | ReadmitEdit
    | EvictEdit
    | ReplaceEdit
    | ScaleEdit
    | DeployEdit
    | StopDeployEdit
)
"""Every edit that there is; the field `edit` of its JSON says which it is."""


def decided(edit: Edit, snapshot: Snapshot, why: str) -> PolicyEdit:
    """Return what an edit comes to now. Raises BadEditError, NoSuchCellError or NothingToChangeError."""
    if (bad := edit.why_bad()) is not None:
        raise BadEditError(bad)
    return edit.on(snapshot, why)


def readmitted(policy: Policy, record: CellRecord) -> Policy:
    """Return the policy by which the cell gets its events again: frozen, if automation would eject it otherwise."""
    after = policy.with_ejected(record.cell_id, ejected=False)
    return after.with_frozen(record.cell_id, frozen=True) if policy.ejected_by_ladder(record) else after


def parsed(waves: str) -> tuple[Wave, ...]:
    """Read waves as people write them: `1,25%,100%`. Raises BadEditError."""
    try:
        return tuple(map(_wave, waves.split(",")))
    except ValueError as error:
        text = f"{waves!r}: waves are numbers of cells or percentages, such as 1,25%,100%"
        raise BadEditError(text) from error


def _wave(text: str) -> Wave:
    text = text.strip()
    return Wave(percent=float(text[:-1])) if text.endswith("%") else Wave(cells=int(text))


def _of_cell(
    cell_id: str,
    snapshot: Snapshot,
    action: str,
    text: str,
    make: Callable[[Policy], Policy],
    why_unchanged: Reason | None = None,
) -> PolicyEdit:
    record_in(snapshot.cells, cell_id)
    return PolicyEdit(action, f"{cell_id}: {text}", lambda policy, _: make(policy), why_unchanged, cell_id)


def _order(cell_id: str, snapshot: Snapshot, *, evict: bool) -> PolicyEdit:
    ordered, action = record_in(snapshot.cells, cell_id).generation, "evict" if evict else "replace"
    if not ordered:
        raise NothingToChangeError(f"{cell_id} has had no instance yet: there is none to {action}")
    happens = f"generation {ordered} ends now" if evict else f"generation {ordered} serves until then"
    text = f"another instance; {happens}"
    return _of_cell(cell_id, snapshot, action, text, lambda p: p.with_order(cell_id, ordered, evict=evict))
