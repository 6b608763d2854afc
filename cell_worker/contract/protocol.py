"""The wire contract between routers, controllers and cells: paths, messages, records and Redis key names.

Both sides import this module and nothing else of each other: what is written here is what is sent.

A batch of events travels as one POST. Each event's result comes back as one line of JSON (application/x-ndjson), in the
order in which the events finish. A batch is only a unit of transport: its events share no fate, and an event that has
no result line when the reply ends has the outcome `retry`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, NamedTuple

import msgspec

from cell_worker.contract.keys import Key
from cell_worker.contract.strict_reader import Id, StrictReader, Unreadable, Whole

Reason = str
"""Why something is not as it should be, in words for people. All is well: no reason, None, and never an empty text."""

EVENTS_PATH: Final = "/v1/events"
DRAIN_PATH: Final = "/v1/drain"
COMPONENT_RESTART_PATH: Final = "/v1/components/{name}/restart"
CHAOS_PATH: Final = "/v1/chaos"
HEALTHZ_PATH: Final = "/healthz"
READYZ_PATH: Final = "/readyz"
COMPONENTS_PATH: Final = "/components"
METRICS_PATH: Final = "/metrics"

MAX_BATCH_EVENTS: Final = 50
"""A cell refuses a batch of more events."""
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""A cell refuses a longer request body. An SQS message has at most 1 MiB: several of the largest fit in a batch."""
MAX_REASON_CHARS: Final = 2000
"""A cell cuts a longer reason."""
MAX_RESULT_LINE_BYTES: Final = 16 * 1024
"""A router takes no longer result line. An honest one is shorter, since its reason has at most MAX_REASON_CHARS."""
MAX_NOTE_CHARS: Final = 500
"""An instance cuts a longer note in its lease."""
MAX_VITAL_S: Final = 3600.0
"""An instance says no longer time of itself."""
MAX_FAULT_S: Final = 600.0
"""An injected fault ends by itself after this time at the latest."""


class Outcome(StrEnum):
    """What became of one event in the cell."""

    OK = "ok"
    RETRY = "retry"  # infrastructure was at fault: the event comes again and no attempt is counted
    FAILED = "failed"  # the handler raised an exception: counts as an attempt
    REJECTED = "rejected"  # the event can never succeed: it goes to the dead-letter queue


class EventName(NamedTuple):
    """What an event is known by. Another partition key's event with the same id is another event."""

    partition_key: str
    event_id: str

    @property
    def identity(self) -> str:
        """One text for both. The key's length says where the id begins, so no other pair has the same text."""
        return f"{len(self.partition_key)}:{self.partition_key}/{self.event_id}"


class WireEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event of a batch. `body` is JSON that is carried as it came, without decoding it on the way."""

    event_id: str
    partition_key: str
    attempt: int  # how often the event has been tried, this time included: 1 at first
    body: msgspec.Raw
    canary: bool = False  # no event but a probe: the store takes a write, the handler's canary runs
    rehearse: bool = False  # no event but a copy of one that is done, to see how long it takes: nothing of it lasts
    suspect: bool = False  # an instance may have died of it: a cell tries one such event at a time
    sent_at_ms: Whole = 0  # when the source queue took its message; 0: not known
    trace_header: str = ""  # its message's AWSTraceHeader
    attributes: dict[str, str] = {}  # its message's, whose type is a String or a Number
    binaries: dict[str, bytes] = {}  # those whose type is Binary; in base64
    types: dict[str, str] = {}  # of the attributes whose type isn't `String`
    trace: str = ""  # the span of this call, as a W3C traceparent, while its router traces it

    @property
    def is_probe(self) -> bool:
        """Whether it is no event to be done, but tries the instance."""
        return self.canary or self.rehearse


class EventBatch(msgspec.Struct, frozen=True):
    """The body of POST /v1/events. A cell answers 409 to another cell's or generation's batch and to an old epoch."""

    cell_id: str
    generation: int
    epoch: int  # of the slot map that the router decided by
    deadline_s: float  # how many seconds the router waits for each event of this batch
    events: list[WireEvent]


MAX_DIGEST_CHARS: Final = 64


class EventResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the reply: the result of the event at `index` of the batch."""

    index: Whole
    outcome: Outcome
    reason: Reason | None = None  # for every outcome but ok; at most MAX_REASON_CHARS
    duplicate: bool = False  # the outcome is ok because an earlier delivery was processed
    other_body: bool = False  # a duplicate by its name, and yet with another body than the one that was processed
    duration_s: float = 0.0  # from the start of the handler to the end of the commit
    waited_s: float = 0.0  # before that, until a place in the worker was free
    begun: bool = True  # False: not begun, since another suspect is tried, or since it is not rehearsed; reason says it
    denied: bool = False  # of a retry: AWS, or whoever else grants rights, denies the cell what the event needs
    emitted: Whole = 0  # lines that its handler emitted, where the outcome is ok and it was not done before
    emitted_digest: Annotated[str, msgspec.Meta(max_length=MAX_DIGEST_CHARS)] = ""  # of what they say


