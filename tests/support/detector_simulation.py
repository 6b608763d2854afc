"""Runs detectors side by side on simulated cells. The real one is fed as routers and the leader feed it.

All see the same events, in virtual time. A run is seeded by its number and its scenario, so that it is the same on
every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - seeded: the same runs everywhere
from typing import Final, Protocol

from router.core.control.guards import why_guarded, why_shared
from router.core.control.ladder import RECOVERED_MS
from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.detection.detector import Detector
from router.core.detection.minutes.observation import Pattern
from router.core.detection.samples import CanarySample, CellSample, CellSampler, RouterSample
from router.core.models import CellRecord
from tests.support.detector_scenarios import Scenario
from tests.support.detector_twins import Trials
from tests.support.detector_world import LEADER, Canary, Completion, Shape, SimulatedCell, World, world_of
from tests.support.rival_detectors import RULES, Rival

CANARY: Final = Canary(0.03, real_path=True)
CHEAP_CANARY: Final = Canary(0.003, real_path=False)
LOST: Final = 0.05  # share of the routers' reports that are overwritten before the leader reads them
REPORT_S: Final = 0.3  # from a router to the leader
ASSESS_S: Final = 0.5  # after the second in which the events ended
WARM_UP_S: Final = 60.0  # how long a guard keeps a new instance from treatment for slowness
LEARN_STEP_S: Final = 5  # the step of time before the watch begins, to save time
QUIET_S: Final = 40  # how long all detectors watch before the trouble begins
REHEARSING: Final = "where handlers rehearse"
BARE_EVERY: Final = 3  # one of this number of runs has the cheap canary too, to save time

Done = Mapping[str, Sequence[Completion]]  # cell → the events that ended
Evictions = list[tuple[str, float]]
"""Which cell a detector would evict, and when, in seconds since the trouble began; negative before that."""


class Contestant(Protocol):
    """A detector in the simulation: it first learns, then says once a second which cells it calls sick."""

    def learn(self, now: float, world: World, done: Done) -> None:
        """Take in what the cells did in LEARN_STEP_S seconds without trouble."""
        ...

    def second(self, now: float, world: World, done: Done) -> Mapping[str, Verdict]:
        """Take in what the cells did in one second; return those that this detector would evict now."""
        ...


@dataclass(slots=True)
class Outcome:
    """What came of one detector in one run: which cells it called sick, and which of them were treated."""

    trials: Trials
    called: Evictions = field(default_factory=list)  # sick, and no guard was in the way
    treated: Evictions = field(default_factory=list)  # ejected since they fail or hang, or slower than their twin
    observed: set[tuple[str, Pattern]] = field(default_factory=set)  # what was observed of which cell in the trouble


@dataclass(slots=True)
class RealDetector:
    """The detector of cellrouter with its guards, fed as the routers and the leader feed it."""

    draw: Random
    canary: Canary
    rehearses: bool = False  # what the cells' handlers say
    _detector: Detector = field(default_factory=Detector)
    _leader: int = 1
    _samplers: dict[tuple[str, int], CellSampler] = field(default_factory=dict)
    _found: Mapping[str, Assessment] = field(default_factory=dict)
    _unwell_until: dict[str, float] = field(default_factory=dict)
    _admitted: dict[str, tuple[int, float]] = field(default_factory=dict)  # generation, since when
    _under_way: dict[tuple[str, int, int], tuple[float, float]] = field(default_factory=dict)  # waited, latency
    _number: int = 0

    def learn(self, now: float, world: World, done: Done) -> None:
        self._see(now, world, done)
        self._found = self._detector.assess(now)

    def second(self, now: float, world: World, done: Done) -> Mapping[str, Verdict]:
        if self._leader != world.leaders:
            self._leader = world.leaders
            self._detector = Detector()
            self._detector.recall({cell_id: each.baseline for cell_id, each in self._found.items()})
        self._see(now, world, done)
        return self._called(now + ASSESS_S)

    def observed(self) -> set[tuple[str, Pattern]]:
        """Return what is observed of each cell by now."""
        return {(cell_id, each.pattern) for cell_id, found in self._found.items() for each in found.observations}

    def _see(self, now: float, world: World, done: Done) -> None:
        self._admit(now, world.cells)
        self._number += 1
        for router in range(world.routers):
            canaries = {cell.cell_id: (self._sample(cell, router, now),) for cell in world.cells if not cell.down}
            sample = RouterSample(self._number, 0.0, self._samples(router, now, world.cells, done), canaries)
            if self.draw.random() >= max(LOST, world.lost.get(router, 0.0)):
                self._detector.sampled(f"router-{router}", sample, now + REPORT_S)
        for cell in world.cells:
            if not cell.down:
                self._probe(cell, now + REPORT_S)
                who = cell.cell_id, cell.generation
                self._detector.told(*who, None, self._number, now, rehearses=self.rehearses)

    def _samples(self, router: int, now: float, cells: Sequence[SimulatedCell], done: Done) -> dict[str, CellSample]:
        found = {}
        for cell in cells:
            if cell.down:
                continue
            sampler = self._samplers.get((cell.cell_id, router))
            if sampler is None:
                sampler = self._samplers[cell.cell_id, router] = CellSampler()
            for at, by, key, latency_s, ok in done[cell.cell_id]:
                if by == router:
                    if ok:
                        sampler.answered(key, latency_s, at)
                    else:
                        sampler.failed(key, at)
            oldest_s, waiting = cell.pending(router, now)
            found[cell.cell_id] = sampler.sample(
                cell.generation,
                now,
                oldest_s=oldest_s,
                waiting_tenants=waiting,
                learning=now >= self._unwell_until.get(cell.cell_id, now),
            )
        return found

    def _probe(self, cell: SimulatedCell, now: float) -> None:
        """Send the leader's canary, and tell the detector of it or of the one before."""
        who, (latency_s, waiting_s) = (cell.cell_id, cell.generation), self._canary(cell, LEADER, now)
        if latency_s is not None:
            self._detector.canary_answered(*who, latency_s, now)
        else:
            self._detector.canary_sent(*who, now - waiting_s)

    def _sample(self, cell: SimulatedCell, router: int, now: float) -> CanarySample:
        """Return what a router tells of its canary through the cell's instance."""
        latency_s, waiting_s = self._canary(cell, router, now)
        return CanarySample(cell.generation, latency_s, waiting_s)

    def _canary(self, cell: SimulatedCell, vantage: int, now: float) -> tuple[float | None, float]:
        """Return what an answered canary took, or else for how long the one under way has waited, in seconds.

        A vantage point sends the next one when the last one was answered, and one a second at most.
        """
        who = (cell.cell_id, cell.generation, vantage)
        waited_s, latency_s = self._under_way.pop(who, (0.0, 0.0))
        latency_s = latency_s or cell.canary_s(self.canary, vantage, self.draw)
        waited_s += 1
        if latency_s <= waited_s:
            return latency_s, 0.0
        self._under_way[who] = waited_s, latency_s
        return None, waited_s

    def _admit(self, now: float, cells: Sequence[SimulatedCell]) -> None:
        for cell in cells:
            generation = self._admitted.get(cell.cell_id, (0, 0.0))[0]
            if generation != cell.generation:
                long_ago = not self._number
                self._admitted[cell.cell_id] = cell.generation, now - WARM_UP_S * long_ago
                for (cell_id, _), sampler in self._samplers.items():
                    if cell_id == cell.cell_id:
                        sampler.replaced()
        self._detector.admitted({cell.cell_id: cell.generation for cell in cells if not cell.down}, len(cells))

    def _called(self, now: float) -> Mapping[str, Verdict]:
        found = self._found = self._detector.assess(now)
        sick = {cell_id: each.verdict for cell_id, each in found.items() if each.verdict in SICK}
        self._unwell_until |= dict.fromkeys(sick, now + RECOVERED_MS / 1000)
        if not sick or why_shared(found):
            return {}
        return {cell_id: verdict for cell_id, verdict in sick.items() if not self._is_guarded(found[cell_id], now)}

    def _is_guarded(self, assessment: Assessment, now: float) -> bool:
        records = {
            cell_id: CellRecord(cell_id, generation, admitted_at_ms=round(1000 * since))
            for cell_id, (generation, since) in self._admitted.items()
        }
        record = records.pop(assessment.cell_id)
        why = why_guarded(assessment, record, records.values(), round(1000 * now), WARM_UP_S, can_launch=True)
        return why is not None


