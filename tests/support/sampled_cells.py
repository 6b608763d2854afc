"""Cells as the detector sees them: routers' samples and canaries, without any router or cell behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log

from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.canaries import LEADER
from router.core.detection.detector import Detector
from router.core.detection.samples import Canaries, CanarySample, CellSample, RouterSample, TenantSample
from router.core.models import Vitals

VICTIM = "cell-0"
LATENCY_S = 0.1
CANARY_S = 0.03


@dataclass
class Fleet:
    """Cells whose tenants each send one event a second through every router, and their canaries."""

    cells: int = 3
    tenants: int = 10
    routers: int = 1
    now: float = 0.0
    detector: Detector = field(default_factory=Detector)
    generations: dict[str, int] = field(default_factory=dict)
    log_factor: dict[str, float] = field(default_factory=dict)  # cell → natural logarithm of a factor on its latencies
    canary_s: dict[str, float | None] = field(default_factory=dict)  # cell → seconds of its canaries; None: it has none
    vitals: dict[str, Vitals] = field(default_factory=dict)  # cell → what its instance says of itself
    path_s: dict[tuple[str, str], float] = field(default_factory=dict)  # vantage point, cell → seconds more
    path_log: dict[tuple[str, str], float] = field(default_factory=dict)  # router, cell → logarithm of a factor
    canaries_fail: set[str] = field(default_factory=set)  # cells
    rehearses: bool = False  # what every instance says of its handler
    own: Callable[[str, int], TenantSample | None] = lambda cell_id, tenant: None
    found: dict[str, Assessment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [f"cell-{number}" for number in range(self.cells)]
        self.generations = self.generations or dict.fromkeys(names, 1)
        self.detector.admitted(self.generations, self.cells)

    def sample(self, cell_id: str, events: int = 1, router: str = "") -> CellSample:
        """Return the sample of one second of a cell in which each tenant had so many events through this router."""
        factor = self.log_factor.get(cell_id, 0.0) + self.path_log.get((router, cell_id), 0.0)
        normal = TenantSample(events, events * LATENCY_S, 1 / self.tenants, factor)
        tenants = {f"tenant-{tenant}": self.own(cell_id, tenant) or normal for tenant in range(self.tenants)}
        ok = sum(tenant.events for tenant in tenants.values())
        log_s = ok * (log(LATENCY_S) + factor)
        generation = self.generations[cell_id]
        return CellSample(generation, ok, ok, log_s, work_s=ok * LATENCY_S, deviation=factor, tenants=tenants)

    def seconds(self, count: float, **special: CellSample) -> Assessment:
        """Run so many seconds; return the victim's assessment after the last. `special` has some cells' samples."""
        for _ in range(int(count)):
            self.now += 1
            named = {name.replace("_", "-"): sample for name, sample in special.items()}
            for router in (f"router-{number}" for number in range(self.routers)):
                cells = {name: named.get(name) or self.sample(name, router=router) for name in self.generations}
                sample = RouterSample(int(self.now), 0, cells, self._canaries(router))
                self.detector.sampled(router, sample, self.now)
            for cell_id, generation in self.generations.items():
                vitals, how = self.vitals.get(cell_id), {"rehearses": self.rehearses}
                self.detector.told(cell_id, generation, vitals, int(self.now), self.now, **how)
                canary_s = self.canary_of(cell_id, LEADER)
                if cell_id in self.canaries_fail:
                    self.detector.canary_failed(cell_id, generation, self.now)
                elif canary_s is not None:
                    self.detector.canary_answered(cell_id, generation, canary_s, self.now)
            self.found = self.detector.assess(self.now)
        return self.found[VICTIM]

    def canary_of(self, cell_id: str, vantage: str) -> float | None:
        """Return how long the cell's canaries take over the path of a vantage point; None: it sends none."""
        canary_s = self.canary_s.get(cell_id, CANARY_S)
        return canary_s + self.path_s.get((vantage, cell_id), 0.0) if canary_s is not None else None

    def _canaries(self, router: str) -> dict[str, Canaries]:
        found: dict[str, Canaries] = {}
        for cell_id, generation in self.generations.items():
            if cell_id in self.canaries_fail:
                found[cell_id] = (CanarySample(generation),)
            elif (canary_s := self.canary_of(cell_id, router)) is not None:
                found[cell_id] = (CanarySample(generation, canary_s),)
        return found

    def verdicts(self) -> set[Verdict]:
        """Return the verdicts that the cells have now."""
        return {assessment.verdict for assessment in self.found.values()}