class FaultKind(StrEnum):
    """The kinds of fault that can be injected into an instance."""

    SLOW = "slow"  # events and canaries, at this rate, take delay_s longer, and their handler `factor` times as long
    HANG = "hang"  # no event and no canary gets an answer; lease, health checks and commands go on
    ERRORS = "errors"  # the handler raises at this rate: events are `failed`, canaries `retry`
    GARBAGE = "garbage"  # events are processed, but the reply to a batch has no valid result line
    COMPONENT = "component"  # one component fails its check, events and canaries get `retry`, until it is restarted
    CRASH = "crash"  # the worker kills itself with SIGKILL, immediately


class Fault(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of POST /v1/chaos: one fault to inject. It replaces a running fault of the same kind."""

    kind: FaultKind
    seconds: Annotated[float, msgspec.Meta(ge=0, le=MAX_FAULT_S)] = 60.0  # how long it lasts; 0 ends a running one
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_FAULT_S)] = 0.0
    factor: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 1.0
    rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    component: str = ""


class ComponentHealth(msgspec.Struct, frozen=True):
    """One component in the answer to GET /components. `detail` describes its state for people."""

    name: Id
    healthy: bool
    detail: str = ""


class InstanceRecord(msgspec.Struct, frozen=True):
    """What an instance says of itself in its lease. It is signed, since nobody trusts what lies in Redis."""

    environment: str
    cell_id: Id
    generation: Whole
    instance_id: Id  # no other start of any worker has the same
    address: Id  # host:port
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1000)]  # how many events it works on at once, at most
    started_at_ms: int
    zone: str = ""  # what fails together: an availability zone or a rack
    region: str = ""
    rehearses: bool = False  # its handler can do an event without any effect; else no event with `rehearse` may come


Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=MAX_VITAL_S)]


class Vitals(msgspec.Struct, frozen=True, array_like=True):
    """What an instance measures of itself over some seconds. It is in every heartbeat, so it is an array: 50 bytes."""

    cpus: Annotated[float, msgspec.Meta(gt=0, le=65536)]  # that it may use at once
    cpu: Share  # of these, that its process uses
    waited: Share | None  # of the time, in which it is ready to run and has no core; also because of its quota
    throttled: Share | None  # of the time, in which its CPU quota keeps it from running; None: it has no quota
    lag_s: Seconds  # how late its event loop was at most
    gc: Share  # of the time, in which Python's garbage collector stops it
    write_s: Seconds  # that its store takes to write, on average; 0: it has finished no write
    slowest_write_s: Seconds  # also of writes that are not finished


class Lease(msgspec.Struct, frozen=True):
    """An instance's lease, as it lies in Redis."""

    expires_at_ms: Whole  # by the Redis server's clock
    ready: bool
    record: str  # what sign_record returned
    fenced: Whole = 0  # the instance takes no batch below this epoch and works on none
    beat: Whole = 0  # counts the instance's heartbeats: a copy of an old lease, put back into Redis, counts no further
    proof: str = ""  # what beat_proof returned
    note: Annotated[str, msgspec.Meta(max_length=MAX_NOTE_CHARS)] = ""  # what people should know of it; for them alone
    ended: bool = False  # the instance's last word
    vitals: Vitals | None = None  # None: it has not measured itself yet


LEASE: Final = StrictReader[Lease]("lease", Lease, 64 * 1024)
_instance_record: Final = StrictReader[InstanceRecord]("instance record", InstanceRecord, 16 * 1024)


def sign_record(record: InstanceRecord, key: Key) -> str:
    """Sign a record with the cell's `lease` key: `<proof>.<record as JSON>`."""
    payload = msgspec.json.encode(record)
    return f"{key.proof(payload)}.{payload.decode()}"


def verify_record(signed: str, key: Key) -> InstanceRecord | None:
    """Read a signed record. None when its signature or its shape is not right."""
    proof, _, payload = signed.partition(".")
    if not key.proves(proof, payload.encode()):
        return None
    record = _instance_record.read(payload.encode())
    return None if isinstance(record, Unreadable) else record


def beat_proof(lease: Lease, key: Key) -> str:
    """Sign what an instance says in a heartbeat. The lease's end is left out: Redis decides it."""
    return key.proof(_said_in_beat(lease))


def is_proven(lease: Lease, key: Key) -> bool:
    """Whether who has written a lease has the cell's `lease` key."""
    return key.proves(lease.proof, _said_in_beat(lease))


def redis_key(environment: str, name: str) -> str:
    """The full name of a Redis key. All keys of an environment share a hash tag, so that one script may use several."""
    return f"cellrouter:{{{environment}}}:{name}"


def instance_name(cell_id: str, generation: int) -> str:
    """The name of an instance: `<cell>/<generation>`. A call is proven for the one that it names."""
    return f"{cell_id}/{generation}"


def lease_field(instance: str, key: Key) -> str:
    """The field that an instance's lease has in the Redis hash `leases`: `<cell>/<generation>/<tag>`.

    The tag follows from the cell's `lease` key. A cell may list no fields there, so it can neither find another cell's
    lease nor write over it.
    """
    return f"{instance}/{key.proof(_said_in_field(instance))}"


def instance_of_field(field: str) -> str:
    """The name of the instance whose lease a field is for, without the tag, which is nobody's business."""
    return field.rpartition("/")[0]


def is_lease_field(field: str, key: Key) -> bool:
    """Whether a field is that of a lease of the cell which has this `lease` key."""
    instance, _, tag = field.rpartition("/")
    return key.proves(tag, _said_in_field(instance))


def resource_name(prefix: str, environment: str, cell_id: str) -> str:
    """The name of a cell's own Firehose stream, which its own S3 bucket and its table in DynamoDB have too."""
    return f"{prefix}-{environment}-{cell_id}"


def table_name(resources: str, name: str) -> str:
    """The name in DynamoDB of a table of a cell's own, beside its store; `resources` is the name of its bucket."""
    return f"{resources}-{name}"


def hold_queue_name(prefix: str, environment: str, cell_id: str) -> str:
    """The name of a cell's hold queue in SQS."""
    return f"{resource_name(prefix, environment, cell_id)}-hold"


def _said_in_field(instance: str) -> bytes:
    return f"field/{instance}".encode(errors="replace")  # neither a record nor a heartbeat begins so


def _said_in_beat(lease: Lease) -> bytes:
    said = f"{lease.record}/{lease.beat}/{lease.ready}/{lease.fenced}/{lease.ended}/{lease.note}".encode()
    # In front, since a note may say anything, and no record begins so.
    return said if lease.vitals is None else b"vitals/" + msgspec.json.encode(lease.vitals) + b"/" + said