def all_detectors(number: int, draw: Random) -> dict[str, Contestant]:
    """Return the detectors that take part in a run, by their names."""
    found: dict[str, Contestant] = {"cellrouter": RealDetector(Random(draw.random()), CANARY)}
    if number % BARE_EVERY == 0:
        found["with a bare 3 ms canary"] = RealDetector(Random(draw.random()), CHEAP_CANARY)
    found |= {title: Rival(rule()) for title, rule in RULES.items()}
    return found | {REHEARSING: RealDetector(Random(draw.random()), CANARY, rehearses=True)}


def simulate(
    scenario: Scenario,
    number: int,
    seed: str,
    contestants_of: Callable[[int, Random], dict[str, Contestant]] = all_detectors,
) -> tuple[set[str], dict[str, Outcome]]:
    """Do one run; return the cells that are sick in it, and what came of each contestant, by its name."""
    draw = Random(seed)
    shape = scenario.shape(number)
    world = world_of(shape, draw, scenario.costs[number % len(scenario.costs)])
    if scenario.prepare is not None:
        scenario.prepare(world)
    others = Random(f"{seed} of the detectors")  # so that their draws change nothing in the world
    contestants = contestants_of(number, others)
    begin = _learning_s(shape)
    for now in range(LEARN_STEP_S - begin, 1, LEARN_STEP_S):
        done = {cell.cell_id: cell.until(now, LEARN_STEP_S) for cell in world.cells}
        for each in contestants.values():
            each.learn(now, world, done)
    outcomes = {
        title: Outcome(Trials(CANARY, Random(others.random()), rehearses=title == REHEARSING)) for title in contestants
    }
    trouble = scenario.trouble(world)
    for now in range(1, QUIET_S + scenario.seconds + 1):
        if now > QUIET_S:
            next(trouble, None)
        done = {cell.cell_id: cell.until(now) for cell in world.cells}
        at = now + ASSESS_S - QUIET_S
        for title, each in contestants.items():
            called, outcome = each.second(now, world, done), outcomes[title]
            outcome.called += [(cell_id, at) for cell_id in called]
            outcome.treated += [(cell_id, at) for cell_id in outcome.trials.second(now, world, called)]
            if isinstance(each, RealDetector) and now > QUIET_S:
                outcome.observed |= each.observed()
    return {cell.cell_id for cell in world.cells[: scenario.slow]}, outcomes


def _learning_s(shape: Shape) -> int:
    """Return for how many seconds to learn so that most tenants are known."""
    return 300 if shape.rate <= 5 else 120 if shape.rate <= 50 else 60
