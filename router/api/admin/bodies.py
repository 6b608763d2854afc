"""What the Admin API takes and answers, as records: the OpenAPI description is made of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from router.core.detection.samples import RouterSample
from router.core.edits.orders import AnyEdit
from router.core.fleet.explained import Explanation
from router.core.fleet.routes import KeyRoute
from router.core.models import CellRecord, LeaseView, RouterView, Traffic
from router.core.policy import Policy
from router.core.registry import AuditEntry, Condition, Snapshot
from router.core.release import Release
from router.core.slot_map.blast_radius import BlastRadius
from router.core.slot_map.slots import WireMap
from router.core.views import CellView

MAX_WHY: Final = 1000
MAX_PLAN: Final = 8000  # characters of a plan's text, which names a key, a cell or an image
Why = Annotated[
    str,
    msgspec.Meta(
        min_length=1, max_length=MAX_WHY, pattern=r"\S", description="Why, for the audit.", examples=["disk full"]
    ),
]
Agreed = Annotated[
    str,
    msgspec.Meta(
        max_length=MAX_PLAN,
        description="The `text` of the plan that you have seen: when it is another one by now, nothing is done.",
    ),
]
Age = Annotated[
    float, msgspec.Meta(description="How many seconds ago this was read; more than 0 while Redis is out of reach.")
]


class Taken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body that a request brings."""


class ChangeBody(Taken, frozen=True):
    """An edit that shall be made, and why."""

    change: AnyEdit
    why: Why
    agreed: Agreed | None = None


class PlanBody(Taken, frozen=True):
    """An edit of which only the effect is asked; the body of a change is one too."""

    change: AnyEdit
    why: Annotated[str, msgspec.Meta(max_length=MAX_WHY, description="Not used here.")] = ""
    agreed: Annotated[str, msgspec.Meta(max_length=MAX_PLAN, description="Not used here.")] | None = None


class UndoBody(Taken, frozen=True):
    """How far people's changes shall be taken back, and why."""

    why: Why
    to: (
        Annotated[int, msgspec.Meta(ge=0, description="Take back all since this version; left out: the last one.")]
        | None
    ) = None
    agreed: (
        Annotated[
            int,
            msgspec.Meta(
                ge=0,
                description="The newest version that shall be taken back, as `GET /v1/undo` says it: when it is "
                "another one by now, nothing is done.",
            ),
        ]
        | None
    ) = None


class Me(msgspec.Struct, frozen=True):
    """Who asks, and what they may do."""

    who: str
    role: str


class Cells(msgspec.Struct, frozen=True):
    """How all cells are."""

    age_s: Age
    cells: list[CellView]


class OneCell(msgspec.Struct, frozen=True):
    """Why a cell is treated as it is: what `cellrouter explain` shows."""

    age_s: Age
    cell: Explanation


class Where(msgspec.Struct, frozen=True):
    """Where a key's events go: what `cellrouter where` shows."""

    age_s: Age
    route: KeyRoute


class AuditPage(msgspec.Struct, frozen=True):
    """What people, routers and controllers did, oldest first."""

    age_s: Age
    entries: list[AuditEntry]
    found: Annotated[int, msgspec.Meta(description="How many entries match, these and others.")]


class PolicyNow(msgspec.Struct, frozen=True):
    """What is decided about keys and cells."""

    age_s: Age
    policy: Policy


class VersionLine(msgspec.Struct, frozen=True):
    """One version of the policy, how it came to be, and whether it was taken back."""

    policy: Policy
    audit: AuditEntry
    taken_back: bool


class PolicyHistory(msgspec.Struct, frozen=True):
    """The versions of the policy that are remembered, oldest first."""

    age_s: Age
    versions: list[VersionLine]


class Releases(msgspec.Struct, frozen=True):
    """The image that all cells have, and the last release."""

    age_s: Age
    image: str
    release: Release | None
    progress: str


class BlastRadii(msgspec.Struct, frozen=True):
    """The share of keys, events and tenants that each cell, zone or region would take with it."""

    age_s: Age
    radii: list[BlastRadius]


class WireSnapshot(msgspec.Struct, frozen=True):
    """A snapshot of the registry, in the types that JSON has."""

    now_ms: int
    slot_map: WireMap | None
    cells: dict[str, CellRecord]
    leases: list[LeaseView]
    leader: str
    policy: Policy
    routers: list[RouterView]
    cushioned: list[str]

    @classmethod
    def of(cls, found: Snapshot) -> WireSnapshot:
        """Make it of what was read."""
        return cls(
            found.now_ms,
            None if found.slot_map is None else found.slot_map.to_wire(),
            dict(found.cells),
            list(found.leases),
            found.leader,
            found.policy,
            list(found.routers),
            sorted(found.cushioned),
        )


