"""What the services need of the world. Adapters implement these; tests have fakes of the same shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from router.core.detection.samples import RouterSample
from router.core.models import (
    ComponentView,
    Draft,
    Event,
    InstanceView,
    Message,
    Result,
    RouterReport,
    Target,
    Traffic,
)
from router.core.policy import Policy
from router.core.registry import AuditEntry, Change, Condition, Petitions, Snapshot
from router.core.slot_map.slots import SlotMap
from router.core.telemetry import Record


class Clock(Protocol):
    """Time and chance, so that a simulation can own both."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def time_ms(self) -> int:
        """Wall time, ms since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def jitter(self) -> float:
        """Uniform in [0, 1)."""
        ...


class Observer(Protocol):
    """Takes records of what happened. Never raises, never blocks."""

    def observe(self, record: Record) -> None:
        """Note one record."""
        ...


class EventSource(Protocol):
    """A queue: the source, a hold queue or the dead-letter queue. Whole calls raise SourceUnavailableError."""

    @property
    def name(self) -> str:
        """The queue's name, for people and metrics."""
        ...

    @property
    def fifo(self) -> bool:
        """Whether it keeps order within message groups; drafts for it need a group and a deduplication id."""
        ...

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        """Up to 10 messages, hidden for `visibility_s` from now; waits up to `wait_s` (0 to 20) for the first."""
        ...

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Delete up to 10; returns those that were not deleted and are worth another try."""
        ...

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        """Hide up to 10 for `seconds` (0 to 43200) from now; those that are gone already are passed over."""
        ...

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        """Send up to 10; returns the positions of those that were not taken."""
        ...


class CellClient(Protocol):
    """The way to an instance."""

    def process(self, target: Target, batch: Sequence[Event]) -> AsyncIterator[Result]:
        """Send a batch and yield each event's result as it comes, each index at most once.

        Ends early, or raises CellUnavailableError, when the cell stops answering: what has no result has the outcome
        `retry`. Raises CellRefusedError when the cell took nothing.
        """
        ...


class PolicyStore(Protocol):
    """The policy, to be read and changed. Every call raises RegistryUnavailableError."""

    async def policy(self) -> Policy:
        """The one in force."""
        ...

    async def change_policy(self, policy: Policy, audit: AuditEntry) -> bool:
        """Have the leader put this in force, as the version after `policy.version`; False: another change came first.

        Raises NoLeaderError, and PolicyRefusedError with the leader's reasons.
        """
        ...


class RegistryReader(Protocol):
    """What is known of the cells. Every call raises RegistryUnavailableError when the registry is out of reach."""

    async def snapshot(self) -> Snapshot:
        """Everything that routing depends on, in one round trip."""
        ...

    async def conditions(self) -> Mapping[str, Condition]:
        """How the leader said that every cell is."""
        ...


class RouterRegistry(RegistryReader, PolicyStore, Protocol):
    """The registry as a router needs it."""

    async def report(self, report: RouterReport, ttl_s: float) -> None:
        """Say that this router lives, for so long; 0: that it leaves."""
        ...

    async def note_traffic(self, router_id: str, traffic: Mapping[str, Traffic]) -> None:
        """Say what this router has seen, by cell."""
        ...

    async def note_sample(self, router_id: str, sample: RouterSample) -> None:
        """Say what this router saw of its cells in the last second."""
        ...

    async def offer(self, slot_map: SlotMap, policy: Policy) -> None:
        """Offer what this router remembers to the leader, since the registry's is older or gone."""
        ...

    async def changed(self, within_s: float) -> None:
        """Wait until something may have changed, at most so long. Never raises."""
        ...


class CellRegistry(RegistryReader, Protocol):
    """The registry as its writers, the controllers, need it."""

    async def lead(self, owner: str, ttl_s: float, hint: int) -> int | None:
        """Take or renew the leadership: its epoch, always above `hint`, or None while another leads."""
        ...

    async def resign(self, owner: str) -> None:
        """Give the leadership up, so that another need not wait for the lease to end."""
        ...

    async def next_generation(self, epoch: int, cell_id: str, above: int = 0) -> int:
        """A generation that no instance of the cell ever had, and higher than `above`. Raises NotLeaderError."""
        ...

    async def samples(self) -> Mapping[str, RouterSample]:
        """The newest sample of every router that lately said something."""
        ...

    async def note_conditions(self, epoch: int, conditions: Mapping[str, Condition]) -> None:
        """Say how every cell is, only as the leader of `epoch`. Raises NotLeaderError."""
        ...

    async def petitions(self) -> Petitions:
        """What others want."""
        ...

    async def write(self, epoch: int, change: Change) -> None:
        """Write all of it or nothing, only as the leader of `epoch`. Raises NotLeaderError."""
        ...

    async def audit(self, limit: int) -> list[AuditEntry]:
        """The newest entries, oldest first."""
        ...


class InstanceControl(Protocol):
    """What may be asked of an instance beside events. Raises CellUnavailableError, CellRefusedError."""

    async def components(self, address: str, within_s: float) -> list[ComponentView]:
        """Its components, checked now."""
        ...

    async def restart(self, address: str, component: str, within_s: float) -> None:
        """Restart one; `worker`: end in order, for the next instance to come."""
        ...


class CellResources(Protocol):
    """The durable components of cells, which outlive their instances. Raises ProvisionError."""

    async def ensure(self, cell_id: str) -> Sequence[str]:
        """Make the cell's hold queue, its sink's stream and its bucket where they are missing; names what was."""
        ...


class Provisioner(Protocol):
    """Starts and ends instances. Raises ProvisionError."""

    @property
    def can_launch(self) -> bool:
        """False: something else starts the workers."""
        ...

    async def launch(self, cell_id: str, generation: int) -> None:
        """Start an instance and return without waiting for it to be ready."""
        ...

    async def stop(self, cell_id: str, generation: int) -> None:
        """End an instance: asked first, killed after its grace. Returns at once; `observe` tells when it is gone."""
        ...

    async def observe(self) -> list[InstanceView]:
        """The instances it knows, those that ended lately among them."""
        ...


class PayloadStore(Protocol):
    """Where bodies lie that are too large for a queue."""

    async def read(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """An object of at most `max_bytes`; a larger one is refused before it is read.

        Raises PayloadMissingError, PayloadTooLargeError, and SourceUnavailableError for all that may get better.
        """
        ...
