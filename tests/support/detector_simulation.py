"""Runs detectors side by side on simulated cells. The real one is fed as routers and the leader feed it.

All see the same events, in virtual time. A run is seeded by its number and its scenario, so that it is the same on
every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random  # noqa: TID251 - seeded: the same runs everywhere
from typing import Final, Protocol

from router.core.control.guards import why_guarded, why_shared
from router.core.control.ladder import RECOVERED_MS
from router.core.detection.assessment import SICK, Assessment
from router.core.detection.detector import Detector
from router.core.detection.samples import CanarySample, CellSample, CellSampler, RouterSample
from router.core.models import CellRecord
from tests.support.detector_scenarios import LARGEST, SHAPES, Scenario
from tests.support.detector_world import Canary, Completion, Shape, SimulatedCell, cells_of
from tests.support.rival_detectors import RULES, Rival

CANARY: Final = Canary(0.03, real_path=True)
CHEAP_CANARY: Final = Canary(0.003, real_path=False)
LOST: Final = 0.05  # share of the routers' reports that are overwritten before the leader reads them
REPORT_S: Final = 0.3  # from a router to the leader
ASSESS_S: Final = 0.5  # after the second in which the events ended
WARM_UP_S: Final = 60.0  # how long a guard keeps a new instance from treatment for slowness
LEARN_STEP_S: Final = 5  # the step of time before the watch begins, to save time
QUIET_S: Final = 40  # how long all detectors watch before the trouble begins
BARE_EVERY: Final = 3  # one of this number of runs has the cheap canary too, to save time


Evictions = list[tuple[str, float]]
"""Which cell a detector would evict, and when, in seconds since the trouble began; negative before that."""


class Contestant(Protocol):
    """A detector in the simulation: it first learns, then says once a second which cells it would evict."""

    def learn(self, now: float, cells: Sequence[SimulatedCell], done: Mapping[str, Sequence[Completion]]) -> None:
        """Take in what the cells did in LEARN_STEP_S seconds without trouble."""
        ...

    def second(self, now: float, cells: Sequence[SimulatedCell], done: Mapping[str, Sequence[Completion]]) -> set[str]:
        """Take in what the cells did in one second; return those that this detector would evict now."""
        ...


@dataclass(slots=True)
class RealDetector:
    """The detector of cellrouter with its guards, fed as the routers and the leader feed it."""

    draw: Random
    routers: int
    canary: Canary
    _detector: Detector = field(default_factory=Detector)
    _samplers: dict[tuple[str, int], CellSampler] = field(default_factory=dict)
    _sick_at: dict[str, float] = field(default_factory=dict)  # cell → when it was last sick
    _admitted: dict[str, tuple[int, float]] = field(default_factory=dict)  # generation, since when
    _number: int = 0

    def learn(self, now: float, cells: Sequence[SimulatedCell], done: Mapping[str, Sequence[Completion]]) -> None:
        self._see(now, cells, done)
        self._detector.assess(now)

    def second(self, now: float, cells: Sequence[SimulatedCell], done: Mapping[str, Sequence[Completion]]) -> set[str]:
        self._see(now, cells, done)
        for cell in cells:
            latency_s = cell.canary_s(self.canary)
            self._detector.canary_answered(cell.cell_id, cell.generation, latency_s, now + REPORT_S)
        return self._evicted(now + ASSESS_S)

    def _see(self, now: float, cells: Sequence[SimulatedCell], done: Mapping[str, Sequence[Completion]]) -> None:
        self._admit(now, cells)
        self._number += 1
        for router in range(self.routers):
            canaries = {cell.cell_id: (CanarySample(cell.generation, cell.canary_s(self.canary)),) for cell in cells}
            sample = RouterSample(self._number, 0.0, self._samples(router, now, cells, done), canaries)
            if self.draw.random() >= LOST:
                self._detector.sampled(f"router-{router}", sample, now + REPORT_S)

    def _samples(
        self, router: int, now: float, cells: Sequence[SimulatedCell], done: Mapping[str, Sequence[Completion]]
    ) -> dict[str, CellSample]:
        found = {}
        for cell in cells:
            sampler = self._samplers.setdefault((cell.cell_id, router), CellSampler())
            for at, by, key, latency_s in done[cell.cell_id]:
                if by == router:
                    sampler.answered(key, latency_s, at)
            learning = now - self._sick_at.get(cell.cell_id, -inf) > RECOVERED_MS / 1000  # as long as it is on a rung
            found[cell.cell_id] = sampler.sample(cell.generation, now, learning=learning)
        return found

    def _admit(self, now: float, cells: Sequence[SimulatedCell]) -> None:
        for cell in cells:
            if self._admitted.get(cell.cell_id, (0, 0))[0] != cell.generation:
                long_ago = not self._number
                self._admitted[cell.cell_id] = cell.generation, now - WARM_UP_S * long_ago
        self._detector.admitted({cell.cell_id: cell.generation for cell in cells})

    def _evicted(self, now: float) -> set[str]:
        found = self._detector.assess(now)
        self._sick_at |= {cell_id: now for cell_id, each in found.items() if each.verdict in SICK}
        if why_shared(found):
            return set()
        return {cell_id for cell_id, each in found.items() if each.verdict in SICK and not self._is_guarded(each, now)}

    def _is_guarded(self, assessment: Assessment, now: float) -> bool:
        records = {
            cell_id: CellRecord(cell_id, generation, admitted_at_ms=round(1000 * since))
            for cell_id, (generation, since) in self._admitted.items()
        }
        record = records.pop(assessment.cell_id)
        return why_guarded(assessment, record, records.values(), round(1000 * now), WARM_UP_S) is not None


def simulate(scenario: Scenario, number: int, seed: str) -> tuple[set[str], dict[str, Evictions]]:
    """Do one run; return the cells that are slow in it, and what each detector would evict, by its name."""
    draw = Random(seed)
    whole = scenario.shapes is SHAPES and number % 100 == 99
    shape = LARGEST if whole else scenario.shapes[number % len(scenario.shapes)]
    cells = cells_of(shape, draw)
    draw.shuffle(cells)
    contestants = _contestants(shape, number, draw)
    evicted: dict[str, Evictions] = {title: [] for title in contestants}
    begin = _learning_s(shape)
    for now in range(LEARN_STEP_S - begin, 1, LEARN_STEP_S):
        done = {cell.cell_id: cell.until(now, LEARN_STEP_S) for cell in cells}
        for each in contestants.values():
            each.learn(now, cells, done)
    for now in range(1, QUIET_S + scenario.seconds + 1):
        if now > QUIET_S:
            scenario.change(cells, now - 1 - QUIET_S, draw)
        done = {cell.cell_id: cell.until(now) for cell in cells}
        for title, each in contestants.items():
            evicted[title] += [(cell_id, now + ASSESS_S - QUIET_S) for cell_id in each.second(now, cells, done)]
    return {cell.cell_id for cell in cells[: scenario.slow]}, evicted


def _contestants(shape: Shape, number: int, draw: Random) -> dict[str, Contestant]:
    found: dict[str, Contestant] = {"cellrouter": RealDetector(Random(draw.random()), shape.routers, CANARY)}
    if number % BARE_EVERY == 0:
        found["with a bare 3 ms canary"] = RealDetector(Random(draw.random()), shape.routers, CHEAP_CANARY)
    return found | {title: Rival(rule) for title, rule in RULES.items()}


def _learning_s(shape: Shape) -> int:
    """Return for how many seconds to learn so that most tenants are known."""
    return 300 if shape.rate <= 5 else 120 if shape.rate <= 50 else 60
