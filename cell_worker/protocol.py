"""The wire contract between routers, controllers and cells: paths, messages, records, Redis key names.

Both sides import this module and nothing else of each other: what is written here is what is sent.

A batch of events travels as one POST; its results come back as one line of JSON each (application/x-ndjson), in
the order in which they finish. A batch is a transport unit: whatever has no result line when the reply ends
has the outcome `retry`.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from typing import Annotated, Final

import msgspec

EVENTS_PATH: Final = "/v1/events"
DRAIN_PATH: Final = "/v1/drain"
COMPONENT_RESTART_PATH: Final = "/v1/components/{name}/restart"
CHAOS_PATH: Final = "/v1/chaos"
HEALTHZ_PATH: Final = "/healthz"
READYZ_PATH: Final = "/readyz"
COMPONENTS_PATH: Final = "/components"
METRICS_PATH: Final = "/metrics"

MAX_BATCH_EVENTS: Final = 50
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""A whole request body. An SQS message is at most 1 MiB, so several of the largest still fit in one batch."""
MAX_REASON_CHARS: Final = 2000
MAX_RESULT_LINE_BYTES: Final = 16 * 1024
"""No honest result line is longer: a reason is cut at MAX_REASON_CHARS."""
MAX_FAULT_S: Final = 600.0
"""No injected fault lasts longer."""


class Outcome(StrEnum):
    """What became of one event in the cell."""

    OK = "ok"
    RETRY = "retry"  # infrastructure: try again, never counts as poison
    FAILED = "failed"  # the handler raised: counts as an attempt
    REJECTED = "rejected"  # can never succeed: to the dead-letter queue


class WireEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event in a batch. `body` is JSON, carried as it came, not decoded in between."""

    event_id: str
    partition_key: str
    attempt: int  # from 1; how often the handler has been asked, this time included
    body: msgspec.Raw
    canary: bool = False  # not handled: the store takes a write, the handler tries its way; it waits for no free place


class EventBatch(msgspec.Struct, frozen=True):
    """The body of POST /v1/events. A cell answers 409 when cell or generation are not its own, or the epoch is old."""

    cell_id: str
    generation: int
    epoch: int  # of the slot map that the router decided by
    deadline_s: float  # seconds the router will wait for each event of this batch
    events: list[WireEvent]


class EventResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the reply: the result of the event at `index` of the batch."""

    index: int
    outcome: Outcome
    reason: str = ""  # why, for every outcome but ok; at most MAX_REASON_CHARS
    duplicate: bool = False  # ok, because an earlier delivery had been processed already
    duration_s: float = 0.0
    waited_s: float = 0.0  # for a free place in the worker, before its handler began; not part of duration_s


class FaultKind(StrEnum):
    """What can be injected."""

    SLOW = "slow"  # every event and canary takes delay_s longer, and its handler `factor` times as long
    HANG = "hang"  # no event and no canary gets an answer; leases, health and commands go on
    ERRORS = "errors"  # handlers raise at this rate: events are `failed`, canaries `retry`
    GARBAGE = "garbage"  # replies to batches have no valid result lines, though the events are processed
    COMPONENT = "component"  # its check fails, events and canaries are answered `retry`; a restart of it mends it
    CRASH = "crash"  # SIGKILL, at once


class Fault(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of POST /v1/chaos. Another of the same kind replaces it."""

    kind: FaultKind
    seconds: Annotated[float, msgspec.Meta(ge=0, le=MAX_FAULT_S)] = 60.0  # then it ends by itself; 0: ends it now
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_FAULT_S)] = 0.0
    factor: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 1.0
    rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    component: str = ""


class ComponentHealth(msgspec.Struct, frozen=True):
    """One entry of GET /components."""

    name: str
    healthy: bool
    detail: str = ""


class InstanceRecord(msgspec.Struct, frozen=True):
    """What an instance says of itself in its lease. Signed: Redis' contents are not trusted."""

    environment: str
    cell_id: str
    generation: int
    instance_id: str  # unique to one start of one worker
    address: str  # host:port
    concurrency: int  # events it works on at once
    started_at_ms: int
    zone: str = ""  # what it shares its fate with: an availability zone, a rack
    region: str = ""


class Lease(msgspec.Struct, frozen=True):
    """An instance's lease as stored in Redis."""

    expires_at_ms: int  # by the Redis server's clock
    ready: bool
    record: str  # signed_record(...)
    fenced: int = 0  # the epoch below which it takes no batch, and has none left
    beat: int = 0  # counts the heartbeats of one instance: an old lease put back doesn't count on
    proof: str = ""  # beat_proof(...)


def sign_record(record: InstanceRecord, secret: str) -> str:
    """`<hex HMAC-SHA256>.<record as JSON>`."""
    payload = msgspec.json.encode(record)
    return f"{_mac(payload, secret)}.{payload.decode()}"


def verify_record(signed: str, secret: str) -> InstanceRecord | None:
    """The record, or None when the signature or the shape is not right."""
    mac, _, payload = signed.partition(".")
    if not hmac.compare_digest(mac.encode(), _mac(payload.encode(), secret).encode()):
        return None
    try:
        return msgspec.json.decode(payload, type=InstanceRecord)
    except msgspec.DecodeError:
        return None


def beat_proof(lease: Lease, secret: str) -> str:
    """What only the instance can say of a lease; without its end, which Redis' clock decides."""
    return _mac(f"{lease.record}/{lease.beat}/{lease.ready}/{lease.fenced}".encode(), secret)


def bearer(secret: str) -> str:
    """The Authorization header's value."""
    return f"Bearer {secret}"


def authorized(header: str | None, secret: str) -> bool:
    """Whether an Authorization header carries the environment's secret; takes the same time for every wrong one."""
    return header is not None and hmac.compare_digest(header.encode(), bearer(secret).encode())


def redis_key(environment: str, name: str) -> str:
    """A Redis key. All of an environment share its hash tag, so that one Lua script may touch several in a cluster."""
    return f"cellrouter:{{{environment}}}:{name}"


def lease_field(cell_id: str, generation: int) -> str:
    """The field of an instance's lease in the hash `leases`."""
    return f"{cell_id}/{generation}"


def resource_name(prefix: str, environment: str, cell_id: str) -> str:
    """The name of what a cell owns in AWS: its Firehose stream and its bucket."""
    return f"{prefix}-{environment}-{cell_id}"


def hold_queue_name(prefix: str, environment: str, cell_id: str) -> str:
    """The name of the cell's hold queue."""
    return f"{resource_name(prefix, environment, cell_id)}-hold"


def _mac(payload: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
