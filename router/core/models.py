"""The nouns that everything else speaks of. All immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Final

Reason = str
"""Why something is not as it should be, in words for people. All is well: no reason, None, and never an empty text."""


class Outcome(StrEnum):
    """What became of one event in its cell."""

    OK = "ok"
    RETRY = "retry"
    FAILED = "failed"
    REJECTED = "rejected"


class Contact(Enum):
    """How far an event is known to have got with the instance that it was sent to."""

    ANSWERED = auto()  # the instance said so itself
    SILENT = auto()  # it may have begun, and never said anything
    NOT_REACHED = auto()  # it got nothing


@dataclass(frozen=True, slots=True)
class Message:
    """One message as a queue delivered it. It is deleted when all its events are settled."""

    message_id: str
    receipt: str
    body: str
    sent_at_ms: int
    receive_count: int
    attributes: Mapping[str, str] = field(default_factory=dict)
    group_id: str | None = None  # on FIFO queues and, where the producer gave one, on standard ("fair") queues
    dedup_id: str | None = None  # on FIFO queues
    pointer: str = ""  # the body as it came, an S3 pointer, when it has been fetched


@dataclass(frozen=True, slots=True)
class Event:
    """One unit of work."""

    event_id: str
    partition_key: str
    body: bytes  # JSON
    attempt: int = 1  # the one that comes next
    unanswered: tuple[int, ...] = ()  # generations of its cell that never answered it, oldest first
    pointer: str = ""  # the S3 pointer that the body was fetched by; empty: it travels itself
    canary: bool = False  # of no tenant: answered by the worker itself, by the path that all others take


MAX_MESSAGE_BYTES: Final = 1024 * 1024  # of a message with its attributes, and of all in one call


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be sent."""

    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    delay_s: int = 0  # 0 to 900; standard queues only
    group_id: str | None = None  # required by FIFO queues
    dedup_id: str | None = None  # required by FIFO queues

    @property
    def size(self) -> int:
        """Bytes as SQS counts them: body and attributes, which have a type, `String`, too."""
        return len(self.body.encode()) + sum(len(k) + len(v.encode()) + 6 for k, v in self.attributes.items())


@dataclass(frozen=True, slots=True)
class Result:
    """What a cell answered for one event of a batch."""

    index: int
    outcome: Outcome
    reason: str = ""
    duplicate: bool = False
    contact: Contact = Contact.ANSWERED
    waited_s: float = 0.0  # in the cell, for a place


@dataclass(frozen=True, slots=True)
class Target:
    """Where a cell's events go now."""

    cell_id: str
    generation: int
    address: str  # host:port
    concurrency: int  # events it works on at once
    epoch: int  # of the slot map this was read with

    def same_instance(self, other: Target | None) -> bool:
        """Whether both are one running worker."""
        return other is not None and (self.generation, self.address) == (other.generation, other.address)


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease whose signature is right, as the registry's clock sees it."""

    cell_id: str
    generation: int
    instance_id: str
    address: str
    concurrency: int
    ready: bool
    live: bool  # not expired
    ended_ms: int = 0  # how long ago it expired
    fenced: int = 0  # the epoch below which it takes no batch, and has none left
    zone: str = ""
    region: str = ""


class Rung(StrEnum):
    """What is being done about a sick cell: see `lifecycle`."""

    WELL = "well"
    GUARDED = "guarded"  # sick, and a guard says that nothing shall be done
    MENDING = "mending"  # its sick components were restarted
    RESTARTING = "restarting"  # its instance was asked to end, for the next to come in its place
    REPLACING = "replacing"  # another instance is launched beside it
    REPROVISIONING = "reprovisioning"  # what it is made of was made anew, where it was missing
    GIVEN_UP = "given up"  # it is not the instance, or no other comes: somebody has to look


@dataclass(frozen=True, slots=True)
class Treatment:
    """Where a cell is on the ladder."""

    rung: Rung = Rung.WELL
    since_ms: int = 0  # in this rung
    generation: int = 0  # the sick one
    verdict: str = ""
    why: str = ""  # the evidence; while GUARDED, the guard
    ejected: bool = False  # it gets no events: it would not do them


NO_TREATMENT: Final = Treatment()


@dataclass(frozen=True, slots=True)
class CellRecord:
    """What the controllers know of a cell, kept in the registry."""

    cell_id: str
    generation: int = 0  # admitted: the only one that gets traffic; 0 for none yet
    launching: int = 0  # the generation being launched; 0 for none
    launched: int = 0  # the highest that was launched ever
    launched_at_ms: int = 0  # when that launch began, by the registry's clock
    launch_failures: int = 0  # in a row; sets the back-off
    canary_failures: int = 0  # in a row, of the admitted instance
    candidate_failures: int = 0  # in a row, of the one being launched
    verified: int = 0  # the generation that has passed a canary; only then a cell gets its first slots
    fence: int = 0  # the epoch below which its instances must take no batch: what moves away is not begun again
    retired: bool = False  # not one of the cells any more; only its hold queue is still read
    admitted_at_ms: int = 0  # when its generation got the traffic
    replaced_at_ms: int = 0  # when a sick instance was last replaced
    reprovisioned_at_ms: int = 0  # when its durable components were last made anew, for instances that don't come
    treatment: Treatment = NO_TREATMENT


@dataclass(frozen=True, slots=True)
class RouterReport:
    """What a router says of itself."""

    router_id: str
    epoch: int  # of the slot map that it routes by
    quiet: bool  # nothing of what that map moves is on its way to a cell


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a router has seen of one cell since it started."""

    events: int  # with outcome ok
    tenants: int  # different keys, as far as it remembers them


@dataclass(frozen=True, slots=True)
class RouterView:
    """A router's report, as the registry's clock sees it."""

    report: RouterReport
    live: bool  # not expired


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance as its provisioner sees it."""

    cell_id: str
    generation: int
    running: bool
    detail: str = ""  # exit code, container id: for people
    address: str = ""  # host:port where its provisioner has put it; empty: it doesn't know


@dataclass(frozen=True, slots=True)
class ComponentView:
    """A component as its instance sees it."""

    name: str
    healthy: bool
    detail: str = ""


class CellState(StrEnum):
    """A cell as people see it."""

    STARTING = "starting"  # never had an instance that serves
    SERVING = "serving"
    EJECTED = "ejected"  # has one that could serve, and its events wait: a person or the ladder wants it so
    DOWN = "down"  # had one; its replacement is on the way
    RETIRED = "retired"  # not one of the cells any more


def cell_ids(count: int) -> tuple[str, ...]:
    """cell-0000 … for a number of cells."""
    return tuple(f"cell-{i:04d}" for i in range(count))
