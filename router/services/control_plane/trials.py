"""Holds the trials of slow instances beside their twins: sends both the same canaries, and has core judge the pairs.

Guarantees: both canaries of a pair start at the same moment, in turns the one first and then the other; a pair in which
the controller's own event loop was late doesn't count. A new leader begins a trial anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from router.core.control.twins import Trial, both_rehearse, comes_and_goes, twin_of
from router.core.detection.canaries import LEADER
from router.core.detection.samples import CanarySample, RehearsedPair, RouterSample
from router.core.detection.trial import CanaryPair, CopyPair, Terms, TrialResult, judge_trial
from router.core.models import CellRecord, age_ms
from router.core.registry import Snapshot
from router.ports import Clock
from router.services.canary import PAIR_EVERY_S, CanaryTimer

PAIR_TIMEOUT_S: Final = 3.0  # for an answer: by then it is no good one


@dataclass(slots=True)
class _Running:
    """A trial that goes on: its two generations, its pairs so far, and the canaries under way."""

    generation: int
    twin: int
    began: float
    admitted_at: float  # when the instance got its traffic, in monotonic seconds
    due: float  # when the next pair is sent, in monotonic seconds
    rehearses: bool  # both do copies of events, which routers send
    comes_and_goes: bool
    copies: list[CopyPair] = field(default_factory=list)
    pairs: list[CanaryPair] = field(default_factory=list)
    sent: int = 0
    read: dict[str, int] = field(default_factory=dict)  # router → the number of its last sample that was taken in
    under_way: set[asyncio.Task[None]] = field(default_factory=set)


class Trials:
    """Knows of every cell whose slow instance stands beside its twin what that has shown."""

    def __init__(self, timer: CanaryTimer, clock: Clock, warm_up_s: float) -> None:
        self._timer = timer
        self._clock = clock
        self._warm_up_s = warm_up_s
        self._running: dict[str, _Running] = {}

    def found(self, usual_s: Mapping[str, float | None]) -> Mapping[str, Trial]:
        """Tell what the trials that go on have shown by now, by cell; `usual_s` is what its canary usually takes."""
        now = self._clock.monotonic()
        return {
            cell_id: Trial(trial.generation, trial.twin, self._judged(trial, usual_s.get(cell_id), now))
            for cell_id, trial in self._running.items()
        }

    def look(self, snapshot: Snapshot) -> None:
        """Begin and end trials as the snapshot has it, and send the pairs that are due."""
        now = self._clock.monotonic()
        tried = {record.cell_id: twin for record in snapshot.cells.values() if (twin := twin_of(record, snapshot))}
        for cell_id, trial in list(self._running.items()):
            if (trial.generation, trial.twin) != (snapshot.cells[cell_id].generation, tried.get(cell_id)):
                _end(self._running.pop(cell_id))
        for cell_id, twin in tried.items():
            record = snapshot.cells[cell_id]
            if cell_id not in self._running:
                how = both_rehearse(record, snapshot), comes_and_goes(record, snapshot.now_ms)
                admitted_at = now - age_ms(record.admitted_at_ms, snapshot.now_ms) / 1000
                self._running[cell_id] = _Running(record.generation, twin, now, admitted_at, now, *how)
            trial = self._running[cell_id]
            if now >= trial.due:
                trial.due = now + PAIR_EVERY_S
                trial.sent += 1
                task = asyncio.create_task(self._pair(record, trial, snapshot))
                trial.under_way.add(task)
                task.add_done_callback(trial.under_way.discard)

    def sampled(self, router_id: str, sample: RouterSample, now: float) -> None:
        """Take in the pairs of canaries that a router has sent and reports now."""
        for cell_id, trial in self._running.items():
            if trial.read.get(router_id) == sample.number:
                continue  # read twice
            trial.read[router_id] = sample.number
            ended = [each for each in sample.canaries.get(cell_id, ()) if each.pair and not each.waiting_s]
            twins = {each.pair: each for each in ended if each.generation == trial.twin}
            trial.pairs += [
                CanaryPair(router_id, now, _latency_s(own), _latency_s(twins[own.pair]))
                for own in ended
                if own.generation == trial.generation and own.pair in twins
            ]
            trial.copies += [
                _copy_pair(router_id, now, each)
                for each in sample.rehearsed.get(cell_id, ())
                if (each.generation, each.twin) == (trial.generation, trial.twin)
            ]

    def close(self) -> None:
        """End all trials, since another controller may lead now."""
        for trial in self._running.values():
            _end(trial)
        self._running.clear()

    def _judged(self, trial: _Running, usual_s: float | None, now: float) -> TrialResult:
        age_s = now - trial.admitted_at
        terms = Terms(usual_s, self._warm_up_s, trial.rehearses, trial.comes_and_goes, age_s)
        return judge_trial(trial.pairs, trial.copies, now - trial.began, now, terms)

    async def _pair(self, record: CellRecord, trial: _Running, snapshot: Snapshot) -> None:
        own_first = trial.sent % 2 == 0
        generations = (trial.generation, trial.twin) if own_first else (trial.twin, trial.generation)
        order = (replace(record, generation=generation) for generation in generations)
        first, second = await asyncio.gather(
            *(self._timer.time(each, snapshot, within_s=PAIR_TIMEOUT_S) for each in order)
        )
        if first is not None and second is not None:
            own, twin = (first, second) if own_first else (second, first)
            trial.pairs.append(CanaryPair(LEADER, self._clock.monotonic(), _latency_s(own), _latency_s(twin)))


def _copy_pair(router_id: str, now: float, told: RehearsedPair) -> CopyPair:
    times = told.own_s, told.twin_s, told.own_canary_s, told.twin_canary_s
    own_s, twin_s, *canaries = (inf if each is None else each for each in times)
    return CopyPair(router_id, now, own_s, twin_s, CanaryPair(router_id, now, *canaries), told.size)


def _latency_s(sample: CanarySample) -> float:
    return inf if sample.latency_s is None else sample.latency_s


def _end(trial: _Running) -> None:
    for task in trial.under_way:
        task.cancel()
