"""How the cells are: feeds the detector with routers' samples and with canaries, as long as its controller leads.

Guarantees: what was measured while an event loop was late doesn't count, neither a router's loop nor our own. When that
is most of what there is, the monitor says that it is blind. What was seen of one instance never counts for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from router.core.control.guards import why_blind
from router.core.control.lease_trust import NO_DOUBT, Doubt
from router.core.control.observed import Health
from router.core.control.occasions import LASTS_MS, occasions
from router.core.control.releases import on_trial
from router.core.control.twins import Trial
from router.core.detection.assessment import Verdict
from router.core.detection.detector import Detector
from router.core.detection.samples import RouterSample
from router.core.detection.window import NOTHING_ANSWERED, AnsweredSums
from router.core.models import CellRecord, Reason
from router.core.registry import Snapshot
from router.ports import CellRegistry, Clock
from router.services.canary import EVERY_S, MAX_RATE, Canary, CanaryTimer
from router.services.control_plane.trials import Trials
from router.services.loop_lag import TOO_LATE_S, LoopLag

READ_EVERY_S: Final = 0.5
ASSESS_EVERY_S: Final = 1.0
BLIND_S: Final = 5.0  # how long nothing counts that a process measures, after its event loop was late


@dataclass(slots=True)
class _Watched:
    """A cell's admitted instance, to which canaries are sent."""

    generation: int
    since: float
    well_since: float
    canary: asyncio.Task[None] | None = None
    canary_at: float = 0.0  # when the next one is due
    sent_at: float = 0.0  # when the last one was sent
    before: AnsweredSums | None = None  # all that it had answered when the release's last step began, and it was warm


