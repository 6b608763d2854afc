"""Keys in quarantine: their events, and the decision itself.

Guarantees: a key that this router quarantines is in quarantine here at once, also while the registry is away, and
for every router as soon as it can be written. Its events wait in the quarantine queue, durably, until it is released,
by hand or because its time is up; then they go to its cell as any other. Nothing else waits with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from router.core.errors import PolicyRefusedError, RegistryUnavailableError
from router.core.messages.batches import BATCH
from router.core.models import Event
from router.core.policy import Policy, Quarantine
from router.core.registry import AuditEntry
from router.core.telemetry import EventHeld, KeyQuarantined, PolicyApplied
from router.ports import Clock, Observer, PolicyStore
from router.services.data_plane.hold_queue import HoldQueue
from router.services.data_plane.inbox import Delivery, Inbox, Received

SWEEP_EVERY_S: Final = 10.0  # what another router put there meanwhile
MAX_WAIT_S: Final = 900  # how late a released event may be at most
LOOKS_A_SECOND: Final = 50  # at events that are still in quarantine, in the long run
MAX_OPEN: Final = 100  # released events on their way to their cells at once
RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class QuarantineConfig:
    """Who decides, and for how long."""

    who: str  # for the audit
    release_after_s: float  # 0: only by hand


class QuarantineQueue:
    """The quarantine queue and the list of who is in it."""

    def __init__(
        self, config: QuarantineConfig, hold: HoldQueue, store: PolicyStore, clock: Clock, observer: Observer
    ) -> None:
        self._config = config
        self.hold = hold
        self._store = store
        self._clock = clock
        self._observer = observer
        self._policy = Policy()
        self._decided: dict[str, _Decision] = {}  # by key: not yet in the policy that the registry shows
        self._wake = asyncio.Event()
        self._sweeping = True  # a router that starts looks what is there
        self._swept_at = clock.monotonic()
        self._looked_at = 0  # events in the last sweep
        self._next_end_ms: int | None = None  # when the next quarantine is up

    def apply(self, policy: Policy) -> Policy:
        """What the registry says; returns it with what isn't in it yet."""
        now_ms = self._clock.time_ms()
        shown = [k for k, d in self._decided.items() if d.version and not 0 < policy.version < d.version]
        for key in shown:
            del self._decided[key]
        if any(not policy.in_quarantine(key, now_ms) for key in self._policy.quarantined):
            self._sweeping = True
        self._policy = policy
        effective = self._effective()
        ends = [q.until_ms for q in effective.quarantined.values() if q.until_ms > now_ms]
        self._next_end_ms = min(ends, default=None)
        self._observer.observe(PolicyApplied(len(effective.quarantined), len(policy.limits)))
        return effective

    def quarantine(self, key: str, cell_id: str, why: str) -> Policy:
        """Put a key in quarantine; returns the policy with it."""
        now_ms = self._clock.time_ms()
        if not self._effective().in_quarantine(key, now_ms):
            until_ms = now_ms + round(self._config.release_after_s * 1000) if self._config.release_after_s else 0
            self._decided[key] = _Decision(cell_id, Quarantine(why, now_ms, until_ms))
            self._observer.observe(KeyQuarantined(cell_id, key, why))
            self._wake.set()
        return self.apply(self._policy)

    def put(self, cell_id: str, delivery: Delivery, event: Event, left_s: float) -> None:
        """Into the quarantine queue, or back there."""
        self._looked_at += 1
        if self.hold.put(delivery, event, self.wait_s(left_s)):
            self._observer.observe(EventHeld(cell_id, "quarantine"))

    def wait_s(self, left_s: float) -> int:
        """How long an event isn't looked at: until the quarantine ends, or so long that looking stays cheap."""
        pause = min(MAX_WAIT_S, max(SWEEP_EVERY_S, self._looked_at / LOOKS_A_SECOND))
        return max(1, round(min(left_s, pause) if left_s else pause))

    def stop(self) -> None:
        """Take nothing more out."""
        self.hold.stop()

    async def run(self, accept: Callable[[Inbox, list[Received]], None]) -> None:
        """Sweep and write until cancelled."""

        def sweep(inbox: Inbox, received: list[Received]) -> None:
            if not received:
                self._sweeping = False
                self._swept_at = self._clock.monotonic()
            accept(inbox, received)

        async with asyncio.TaskGroup() as group:
            group.create_task(self.hold.run(self._demand, sweep))
            group.create_task(self._write())

    def _demand(self) -> int:
        ended = self._next_end_ms is not None and self._clock.time_ms() >= self._next_end_ms
        if ended:
            self.apply(self._policy)
        if ended or (not self._sweeping and self._clock.monotonic() - self._swept_at >= SWEEP_EVERY_S):
            self._sweeping, self._looked_at = True, 0
        return BATCH if self._sweeping and len(self.hold) < MAX_OPEN else 0

    def _effective(self) -> Policy:
        added = {key: decision.quarantine for key, decision in self._decided.items()}
        return replace(self._policy, quarantined={**self._policy.quarantined, **added}) if added else self._policy

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while unwritten := {key: decision for key, decision in self._decided.items() if not decision.version}:
                try:
                    await self._write_down(unwritten)
                except (RegistryUnavailableError, PolicyRefusedError):
                    await self._clock.sleep(RETRY_S)

    async def _write_down(self, decisions: Mapping[str, _Decision]) -> None:
        policy, now_ms = await self._store.policy(), self._clock.time_ms()
        version = policy.version + 1
        for key, decision in decisions.items():
            policy = policy.with_quarantine(key, decision.quarantine, now_ms)
        why = "; ".join(f"key {key!r}: {decision.quarantine.why}" for key, decision in decisions.items())
        cells = {decision.cell_id for decision in decisions.values()}
        audit = AuditEntry(now_ms, self._config.who, "quarantine", cells.pop() if len(cells) == 1 else "", why)
        if await self._store.change_policy(policy, audit):
            for decision in decisions.values():
                decision.version = version


@dataclass(slots=True, eq=False)
class _Decision:
    """A key that this router has put in quarantine."""

    cell_id: str
    quarantine: Quarantine
    version: int = 0  # of the policy that it is in; 0: not written yet
