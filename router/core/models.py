"""The records that all other modules speak of: messages, events, cells, instances. All of them are immutable.

Those that are made for each event are structs of msgspec, which cost a twentieth of a frozen dataclass to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Annotated, Final, NamedTuple

import msgspec

Reason = str
"""Why something is not as it should be, in words for people. Where all is well there is None, never an empty text."""

MAX_WHOLE: Final = 2**53
"""JSON, Lua and JavaScript all hold every whole number up to here exactly. Whatever reads a record refuses more."""
Whole = Annotated[int, msgspec.Meta(ge=0, le=MAX_WHOLE)]
"""A generation, an epoch, a count or a time in ms. Decoders check the range; nothing else does."""
Id = Annotated[str, msgspec.Meta(max_length=200)]
"""The name of a cell, an instance or a router. Decoders check its length; nothing else does."""


def age_ms(at_ms: int, now_ms: int) -> int:
    """Return how long ago something was by the registry's clock.

    That clock may have been set back since. What lies ahead then counts as if it were as long ago: no wait lasts longer
    than it should because of that.
    """
    return abs(now_ms - at_ms)


class Outcome(StrEnum):
    """What became of one event in its cell."""

    OK = "ok"
    RETRY = "retry"  # infrastructure failed; never counts as an attempt
    FAILED = "failed"  # the handler raised; counts as an attempt
    REJECTED = "rejected"  # can never succeed


class HoldCause(StrEnum):
    """Why an event waits in a hold queue, or in the quarantine queue, instead of its lane."""

    SHUT = "shut"  # its cell has no instance, or a failure shut the path to it
    EJECTED = "ejected"  # its cell gets no events
    OVER_SHARE = "over share"  # its lane holds more than its share while other cells lack events
    MOVING = "moving"  # its key is on its way to another cell
    RETRY = "retry"  # its cell could not process it
    DENIED = "denied"  # its cell was denied what it needs
    FAILED = "failed"  # its handler raised
    CELL_RATE = "cell rate"  # its cell gets as many events a second as the policy says that it bears
    RATE = "rate"  # its key is over its rate
    CONCURRENCY = "concurrency"  # its key has too many events waiting
    QUARANTINE = "quarantine"  # its key is in quarantine
    DEAD = "dead"  # it is dead, and the dead-letter queue does not take it


class DeadLetterReason(StrEnum):
    """Why an event, or a message that holds none, lies in the dead-letter queue."""

    MALFORMED = "malformed"  # the message holds no event that could be routed
    REJECTED = "rejected"  # the handler said that it can never succeed
    MAX_ATTEMPTS = "max_attempts"  # the handler failed as often as it may
    KILLED_CELL = "killed_cell"  # as many instances died with it in flight as may
    FOREIGN = "foreign"  # something else than a router put it there, in no envelope
    INCOMPLETE = "incomplete"  # a part of a long envelope, whose other parts were not found


class Contact(Enum):
    """How far an event is known to have got with the instance that it was sent to."""

    ANSWERED = auto()  # the instance itself sent a result
    SILENT = auto()  # the instance may have begun it, and sent no result
    NOT_REACHED = auto()  # the instance never got it, or has refused to begin it


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message as a queue delivered it. It is deleted when all its events are settled."""

    message_id: str
    receipt: str
    body: str
    sent_at_ms: int
    receive_count: int
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    group_id: str | None = None  # on FIFO queues and, where the producer gave one, on standard ("fair") queues
    dedup_id: str | None = None  # on FIFO queues
    pointer: str = ""  # the body as it came, where that was an S3 pointer and `body` is what it points to
    types: Mapping[str, str] = msgspec.field(default_factory=dict)  # of the attributes whose type isn't `String`
    binaries: Mapping[str, bytes] = msgspec.field(default_factory=dict)  # the attributes that are no text
    trace_header: str = ""  # AWSTraceHeader, as X-Ray writes it


class Depth(NamedTuple):
    """How many messages a queue has, roughly."""

    waiting: int  # for a receiver, also behind another one of their FIFO group
    hidden: int  # received by somebody, and not deleted
    delayed: int  # not yet to be received

    @property
    def messages(self) -> int:
        """All of them together."""
        return sum(self)


