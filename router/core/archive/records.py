"""What the archive says of an event: one line of JSON, as docs/reference/archive.md describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from router.core.models import Death, Event, Origin, Outcome, Result
from router.core.slot_map.slots import slot_of

OVERHEAD_BYTES: Final = 800
"""What an event takes in memory beside its body, roughly: its own fields, and its names."""
NO_RESULT: Final = Result(0, Outcome.FAILED)
_OK: Final = Outcome.OK
_NEWLINE, _RETURN = b"\n\r"
_NO_ORIGIN: Final = Origin()
_encoder: Final = msgspec.json.Encoder()


class ArchivedEvent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An event that has come to its end. Times are in ms since 1970, by the router's clock but for `sent_at_ms`."""

    event_id: str
    partition_key: str
    slot: int
    outcome: Outcome  # ok, failed or rejected
    cell: str  # that had it last
    generation: int  # of the instance that had it last; 0: none had
    ended_at_ms: int  # when its end was known: its cell's answer, or that the dead-letter queue has it
    received_at_ms: int  # the last time
    sent_at_ms: int = 0  # by the producer, as its queue says; 0: not known
    dispatched_at_ms: int = 0  # to its cell, the last time; 0: never
    latency_s: float = 0.0  # from dispatch to answer
    attempt: int = 1
    duplicate: bool = False  # its cell had processed it before
    emitted: int = 0  # lines that its handler emitted
    emitted_digest: str = ""  # of what they say
    dead_letter: str = ""  # why it lies in the dead-letter queue; empty: it does not
    error: str = ""  # a sentence for people, of a dead letter
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # as it came, where it is an object on one line
    body_text: str = ""  # as it came, where it is not; neither with a pointer
    pointer: str = ""  # the S3 pointer to the body, where that was too large for a message
    message_id: str = ""  # of the message that brought it first
    group_id: str = ""
    dedup_id: str = ""
    trace_header: str = ""
    whole: bool = False  # the body was all of its message's
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    types: Mapping[str, str] = msgspec.field(default_factory=dict)
    binaries: Mapping[str, bytes] = msgspec.field(default_factory=dict)


class EndedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event at its end, with all that its record is made of. It is made for each event, so it copies nothing."""

    event: Event
    cell: str
    generation: int
    received_at: float  # monotonic seconds, as the next two
    sent_at: float  # to its cell; 0.0: never
    ended_at: float
    result: Result  # of its last attempt; of a dead one it says nothing
    death: Death | None = None


def record_of(ended: EndedEvent, zero_ms: float) -> ArchivedEvent:
    """Return what the archive says of an event; `zero_ms` is when monotonic time began, in ms since 1970."""
    event, result, death, sent_at = ended.event, ended.result, ended.death, ended.sent_at
    origin, raw, pointer = event.origin or _NO_ORIGIN, event.body, event.pointer
    # By their numbers, which is five times as quick.
    embeds = not pointer and raw[:1] == b"{" and raw[-1:] == b"}" and _NEWLINE not in raw and _RETURN not in raw
    return ArchivedEvent(
        event.event_id,
        event.partition_key,
        slot_of(event.partition_key),
        _OK if death is None else _outcome_of(death),
        ended.cell,
        ended.generation,
        int(zero_ms + ended.ended_at * 1000),
        int(zero_ms + ended.received_at * 1000),
        origin.sent_at_ms,
        int(zero_ms + sent_at * 1000) if sent_at else 0,
        int((ended.ended_at - sent_at) * 1e6) / 1e6 if sent_at and death is None else 0.0,
        event.attempt,
        result.duplicate,
        result.emitted,
        result.emitted_digest,
        death.reason.value if death else "",
        death.error.encode("utf-8", "backslashreplace").decode() if death else "",  # it may be no text
        msgspec.Raw(raw) if embeds else msgspec.UNSET,
        "" if embeds or pointer else raw.decode(),
        pointer,
        origin.message_id,
        origin.group_id,
        origin.dedup_id,
        origin.trace_header,
        origin.whole,
        origin.attributes,
        origin.types,
        origin.binaries,
    )


def body_of(record: ArchivedEvent) -> bytes:
    """Return the body of an archived event as it came; empty where it lies in S3."""
    return record.body_text.encode() if record.body is msgspec.UNSET else bytes(record.body)


def _outcome_of(death: Death) -> Outcome:
    return Outcome.REJECTED if death.reason.value == Outcome.REJECTED.value else Outcome.FAILED


def lines_of(records: Sequence[ArchivedEvent]) -> bytes:
    """Write records as JSON, one a line, each line with its end."""
    return _encoder.encode_lines(records)