class HealthMonitor:
    """Knows of every cell's admitted instance how it is, and whether that can be trusted."""

    def __init__(self, registry: CellRegistry, canary: Canary, lag: LoopLag, clock: Clock, warm_up_s: float) -> None:
        self._registry = registry
        self._timer = CanaryTimer(canary, lag, clock)
        self._trials = Trials(self._timer, clock, warm_up_s)
        self._lag = lag
        self._clock = clock
        self._warm_up_s = warm_up_s
        self._detector = Detector()
        self._watched: dict[str, _Watched] = {}
        self._suspicious: Collection[str] = ()  # cells that something speaks against
        self._late: dict[str, float] = {}  # router → when its loop was last late
        self._read_at = self._assessed_at = 0.0
        self._followed: tuple[Mapping[str, int], int] = ({}, 0)  # the admitted instances, and how many cells there are
        self._step_ms: int | None = None  # when the last step of the release that runs began; None: none runs
        self._recalled = False  # whether the baselines that the last leader knew are taken over
        self.health: Mapping[str, Health] = {}
        self.why_blind: Reason | None = None
        self.samples: Mapping[str, RouterSample] = {}  # as last read, by router

    def close(self) -> None:
        """Forget everything and send no more canaries, since another controller may lead now."""
        self._trials.close()
        self._recalled, self._followed = False, ({}, 0)
        if self._watched:
            for watched in self._watched.values():
                _cancel(watched)
            self._detector, self._watched, self.health = Detector(), {}, {}

    def trials(self) -> Mapping[str, Trial]:
        """Tell by cell what the trials show that go on now, of slow instances beside their twins."""
        return self._trials.found(
            {cell_id: health.assessment.usual_canary_s for cell_id, health in self.health.items()}
        )

    async def look(self, snapshot: Snapshot, doubted: Doubt = NO_DOUBT) -> bool:
        """Take in what is new and send the canaries that are due; returns whether there are new verdicts.

        An instance whose lease has ended is watched as long as that is `doubted`.
        """
        if not self._recalled:
            found = await self._registry.conditions()
            self._detector.recall({cell_id: condition.assessment.baseline for cell_id, condition in found.items()})
            self._recalled = True
        now = self._clock.monotonic()
        self._follow(snapshot, doubted, now)
        self._trials.look(snapshot)
        if now >= self._read_at:
            self._read_at = now + READ_EVERY_S
            await self._read(now)
        self._send_canaries(snapshot, now)
        if now < self._assessed_at:
            return False
        self._assessed_at = now + ASSESS_EVERY_S
        self._hear(snapshot, now)
        self._follow_release(snapshot)
        await self._assess(now, on_trial(snapshot))
        return True

    def _send_canaries(self, snapshot: Snapshot, now: float) -> None:
        """Send those that are due: one a second through each instance, or MAX_RATE a second in turns.

        An instance that something speaks against gets one every second all the same, unless there are many such.
        """
        pause_s = max(EVERY_S, len(self._watched) / MAX_RATE)
        for cell_id, watched in self._watched.items():
            closely = cell_id in self._suspicious and now >= watched.sent_at + EVERY_S
            due = now >= watched.canary_at or (closely and len(self._suspicious) <= MAX_RATE)
            if due and (watched.canary is None or watched.canary.done()):
                watched.canary_at, watched.sent_at = now + pause_s, now
                watched.canary = asyncio.create_task(self._probe(snapshot.cells[cell_id], snapshot))

    def _follow(self, snapshot: Snapshot, doubted: Doubt, now: float) -> None:
        """Watch the instances that have the traffic, but those that are known to be gone since their lease ended."""
        admitted = {
            cell.cell_id: cell.generation
            for cell in snapshot.cells.values()
            if not cell.retired
            and (lease := snapshot.lease(cell.cell_id, cell.generation))
            and (lease.live or cell.cell_id in doubted.cells)
            and lease.ready
        }
        cells = sum(1 for cell in snapshot.cells.values() if cell.generation and not cell.retired)
        if (admitted, cells) == self._followed:
            return
        self._followed = admitted, cells
        for cell_id, watched in list(self._watched.items()):
            if admitted.get(cell_id) != watched.generation:
                _cancel(self._watched.pop(cell_id))
        self.health = {cell_id: health for cell_id, health in self.health.items() if cell_id in self._watched}
        new = [cell_id for cell_id in admitted if cell_id not in self._watched]
        for place, cell_id in enumerate(new):
            self._watched[cell_id] = _Watched(admitted[cell_id], now, now, canary_at=now + place // MAX_RATE)
        self._detector.admitted(admitted, cells)

    def _hear(self, snapshot: Snapshot, now: float) -> None:
        """Take in what the instances say of themselves, and what was done to the cells lately."""
        for lease in snapshot.leases:
            who = lease.cell_id, lease.generation
            self._detector.told(*who, lease.vitals, lease.beat, now, rehearses=lease.rehearses)
        for cell_id, occasion, age in occasions(snapshot):
            at = now - age / 1000
            self._detector.announce([cell_id], occasion, at, at + LASTS_MS / 1000)

    def _follow_release(self, snapshot: Snapshot) -> None:
        """Count all cells' answers anew from each step of a release on, so that they can be compared."""
        release = snapshot.policy.release
        step_ms = release.since_ms if release is not None and release.runs else None
        if step_ms != self._step_ms:
            self._step_ms = step_ms
            for watched in self._watched.values():
                watched.before = None

    def _answers(self, cell_id: str, watched: _Watched, now: float) -> AnsweredSums:
        """Return what a cell has answered since the release's last step, or since it was warm if that is later."""
        if self._step_ms is None or now - watched.since < self._warm_up_s:
            return NOTHING_ANSWERED
        answers = self._detector.answers(cell_id)
        if watched.before is None:
            watched.before = answers
        return answers.since(watched.before)

    async def _read(self, now: float) -> None:
        self.samples = samples = await self._registry.samples()
        self._detector.forget_routers(samples.keys())
        for router_id, sample in samples.items():
            if sample.lag_s > TOO_LATE_S:
                self._late[router_id] = now
            elif now - self._late.get(router_id, -BLIND_S) >= BLIND_S:
                self._trials.sampled(router_id, sample, now)
                self._detector.sampled(router_id, sample, now)
                await self._clock.sleep(0)
        self._late = {router_id: at for router_id, at in self._late.items() if now - at < BLIND_S}
        own_lag_s = self._lag.worst_s(now - BLIND_S)
        self.why_blind = why_blind(own_lag_s, TOO_LATE_S, late_routers=len(self._late), routers=len(samples))

    async def _assess(self, now: float, tried: Collection[str]) -> None:
        health = {}
        for found in self._detector.assessing(now, tried):
            for cell_id, assessment in found.items():
                watched = self._watched[cell_id]
                if assessment.verdict is not Verdict.HEALTHY:
                    watched.well_since = now
                well_s, watched_s = now - watched.well_since, now - watched.since
                answers = self._answers(cell_id, watched, now)
                health[cell_id] = Health(assessment, round(well_s * 1000), round(watched_s * 1000), answers)
            await self._clock.sleep(0)
        self.health = health
        self._suspicious = {cell_id for cell_id, each in health.items() if not each.calm}

    async def _probe(self, record: CellRecord, snapshot: Snapshot) -> None:
        who = record.cell_id, record.generation
        self._detector.canary_sent(*who, self._clock.monotonic())
        sample = await self._timer.time(record, snapshot)
        if sample is None:
            self._detector.canary_lost(*who)
        elif sample.latency_s is None:
            self._detector.canary_failed(*who, self._clock.monotonic())
        else:
            self._detector.canary_answered(*who, sample.latency_s, self._clock.monotonic())


def _cancel(watched: _Watched) -> None:
    if watched.canary is not None:
        watched.canary.cancel()
