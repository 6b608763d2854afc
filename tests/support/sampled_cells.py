"""Cells as the detector sees them: routers' samples and canaries, without any router or cell behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log

from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.detector import Detector
from router.core.detection.samples import CellSample, RouterSample, TenantSample
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
    own: Callable[[str, int], TenantSample | None] = lambda cell_id, tenant: None
    found: dict[str, Assessment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [f"cell-{number}" for number in range(self.cells)]
        self.generations = self.generations or dict.fromkeys(names, 1)
        self.detector.admitted(self.generations, self.cells)

    def sample(self, cell_id: str, events: int = 1) -> CellSample:
        """Return the sample of one second of a cell in which each tenant had so many events."""
        factor = self.log_factor.get(cell_id, 0.0)
        normal = TenantSample(events, events * LATENCY_S, 1 / self.tenants, factor)
        tenants = {f"tenant-{tenant}": self.own(cell_id, tenant) or normal for tenant in range(self.tenants)}
        ok = sum(tenant.events for tenant in tenants.values())
        log_s = ok * (log(LATENCY_S) + factor)
        generation = self.generations[cell_id]
        return CellSample(generation, ok, ok, log_s, work_s=ok * LATENCY_S, tenants=tenants)

    def seconds(self, count: float, **special: CellSample) -> Assessment:
        """Run so many seconds; return the victim's assessment after the last. `special` has some cells' samples."""
        for _ in range(int(count)):
            self.now += 1
            named = {name.replace("_", "-"): sample for name, sample in special.items()}
            cells = {cell_id: named.get(cell_id) or self.sample(cell_id) for cell_id in self.generations}
            for router in range(self.routers):
                self.detector.sampled(f"router-{router}", RouterSample(int(self.now), 0, cells), self.now)
            for cell_id, generation in self.generations.items():
                self.detector.told(cell_id, generation, self.vitals.get(cell_id), int(self.now), self.now)
                canary_s = self.canary_s.get(cell_id, CANARY_S)
                if canary_s is not None:
                    self.detector.canary_answered(cell_id, generation, canary_s, self.now)
            self.found = self.detector.assess(self.now)
        return self.found[VICTIM]

    def verdicts(self) -> set[Verdict]:
        """Return the verdicts that the cells have now."""
        return {assessment.verdict for assessment in self.found.values()}
