"""Keys in quarantine: their events, and the decision itself.

Guarantees: a key that this router quarantines is in quarantine here at once, also while the registry is away, and for
every router as soon as the registry can be written. The key's events wait in the quarantine queue, durably, until a
person or the end of its time releases it; then they go to its cell as any other. No other events wait there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from router.core.errors import PolicyRefusedError, RegistryUnavailableError
from router.core.lanes.admission import ToQuarantine
from router.core.lanes.poison import quarantine_s
from router.core.messages.batches import BATCH
from router.core.models import Event, HoldCause
from router.core.policy import MAX_KEYS, Policy, Quarantine
from router.core.registry import AuditEntry, RouterAction
from router.core.telemetry import EventHeld, KeyQuarantined, PolicyApplied
from router.ports import Clock, Observer, PolicyStore
from router.services.data_plane.hold_queue import HoldQueue
from router.services.data_plane.inbox import Delivery, Inbox, Received
from router.services.unforeseen import Unforeseen

SWEEP_EVERY_S: Final = 10.0  # another router may have put events there meanwhile
MAX_WAIT_S: Final = 900  # how late a released event may come at most
LOOKS_PER_S: Final = 50  # how many events that are still in quarantine are received a second, in the long run
MAX_OPEN: Final = 100  # released events on their way to their cells at once
WRITTEN: Final = 100  # decisions in one write: all of them stand in one entry of the audit
RETRY_S: Final = 1.0  # until a decision that could not be written is written again


@dataclass(frozen=True, slots=True)
class QuarantineConfig:
    """Who puts keys in quarantine, and for how long."""

    who: str  # the router, for the audit stream
    release_after_s: float  # 0: only a person releases


@dataclass(frozen=True, slots=True)
class BlockedHead:
    """The event that the other events of a FIFO group wait for, as it was seen last."""

    cell_id: str
    sent_at_ms: int


class QuarantineQueue:
    """The quarantine queue, and the decisions about which keys are in it."""

    def __init__(
        self, config: QuarantineConfig, hold: HoldQueue, store: PolicyStore, clock: Clock, observer: Observer
    ) -> None:
        self._config = config
        self.hold = hold
        self._store = store
        self._clock = clock
        self._observer = observer
        self._unforeseen = Unforeseen(observer, clock)
        self._policy = Policy()
        self._own: dict[str, _OwnQuarantine] = {}  # by key: not yet in the policy that the registry shows
        self._wake = asyncio.Event()
        # A router that starts looks for released events, once it has a policy to tell which ones those are.
        self._applied = False
        self._lasting: set[str] = set()  # the keys in quarantine
        self.blocked: dict[str, BlockedHead] = {}  # by key in quarantine
        self._sweeping = True
        self._swept_at = clock.monotonic()
        self._looked_at = 0  # events that the present sweep found still in quarantine
        self._next_end_ms: int | None = None  # wall time at which the next quarantine ends

    def apply(self, policy: Policy) -> Policy:
        """Take the registry's policy; return it with this router's quarantines that aren't in it yet."""
        now_ms = self._clock.time_ms()
        shown = [key for key, own in self._own.items() if own.version and not 0 < policy.version < own.version]
        for key in shown:
            del self._own[key]
        self._policy, self._applied = policy, True
        effective = self._effective()
        lasting = {key for key in effective.quarantined if effective.in_quarantine(key, now_ms)}
        if not lasting >= self._lasting:
            self._sweeping = True
        self._lasting = lasting
        self.blocked = {key: head for key, head in self.blocked.items() if key in lasting}
        ends = [q.until_ms for q in effective.quarantined.values() if q.until_ms > now_ms]
        self._next_end_ms = min(ends, default=None)
        self._observer.observe(PolicyApplied(len(lasting), len(policy.limits)))
        return effective

    def quarantine(self, key: str, cell_id: str, found: ToQuarantine) -> Policy:
        """Put a key in quarantine, and return the policy with it.

        A key whose next event in line is guilty, and stays in line, is in quarantine until a person releases it. When
        as many are in quarantine as may, it is not: its events end at their last attempt or kill.
        """
        if max(len(self._lasting), len(self._own)) >= MAX_KEYS:
            return self._effective()
        now_ms, why = self._clock.time_ms(), found.why or ""
        if not self._effective().in_quarantine(key, now_ms):
            length_s = 0.0 if found.guilty else quarantine_s(self._config.release_after_s, found.killed)
            until_ms = now_ms + round(length_s * 1000) if length_s else 0
            wanted = Quarantine(why, now_ms, until_ms, found.killed, found.event, found.by_event)
            self._own[key] = _OwnQuarantine(cell_id, wanted)
            self._observer.observe(KeyQuarantined(cell_id, key, why))
            self._wake.set()
        return self.apply(self._policy)

    def put(self, cell_id: str, delivery: Delivery, event: Event, left_s: float) -> None:
        """Write the event into the quarantine queue, or back; its key's quarantine lasts for `left_s` more seconds."""
        self._looked_at += 1
        if self.hold.put(delivery, event, self.wait_s(left_s)):
            self._observer.observe(EventHeld(cell_id, HoldCause.QUARANTINE))

    def wait_s(self, left_s: float) -> int:
        """How many seconds an event stays unseen: until the quarantine ends, or so long that looking stays cheap."""
        pause = min(MAX_WAIT_S, max(SWEEP_EVERY_S, self._looked_at / LOOKS_PER_S))
        return max(1, round(min(left_s, pause) if left_s else pause))

    def blocked_s(self, cell_id: str) -> float:
        """How long ago the oldest event was sent that keeps a FIFO group of the cell waiting; 0.0 for none."""
        sent = [head.sent_at_ms for head in self.blocked.values() if head.cell_id == cell_id]
        return max(0.0, (self._clock.time_ms() - min(sent)) / 1000) if sent else 0.0

    def stop(self) -> None:
        """Take no more events out of the quarantine queue."""
        self.hold.stop()

    async def run(self, accept: Callable[[Inbox, list[Received]], None]) -> None:
        """Sweep the queue for released events and write new quarantines down, until cancelled."""

        def sweep(inbox: Inbox, received: list[Received]) -> None:
            if not received:
                self._sweeping = False
                self._swept_at = self._clock.monotonic()
            accept(inbox, received)

        async with asyncio.TaskGroup() as group:
            group.create_task(self.hold.run(self._demand, sweep))
            group.create_task(self._write())

    def _demand(self) -> int:
        if not self._applied:
            return 0
        ended = self._next_end_ms is not None and self._clock.time_ms() >= self._next_end_ms
        if ended:
            self.apply(self._policy)
        if ended or (not self._sweeping and self._clock.monotonic() - self._swept_at >= SWEEP_EVERY_S):
            self._sweeping, self._looked_at = True, 0
        return BATCH if self._sweeping and len(self.hold) < MAX_OPEN else 0

    def _effective(self) -> Policy:
        added = {key: own.quarantine for key, own in self._own.items()}
        return replace(self._policy, quarantined={**self._policy.quarantined, **added}) if added else self._policy

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while unwritten := dict(islice(((k, own) for k, own in self._own.items() if not own.version), WRITTEN)):
                try:
                    await self._write_down(unwritten)
                except (RegistryUnavailableError, PolicyRefusedError):
                    await self._clock.sleep(RETRY_S)
                except Exception as error:  # noqa: BLE001 - the key is in quarantine here, written down or not
                    self._unforeseen.note("quarantine", error)
                    await self._clock.sleep(RETRY_S)

    async def _write_down(self, unwritten: Mapping[str, _OwnQuarantine]) -> None:
        policy, now_ms = await self._store.policy(), self._clock.time_ms()
        version = policy.version + 1
        for key, own in unwritten.items():
            policy = policy.with_quarantine(key, own.quarantine, now_ms)
        why = "; ".join(f"key {key!r}: {own.quarantine.why}" for key, own in unwritten.items())
        cells = {own.cell_id for own in unwritten.values()}
        cell_id = cells.pop() if len(cells) == 1 else ""
        audit = AuditEntry(now_ms, self._config.who, RouterAction.QUARANTINE, cell_id, why)
        if await self._store.change_policy(policy, audit):
            for own in unwritten.values():
                own.version = version


@dataclass(slots=True, eq=False)
class _OwnQuarantine:
    """The quarantine of a key that this router has decided."""

    cell_id: str
    quarantine: Quarantine
    version: int = 0  # of the policy that holds it; 0: not written yet
