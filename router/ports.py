"""The Protocols through which services reach the world. Adapters implement them, and tests have fakes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:  # so that who needs one port, such as the settings the clock, imports no more
    from router.core.archive.records import ArchivedEvent
    from router.core.detection.samples import RouterSample
    from router.core.edits.decided import EditOutcome
    from router.core.edits.kinds import Edit
    from router.core.edits.undoing import Undoing
    from router.core.models import (
        ComponentView,
        Depth,
        Draft,
        Event,
        InstanceView,
        Message,
        Reason,
        Result,
        RouterReport,
        Target,
        Traffic,
    )
    from router.core.policy import Policy
    from router.core.registry import AuditEntry, Change, Condition, Petitions, PolicyVersion, Snapshot
    from router.core.slot_map.slots import SlotMap
    from router.core.telemetry import Record

T = TypeVar("T")


class Clock(Protocol):
    """Time and chance, behind a port so that a simulation can control both. No call raises."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; they never go back."""
        ...

    def time_ms(self) -> int:
        """Return the time of day in ms since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds; 0 lets other tasks run."""
        ...

    def jitter(self) -> float:
        """Return a random number, uniform in [0, 1)."""
        ...


class Observer(Protocol):
    """Takes records of what happened, for metrics and logs. Never raises and never blocks."""

    def observe(self, record: Record) -> None:
        """Take one record. It is called on the event loop, several times for each event, so it must be quick."""
        ...


class EventSource(Protocol):
    """A queue: the source, a hold queue, the quarantine queue or the dead-letter queue.

    A call that fails as a whole raises SourceUnavailableError, or SourceMissingError where there is no such queue.
    """

    @property
    def name(self) -> str:
        """Return the queue's name, as people and metrics show it."""
        ...

    @property
    def fifo(self) -> bool:
        """Return whether the queue keeps order within message groups; its drafts need group and deduplication id."""
        ...

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        """Receive up to `max_messages` (1 to 10), and hide them from other receivers for `visibility_s` seconds.

        Waits up to `wait_s` seconds (0 to 20) for a first message; without one the list is empty.
        """
        ...

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Delete up to 10 messages; returns those that were not deleted and are worth another try."""
        ...

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        """Hide up to 10 messages for `seconds` (0 to 43200) from now; passes over those that are gone already."""
        ...

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        """Send up to 10 messages; returns the positions in `drafts` of those that the queue did not take."""
        ...

    async def depth(self) -> Depth:
        """Count, roughly, the messages in the queue; right a minute after the last one was sent."""
        ...

    async def max_bytes(self) -> int:
        """Return how many bytes a message may have, its attributes included."""
        ...


class CellClient(Protocol):
    """Sends batches of events to the cells' instances."""

    def process(self, target: Target, batch: Sequence[Event]) -> AsyncIterator[Result]:
        """Send a batch and yield each event's result as it arrives, in any order, each index at most once.

        Ends early, or raises CellUnavailableError, when the instance stops answering: an event without a result has the
        outcome `retry`. Raises CellRefusedError when the instance took no event.
        """
        ...


class EventTrace(Protocol):
    """The trace of one event in this router: which part of its way it is on. No call raises or blocks."""

    def waits(self, cell_id: str) -> None:
        """Note that it waits in the lane of this cell."""
        ...

    def sent(self, target: Target) -> str:
        """Note that it goes to this instance; returns what the call carries: the place in the trace, as W3C says it."""
        ...

    def answered(self, result: Result) -> None:
        """Note what its cell said, or what stands for a word of the cell."""
        ...

    def moves(self, queue: str, why: str) -> None:
        """Note that it is written to another queue, for this reason."""
        ...

    def acknowledging(self, queue: str) -> None:
        """Note that its message is deleted from the queue that it came from."""
        ...

    def end(self, let_go_s: int | None) -> None:
        """Note that its message is gone, or was let go for so many seconds."""
        ...


