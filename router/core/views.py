"""What a process shows of itself: the snapshot records that its gauges and its GET /cells both read."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.control.observed import Suspension
from router.core.detection.minutes.observation import Observation
from router.core.models import CellState, Reason, Rung
from router.core.release import Release


@dataclass(frozen=True, slots=True)
class LaneView:
    """One of a router's lanes at one moment: an entry of its GET /cells."""

    cell_id: str
    state: CellState  # serving, ejected, or down while no instance can be reached
    generation: int  # of the instance it sends to; 0 for none
    address: str  # host:port; empty for none
    slots: int
    waiting: int  # events not yet sent
    in_flight: int  # events sent and not yet answered
    window: int  # how many events may be in flight
    answered: int  # events with outcome ok since this router started
    p50_ms: float  # median latency of the last 512 events
    p99_ms: float  # 99th percentile of the same events
    blocked_s: float  # how long ago the oldest event was sent that keeps a FIFO group waiting; 0 for none


@dataclass(frozen=True, slots=True)
class CellView:
    """One cell at one moment, as controllers see it: an entry of their GET /cells.

    `verdict`, `rule`, `verdict_for_s`, `shift`, `canary_s`, `slow_paths`, `observations`, `why_untreated` and `cushion`
    are the leader's word. They are empty when that is of another instance, or too old to say anything about now.
    """

    cell_id: str
    state: CellState
    generation: int  # the admitted one; 0 for none
    launching: int  # the generation being launched; 0 for none
    address: str  # host:port of the admitted instance; empty for none
    zone: str  # what that instance fails together with; empty where it names none
    slots: int
    verdict: str
    rule: str  # that the verdict follows from, in words
    verdict_for_s: float  # how long it has been the verdict
    shift: float | None  # natural logarithm of its latency relative to the other cells'
    canary_s: float | None  # median latency of its canaries
    slow_paths: tuple[str, ...]  # that a router or the leader has to it while the cell is not slow, in words
    observations: tuple[Observation, ...]  # what the last minutes show of it: nothing is done about that
    rung: Rung
    why: Reason | None  # it is on that rung
    why_untreated: Reason | None  # why nothing is done about it, or would be if it were sick
    cushion: Reason | None  # why it gets no more at once than usual: it looks slow
    ejected: bool  # its events wait in its hold queue, by a person's order or by the ladder
    frozen: bool  # by a person
    order: str | None  # a person's order that is not carried out yet: evict, replace
    image: str  # that the admitted instance was launched with; empty: the provisioner's own
    release: str  # how far the release is that changes the cells' image, in words; empty while none runs


@dataclass(frozen=True, slots=True)
class ScalingView:
    """How the number of cells follows the load, as the leader sees it."""

    wanted: int  # cells that there shall be
    used: float | None  # share of the cells in use; None: not known now
    short: bool  # more cells are needed than there may be


@dataclass(frozen=True, slots=True)
class FleetView:
    """All cells at one moment, as the leader sees them."""

    cells: tuple[CellView, ...]
    suspended_by: Suspension | None  # what suspends automation as a whole
    release: Release | None = None  # the last one
    secret_ids: tuple[str, ...] = ()  # of each instance with a live lease, the name of the secret that it uses
    scaling: ScalingView | None = None  # None: the number of cells follows no load


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One entry of a controller's GET /targets, in the shape of Prometheus' http_sd_configs."""

    targets: list[str]  # host:port
    labels: dict[str, str]