class Origin(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What came beside an event's body, in the message that was first sent: its fields are those of a Message."""

    message_id: str = ""
    sent_at_ms: Whole = 0
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    types: Mapping[str, str] = msgspec.field(default_factory=dict)
    binaries: Mapping[str, bytes] = msgspec.field(default_factory=dict)
    trace_header: str = ""
    group_id: str = ""
    dedup_id: str = ""
    whole: bool = False  # the event is all of the message's body

    @property
    def size(self) -> int:
        """How many bytes it has at most on its way to a cell, where quotes and binary values take more than here."""
        if not (self.attributes or self.binaries or self.trace_header):
            return 0  # most have none
        texts = sum(len(name) + 2 * len(value.encode()) for name, value in self.attributes.items())
        blobs = sum(len(name) + 2 * len(value) for name, value in self.binaries.items())
        return texts + blobs + sum(len(name) + len(kind) for name, kind in self.types.items()) + len(self.trace_header)


class Death(msgspec.Struct, frozen=True, gc=False):
    """How an event died that the dead-letter queue has yet to take: its fields are those of its letter."""

    reason: DeadLetterReason
    error: str  # a sentence for people
    cell_id: str
    generation: Whole
    dead_at_ms: Whole


class Event(msgspec.Struct, frozen=True, gc=False):
    """One unit of work, known by its partition key and its id."""

    event_id: str
    partition_key: str
    body: bytes  # JSON
    attempt: int = 1  # the next one, from 1
    unanswered: tuple[int, ...] = ()  # generations of its cell that sent no result for it, oldest first
    killed: tuple[int, ...] = ()  # those of them that had died before its last quarantine, lowest first
    retries: tuple[int, ...] = ()  # how many lone ones, and when the first was, in seconds since 1970; none: empty
    pointer: str = ""  # the S3 pointer that `body` was fetched by; empty: the message contained the body
    canary: bool = False  # of no tenant: tries the path that events take, and the worker answers it itself
    suspect: bool = False  # it goes to its cell as one: an instance may have died of it
    rehearse: bool = False  # a copy of one that is done, to see how long it takes: nothing of it lasts
    origin: Origin | None = None  # what came beside the body; None for an event that came in no message
    death: Death | None = None  # given when no handler may run for it any more
    trace: str = ""  # the span of its way to its cell, as a W3C traceparent; empty unless it is traced


MAX_MESSAGE_BYTES: Final = 1024 * 1024
"""SQS' limit for a message with its attributes, and for all the messages of one call together."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A message that is to be sent to a queue."""

    body: str
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    delay_s: int = 0  # seconds, 0 to 900; standard queues only
    group_id: str | None = None  # required by FIFO queues
    dedup_id: str | None = None  # required by FIFO queues
    types: Mapping[str, str] = msgspec.field(default_factory=dict)  # of the attributes whose type isn't `String`
    binaries: Mapping[str, bytes] = msgspec.field(default_factory=dict)  # the attributes that are no text
    trace_header: str = ""  # AWSTraceHeader: SQS doesn't count it

    @property
    def size(self) -> int:
        """The bytes that SQS counts: of the body, and of each attribute's name, type and value."""
        texts = sum(len(name) + len(value.encode()) for name, value in self.attributes.items())
        blobs = sum(len(name) + len(value) for name, value in self.binaries.items())
        others = [kind for name, kind in self.types.items() if name in self.attributes or name in self.binaries]
        strings = len(self.attributes) + len(self.binaries) - len(others)
        return len(self.body.encode()) + texts + blobs + sum(map(len, others)) + len("String") * strings


class Result(msgspec.Struct, frozen=True, gc=False):
    """What became of one event of a batch, by its cell's answer or for want of one."""

    index: int  # of the event in its batch, from 0
    outcome: Outcome
    reason: Reason | None = None  # it was not processed
    duplicate: bool = False  # the cell had processed it before
    other_body: bool = False  # so it had, by key and id, but with another body
    contact: Contact = Contact.ANSWERED
    waited_s: float = 0.0  # seconds in the cell, for a free place
    emitted: int = 0  # lines that its handler emitted
    emitted_digest: str = ""  # of what they say
    denied: bool = False  # of a retry: AWS, or whoever else grants rights, denies the cell what the event needs


@dataclass(frozen=True, slots=True)
class Target:
    """The instance that a cell's events go to."""

    cell_id: Id
    generation: Whole
    address: str  # host:port
    concurrency: Whole  # how many events it works on at once
    epoch: Whole  # of the slot map that this was read with
    secret_id: Id = ""  # names the secret that calls to it are proven with; empty where that is not known

    def same_instance(self, other: Target | None) -> bool:
        """Return whether both are the same running worker; False for no other."""
        return other is not None and (self.generation, self.address) == (other.generation, other.address)


@dataclass(frozen=True, slots=True)
class Vitals:
    """What an instance says of itself over the last seconds, as it measured it. Shares are of 1, and times in seconds.

    It is its own word: it tells people why the instance may be slow, and never excuses one instance alone.
    """

    cpus: float  # that it may use at once
    cpu: float  # share of these that its process uses
    waited: float | None  # share of the time in which it is ready to run and has no core; also because of its quota
    throttled: float | None  # share of the time in which its CPU quota keeps it from running; None: it has no quota
    lag_s: float  # how late its event loop was at most
    gc: float  # share of the time in which Python's garbage collector stops it
    write_s: float  # that its store takes to write, on average; 0: it has finished no write
    slowest_write_s: float  # also of writes that are not finished


@dataclass(frozen=True, slots=True)
class LeaseView:
    """An instance's lease with a valid signature, judged by the registry's clock."""

    cell_id: str
    generation: int
    instance_id: str
    address: str
    concurrency: int  # how many events it works on at once
    ready: bool  # to take events
    live: bool  # not expired
    ended_ms: int = 0  # ms since it expired; 0 while it is live
    fenced: int = 0  # the epoch below which it takes no batch, and has no event left
    zone: str = ""  # availability zone or rack
    region: str = ""
    beat: int = 0  # how often the instance has renewed it; only grows
    note: Reason | None = None  # what people should know of it, as it says itself
    secret_id: str = ""  # names the environment's secret that its own is derived from
    released: bool = False  # the instance has said that it ends; not live then, and no doubt about it
    missing: bool = False  # gone from the registry, or false there, since it was read last: that says nothing
    vitals: Vitals | None = None  # that it measured of itself; None: nothing yet
    rehearses: bool = False  # its handler can do a copy of an event without any effect

    def target(self, epoch: int = 0) -> Target:
        """Return where calls to this instance go that go by the slot map of this epoch."""
        return Target(self.cell_id, self.generation, self.address, self.concurrency, epoch, self.secret_id)


class Rung(StrEnum):
    """How far the treatment of a sick cell has come: a rung of the ladder."""

    WELL = "well"
    GUARDED = "guarded"  # sick, and a guard keeps it from treatment
    MENDING = "mending"  # its sick components were restarted
    RESTARTING = "restarting"  # its instance was asked to end, and the next one takes its place
    REPLACING = "replacing"  # another instance is launched beside the sick one
    REPROVISIONING = "reprovisioning"  # its missing durable components were made again
    GIVEN_UP = "given up"  # another instance does not help, or none comes up: a person has to look


@dataclass(frozen=True, slots=True)
class Treatment:
    """Where a cell is on the ladder, and why."""

    rung: Rung = Rung.WELL
    since_ms: Whole = 0  # when it came to this rung
    generation: Whole = 0  # of the sick instance
    verdict: str = ""
    why: Reason | None = None  # the evidence in words; while GUARDED, the guard
    ejected: bool = False  # it gets no events, since it would not process them


NO_TREATMENT: Final = Treatment()


@dataclass(frozen=True, slots=True)
class CellRecord:
    """What the controllers know about a cell, kept in the registry."""

    cell_id: Id
    generation: Whole = 0  # the admitted one, which alone gets traffic; 0 for none yet
    launching: Whole = 0  # the generation being launched; 0 for none
    launched: Whole = 0  # the highest that was ever launched
    launched_at_ms: Whole = 0  # when that launch began, by the registry's clock
    twin: Whole = 0  # the generation last launched beside a slow instance, which gets the traffic only if it is faster
    tried_at_ms: Whole = 0  # when a twin of the admitted instance was last found no faster
    trials: Whole = 0  # of the admitted instance, that found so, each less than twins.AGAIN_MS after the one before
    recovered_at_ms: Whole = 0  # when the cell was last well again, after a treatment or a trial
    launch_failures: Whole = 0  # in a row; they set the back-off
    canary_failures: Whole = 0  # in a row, of the admitted instance
    candidate_failures: Whole = 0  # in a row, of the instance being launched
    address: Id = ""  # host:port at which the admitted one answered its canary: from elsewhere no lease of it counts
    verified: Whole = 0  # the generation that has passed a canary; before that a cell gets no first slots
    fence: Whole = 0  # the epoch below which its instances must take no batch, so that no moved key is begun here again
    retired: bool = False  # no longer one of the cells; only its hold queue is still read
    admitted_at_ms: Whole = 0  # when its generation was admitted
    replaced_at_ms: Whole = 0  # when a sick instance was last replaced
    reprovisioned_at_ms: Whole = 0  # when its durable components were last made again because no instance came up
    treatment: Treatment = NO_TREATMENT
    image: str = ""  # that the admitted one was launched with; empty: the provisioner's own, or not known
    launched_image: str = ""  # that the highest generation was launched with
    why_launch_failed: Reason | None = None  # the last launch, since one came to something


HOLD_QUEUES: Final = "hold"
"""What all hold queues together are called in a router's report."""


@dataclass(frozen=True, slots=True)
class RouterReport:
    """What a router says about itself."""

    router_id: Id
    epoch: Whole  # of the slot map that it routes by
    quiet: bool  # none of the slots and keys that the map moves has an event on its way to a cell
    address: Annotated[str, msgspec.Meta(max_length=60)] = ""  # ip:port of its API, for Prometheus; empty: not reached
    zone: Annotated[str, msgspec.Meta(max_length=60)] = ""  # its availability zone, as ECS says
    queues: Annotated[Mapping[Id, Whole], msgspec.Meta(max_length=8)] = field(default_factory=dict)
    """Messages by the queue's purpose, as SQS said within a minute. A queue that could not be asked is missing."""
    ages: Annotated[Mapping[Id, Whole], msgspec.Meta(max_length=8)] = field(default_factory=dict)
    """By the queue's purpose, how old its oldest messages were when they were received, in s: a mean over a minute."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a router has sent to one cell since it started."""

    events: Whole  # with outcome ok
    tenants: Whole  # distinct keys, as far as it remembers them


@dataclass(frozen=True, slots=True)
class RouterView:
    """A router's report, judged by the registry's clock."""

    report: RouterReport
    live: bool  # not expired


@dataclass(frozen=True, slots=True)
class InstanceView:
    """What a provisioner knows about one of its instances."""

    cell_id: str
    generation: int
    running: bool
    detail: str = ""  # exit code, container id: for people
    address: str = ""  # host:port where its provisioner has put it; empty where that is not known
    ending: Reason | None = None  # why it will end though it still runs, where that is known in advance
    image: str = ""  # that it runs; empty where that is not known, or where an instance is no image


@dataclass(frozen=True, slots=True)
class ComponentView:
    """How an instance found one of its components."""

    name: str
    healthy: bool
    detail: str = ""


class CellState(StrEnum):
    """The state of a cell, as people are shown it."""

    STARTING = "starting"  # no instance was ever admitted
    SERVING = "serving"
    EJECTED = "ejected"  # could serve, and its events wait in its hold queue: by a person's order or by the ladder
    DOWN = "down"  # its admitted instance does not serve; another one is on its way
    RETIRED = "retired"  # no longer one of the cells


def cell_ids(count: int) -> tuple[str, ...]:
    """Return the ids of `count` cells: cell-0000, cell-0001 and so on."""
    return tuple(f"cell-{i:04d}" for i in range(count))