class EventTracer(Protocol):
    """Begins the traces of events. Where nothing is traced, there is none."""

    def received(self, event: Event, queue: str, message_id: str, age_s: float, *, first: bool) -> EventTrace | None:
        """Begin the trace of an event that was received `age_s` seconds ago; None when it is not sampled.

        `first` says that no router has had the event before.
        """
        ...


class PolicyStore(Protocol):
    """Reads and changes the policy. Every call raises RegistryUnavailableError when the registry is out of reach."""

    async def policy(self) -> Policy:
        """Read the policy that is in force now."""
        ...

    async def change_policy(self, policy: Policy, audit: AuditEntry) -> bool:
        """Propose a policy to the leader and wait, a few seconds at most, for its ruling.

        `policy.version` is the version that it was made from; in force it is the next one. Returns False when another
        change came first, so that this one has to be made again. Raises PolicyRefusedError with the leader's reasons,
        and NoLeaderError when nobody rules.
        """
        ...


class RegistryReader(Protocol):
    """Reads what is known about the cells. Every call raises RegistryUnavailableError while that is out of reach."""

    async def snapshot(self) -> Snapshot:
        """Read everything that routing depends on, in one round trip."""
        ...

    async def conditions(self) -> Mapping[str, Condition]:
        """Read what the leader last said of every cell, by cell id."""
        ...


class FleetReader(RegistryReader, Protocol):
    """Reads what people are shown beside that: what routers see, and what was done."""

    async def samples(self) -> Mapping[str, RouterSample]:
        """Read the newest sample of every router that said something within seconds, by router id."""
        ...

    async def audit(self, limit: int) -> list[AuditEntry]:
        """Read the newest `limit` entries, oldest first."""
        ...


class OperatorReader(FleetReader, Protocol):
    """Reads what people are shown by the command line and the Admin API."""

    async def history(self) -> Sequence[PolicyVersion]:
        """Read the versions of the policy that are remembered, oldest first."""
        ...

    async def traffic(self) -> Sequence[Mapping[str, Traffic]]:
        """Read what each router has sent to each cell since it started, by cell id."""
        ...


class OperatorRegistry(OperatorReader, PolicyStore, Protocol):
    """The part of the registry with which people's changes are made."""


class Operator(Protocol):
    """Makes people's changes, in the name of one person.

    Every call raises RegistryUnavailableError, NoLeaderError or PolicyRefusedError; BadEditError for what nobody can
    want, NoSuchCellError, and NothingToChangeError where that is an error.
    """

    async def change(self, edit: Edit, why: str) -> EditOutcome:
        """Have the leader make an edit."""
        ...

    async def undo(self, to: int | None, why: str) -> Undoing:
        """Take back the last change of a person, or all since version `to`."""
        ...


class RouterRegistry(RegistryReader, PolicyStore, Protocol):
    """The part of the registry that routers use."""

    async def report(self, report: RouterReport, ttl_s: float) -> None:
        """Say that this router lives, for `ttl_s` seconds from now; 0 says that it leaves."""
        ...

    async def note_traffic(self, router_id: str, traffic: Mapping[str, Traffic]) -> None:
        """Say what this router has sent to each cell since it started, by cell id."""
        ...

    async def note_sample(self, router_id: str, sample: RouterSample) -> None:
        """Say what this router saw of its cells in the last second; replaces its earlier sample."""
        ...

    async def offer(self, slot_map: SlotMap, policy: Policy) -> None:
        """Offer the map and policy that this router remembers to the leader, when the registry's are older or gone."""
        ...

    async def changed(self, within_s: float) -> None:
        """Wait until something may have changed, `within_s` seconds or little more at most. Never raises."""
        ...