class Registry(msgspec.Struct, frozen=True):
    """All that the command line reads of the registry; its parts may change with the version."""

    age_s: Age
    snapshot: WireSnapshot
    conditions: Mapping[str, Condition]
    samples: Mapping[str, RouterSample]
    traffic: list[Mapping[str, Traffic]]


FilterText = Annotated[str, msgspec.Meta(max_length=1000)]
FilterSeconds = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class LetterFilter(Taken, frozen=True):
    """Which dead letters are meant: those for which all of this is so."""

    reason: FilterText | None = None
    key: FilterText | None = None
    cell: FilterText | None = None
    event: FilterText | None = None
    source: FilterText | None = None
    error: FilterText | None = None
    older_than_s: FilterSeconds | None = None
    newer_than_s: FilterSeconds | None = None


class LettersBody(Taken, frozen=True):
    """What shall be done with which dead letters, and why."""

    where: LetterFilter
    why: Why
    all: Annotated[bool, msgspec.Meta(description="Every letter: needed with an empty `where`.")] = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="The most entries; ask again for more.")] = 1000
    dry_run: Annotated[bool, msgspec.Meta(description="Only say what would be done.")] = False


class LetterLine(msgspec.Struct, frozen=True):
    """One dead letter, without its body."""

    entry_id: str
    event_id: str
    reason: str
    error: str
    source: str
    partition_key: str
    cell_id: str
    attempts: int
    dead_at_ms: int
    body_bytes: int


class Letters(msgspec.Struct, frozen=True):
    """Dead letters as they were found, in the queue's own order."""

    letters: list[LetterLine]
    others: Annotated[int, msgspec.Meta(description="How many others were met that don't match.")]
    left: Annotated[int, msgspec.Meta(description="How many messages were met in all.")]
    complete: Annotated[bool, msgspec.Meta(description="False: there was no time to look at all.")]


class LetterWhole(msgspec.Struct, frozen=True):
    """All of a dead letter."""

    letter: LetterLine
    attributes: dict[str, str]
    body: Annotated[str, msgspec.Meta(description="As it came, or the S3 pointer that it was fetched by.")]


class LettersDone(msgspec.Struct, frozen=True):
    """What was done with dead letters, or would be in a dry run."""

    done: int
    failed: int
    left: Annotated[int, msgspec.Meta(description="How many that were met are still there.")]
    complete: Annotated[bool, msgspec.Meta(description="False: there was no time for all; ask again.")]
    told: Annotated[list[str], msgspec.Meta(description="Some that failed, or that would be done.")]


def example(kind: str, why: str = "a test", **fields: Any) -> dict[str, Any]:
    """Make the body of a change, for the description."""
    return {"change": {"edit": kind, **fields}, "why": why}


EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "pin": example("pin", "a noisy neighbour", key="acme", cell="cell-0003"),
    "unpin": example("unpin", key="acme"),
    "weight": example("weight", "a larger machine", cell="cell-0003", weight=2.0),
    "cordon": example("cordon", "before it goes", cell="cell-0003"),
    "drain": example("drain", "its disk is old", cell="cell-0003"),
    "uncordon": example("uncordon", "the disk is new", cell="cell-0003"),
    "limit": example("limit", "a runaway script", key="acme", rate=100.0, burst=200, concurrency=8),
    "limit all keys": example("limit", "a fair share", key=None, rate=50.0, burst=100),
    "unlimit": example("unlimit", "the script is mended", key="acme"),
    "fairness": example("fairness", "they pay for it", key="acme", weight=4, priority="high"),
    "quarantine": example("quarantine", "its events crash the handler", key="acme", seconds=3600.0),
    "release": example("release", "the handler is mended", key="acme"),
    "fifo-head": example("fifo-head", "nothing may wait", choice="skip"),
    "scaling": example("scaling", "the load has days", min_cells=2, max_cells=12, target=0.6),
    "no-scaling": example("no-scaling", "a migration"),
    "freeze": example("freeze", "to look at it", cell="cell-0003"),
    "unfreeze": example("unfreeze", "done", cell="cell-0003"),
    "eject": example("eject", "its database is down", cell="cell-0003"),
    "readmit": example("readmit", "the database is back", cell="cell-0003"),
    "evict": example("evict", "disk full", cell="cell-0003"),
    "replace": example("replace", "a new machine", cell="cell-0003"),
    "scale": example("scale", "the quarter ends", cells=6),
    "deploy": example("deploy", "version 7", image="registry.example/worker@sha256:5e1f", waves="1,25%,100%"),
    "stop-deploy": example("stop-deploy", "it is slow"),
}
"""A change of each kind."""
