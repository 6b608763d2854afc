"""The whole fleet on one page: whether all is well, what is being done, and what a person has to do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from router.core.detection.samples import RouterSample
from router.core.fleet.cells import FleetCell, Load, fleet_cells, load_of
from router.core.fleet.matters import Matter, doing, done_by_hand, needs, of_scaling
from router.core.fleet.moving import Moving, moving
from router.core.models import Reason, RouterReport
from router.core.policy import TenantLimit
from router.core.registry import AuditEntry, Snapshot
from router.core.scaling.decision import ScalingDecision
from router.core.views import CellView


class FleetStatus(StrEnum):
    """The fleet in one word."""

    WELL = "well"  # nothing is done, and nothing is to be done
    ACTING = "acting"  # something is being done, and nobody has to help
    NEEDS_YOU = "needs you"  # a person has to look
    UNKNOWN = "unknown"  # the registry is out of reach, so that this process knows nothing new


@dataclass(frozen=True, slots=True)
class About:
    """The process that serves the page."""

    role: str
    name: str
    environment: str
    version: str
    sign_in: bool = False  # whether actions ask for a token; without one, who is on this machine may do them


@dataclass(frozen=True, slots=True)
class Known:
    """What was read of the registry at one moment."""

    snapshot: Snapshot
    cells: Sequence[CellView]
    samples: Mapping[str, RouterSample]
    audit: Sequence[AuditEntry]  # the newest, oldest first
    troubles: Sequence[Reason]  # of the process itself
    scaling: ScalingDecision | None = None  # what the leader says of the number of cells


@dataclass(frozen=True, slots=True)
class RouterLine:
    """One router that lives, or did a moment ago."""

    name: str
    zone: str
    live: bool
    epoch: int


@dataclass(frozen=True, slots=True)
class QuarantinedKey:
    """A key whose events wait, and until when; 0 stands for a person's word."""

    key: str
    why: Reason
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page shows at one moment, as JSON has it."""

    about: About
    now_ms: int  # by the registry's clock, when it was read
    age_s: float  # how long ago that was, when this was sent
    status: FleetStatus
    headline: str
    since_ms: int  # since when it has been so, as long as this process has watched
    watched_ms: int  # since when it has watched
    needs: tuple[Matter, ...]
    doing: tuple[Matter, ...]
    by_hand: tuple[Matter, ...]
    moving: Moving | None
    leader: str
    routers: tuple[RouterLine, ...]
    epoch: int  # of the slot map; 0: there is none
    policy_version: int
    load: Load
    queues: Mapping[str, int]  # messages, by what the queue is for
    ages: Mapping[str, int]  # of the oldest messages received lately, in s, by what the queue is for
    default_limit: TenantLimit
    limits: int  # keys with limits of their own
    pins: int
    quarantined: tuple[QuarantinedKey, ...]
    in_quarantine: int  # also those that are not listed
    cells: tuple[FleetCell, ...]
    scaling: ScalingDecision | None  # why there are as many cells as there are; None: their number follows no load


LISTED = 50  # keys in quarantine that are named on the page


def overview(about: About, known: Known) -> Overview:
    """Put together what is shown of the fleet; `since_ms` and `watched_ms` are left to who has watched it."""
    snapshot = known.snapshot
    policy, slot_map = snapshot.policy, snapshot.slot_map
    cells = fleet_cells(snapshot, known.cells, known.samples)
    move = moving(snapshot)
    queues = _largest(snapshot, lambda report: report.queues)
    ages = _largest(snapshot, lambda report: report.ages)
    troubles = [f"This {about.role}: {why}" for why in known.troubles]
    wanted = (*needs(snapshot, cells, queues, ages, troubles), *of_scaling(snapshot.policy, known.scaling))
    done = doing(snapshot, cells, move)
    status = FleetStatus.NEEDS_YOU if wanted else FleetStatus.ACTING if done else FleetStatus.WELL
    lasting = [
        QuarantinedKey(key, entry.why, entry.since_ms, entry.until_ms)
        for key, entry in sorted(policy.quarantined.items())
        if policy.in_quarantine(key, snapshot.now_ms)
    ]
    return Overview(
        about=about,
        now_ms=snapshot.now_ms,
        age_s=0.0,
        status=status,
        headline=headline(status, wanted, done),
        since_ms=0,
        watched_ms=0,
        needs=wanted,
        doing=done,
        by_hand=done_by_hand(snapshot, known.audit),
        moving=move,
        leader=snapshot.leader,
        routers=tuple(
            RouterLine(found.report.router_id, found.report.zone, found.live, found.report.epoch)
            for found in sorted(snapshot.routers, key=lambda view: view.report.router_id)
        ),
        epoch=slot_map.epoch if slot_map is not None else 0,
        policy_version=policy.version,
        load=load_of([sample for each in known.samples.values() for sample in each.cells.values()]),
        queues=queues,
        ages=ages,
        default_limit=policy.default,
        limits=len(policy.limits),
        pins=len(policy.pins),
        quarantined=tuple(lasting[:LISTED]),
        in_quarantine=len(lasting),
        cells=cells,
        scaling=known.scaling if policy.scaling is not None else None,
    )


def without_registry(last: Overview, why: Reason) -> Overview:
    """Return the page as it was last, with the word that the registry is out of reach since."""
    what = f"The registry is out of reach: {why}"
    todo = "Routers go on with the map that they know; nothing is done about sick cells until Redis answers again."
    return _outdated(last, "Redis is lost", Matter(what, todo, runbook="registry-faulty"))


def not_made(last: Overview, why: Reason) -> Overview:
    """Return the page as it was last, with the word that no newer one could be made."""
    todo = "What routes and treats cells goes on without it. The log has the error: report it."
    return _outdated(last, "This page can't be made", Matter(f"The dashboard has an error: {why}", todo))


def _outdated(last: Overview, headline: str, why: Matter) -> Overview:
    headline = f"{headline}, so what follows is of before"
    return replace(last, status=FleetStatus.UNKNOWN, headline=headline, needs=(why, *last.needs))


def headline(status: FleetStatus, wanted: Sequence[Matter], done: Sequence[Matter]) -> str:
    """Say in one line how the fleet is."""
    match status:
        case FleetStatus.NEEDS_YOU:
            return "One thing needs you" if len(wanted) == 1 else f"{len(wanted)} things need you"
        case FleetStatus.ACTING:
            return (
                "Nothing needs you; one thing is being done"
                if len(done) == 1
                else (f"Nothing needs you; {len(done)} things are being done")
            )
        case _:
            return "All is well"


def _largest(snapshot: Snapshot, said: Callable[[RouterReport], Mapping[str, int]]) -> Mapping[str, int]:
    """What routers say of each queue; where they say different things, the largest."""
    found: dict[str, int] = {}
    for router in snapshot.routers:
        if router.live:
            for what, figure in said(router.report).items():
                found[what] = max(figure, found.get(what, 0))
    return found