class CellRegistry(FleetReader, Protocol):
    """The part of the registry that controllers use; only the one that leads may write.

    Calls that take an `epoch` raise NotLeaderError, and change nothing, when another controller has led since.
    """

    async def lead(self, owner: str, ttl_s: float, hint: int) -> int | None:
        """Take the leadership or renew it for `ttl_s` seconds; returns its epoch, or None while another leads.

        A new epoch is above every earlier one and above `hint`.
        """
        ...

    async def resign(self, owner: str) -> bool:
        """Give up the leadership, or the wait for it, so that another controller need not wait for it to expire.

        Returns whether no controller is left: the leader has resigned, and no other one waits to lead.
        """
        ...

    async def next_generation(self, epoch: int, cell_id: str, above: int = 0) -> int:
        """Give out a generation that no instance of the cell ever had, higher than all of them and than `above`."""
        ...

    async def note_conditions(self, epoch: int, conditions: Mapping[str, Condition]) -> None:
        """Say how every cell is, by cell id; replaces all that was said before."""
        ...

    async def petitions(self) -> Petitions:
        """Read what routers and people want of the leader."""
        ...

    async def write(self, epoch: int, change: Change) -> None:
        """Write all of a change or nothing, and wake those who wait in `changed`."""
        ...


class InstanceControl(Protocol):
    """What a controller asks of an instance, beside events.

    Every call ends within `within_s` seconds. It raises CellUnavailableError when the instance does not answer in time,
    and CellRefusedError when it refuses.
    """

    async def components(self, target: Target, within_s: float) -> list[ComponentView]:
        """Have the instance check its components now, and return how it found each."""
        ...

    async def restart(self, target: Target, component: str, within_s: float) -> None:
        """Restart one component; `worker` ends the whole instance in order, and the next one takes its place."""
        ...


class CellResources(Protocol):
    """Makes the durable components of cells, which outlive their instances."""

    async def ensure(self, cell_id: str) -> Sequence[str]:
        """Make the cell's hold queue, bucket and stream where they are missing; returns the names of those that were.

        Raises ProvisionError when one can't be made, and NotYetError while one is being made that takes minutes.
        """
        ...

    async def remove(self, cell_id: str) -> Reason | None:
        """Remove what a cell without instances has, a step at each call; returns why it is still there, None at last.

        Nothing is removed while anything is left in it. Raises ProvisionError.
        """
        ...

    async def with_hold_queues(self) -> Collection[str]:
        """List the cells that have a hold queue, whoever remembers them. Raises ProvisionError."""
        ...


class Provisioner(Protocol):
    """Starts and ends instances. Every call raises ProvisionError when it can't do what was asked."""

    @property
    def can_launch(self) -> bool:
        """Return whether it can launch instances; False where something else starts the workers."""
        ...

    @property
    def takes_images(self) -> bool:
        """Return whether `launch` takes an image; False where an instance is no container."""
        ...

    async def launch(self, cell_id: str, generation: int, image: str | None = None) -> None:
        """Start an instance, and return before it is ready; without an image, of the one that its cell has anyway."""
        ...

    async def stop(self, cell_id: str, generation: int) -> None:
        """Ask an instance to end, and kill it after its grace; returns before that. `observe` tells when it is gone."""
        ...

    async def observe(self) -> list[InstanceView]:
        """Return the instances that it knows, those among them that ended lately."""
        ...


class ArchiveStore(Protocol):
    """Keeps the objects of the archive."""

    async def put(self, key: str, body: bytes) -> None:
        """Write an object. Raises SourceUnavailableError, or one of its kinds, when it may not be there."""
        ...


class ArchiveReader(Protocol):
    """Reads the archive. Every call raises SourceUnavailableError when it can't be had."""

    async def names(self, prefix: str) -> list[str]:
        """List the objects whose names begin with `prefix`, which ends with a slash, in their order."""
        ...

    async def read(self, name: str) -> bytes:
        """Read a whole object."""
        ...

    def records(self, stored: bytes) -> Iterator[ArchivedEvent | Reason]:
        """Read what is in an object, in its order; a reason for each line that is no record. Never raises."""
        ...


class Beside(Protocol):
    """Does work that takes long without keeping the event loop from anything else."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run a function beside the event loop, one after the other; return or raise what it does."""
        ...


class PayloadStore(Protocol):
    """Reads event bodies that are too large for a queue."""

    async def read(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """Read an object of at most `max_bytes` bytes.

        Raises PayloadTooLargeError for a larger one, PayloadMissingError where there is none, and
        SourceUnavailableError for every failure that may pass.
        """
        ...
