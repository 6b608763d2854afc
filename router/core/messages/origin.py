"""What came beside an event's body (attributes, trace, time of sending), and how a held message carries it, or a death.

SQS takes ten attributes and a router has some of its own to write, so all of it lies in one, compressed. A body that
SQS wouldn't take as it is, because of its length or of a character, lies in another one, and how the event died in a
third. They are binary attributes, of which SQS counts each byte once.
"""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec
from msgspec.structs import replace

from router.core.errors import MalformedMessageError
from router.core.messages.proofs import ATTEMPT, DEATH, OURS
from router.core.messages.sqs_text import is_sendable
from router.core.messages.wrapping import attributes_in
from router.core.models import MAX_MESSAGE_BYTES, MAX_WHOLE, Death, Draft, Event, Message, Origin

ORIGIN: Final = f"{OURS}origin"
BODY: Final = f"{OURS}body"
_STRING, _BINARY = "String", "Binary"
_SNS: Final = '"MessageAttributes"'
_IN_ATTRIBUTE: Final = "{}"  # what stands for a body that lies in an attribute, since SQS takes no empty one
_NAMES: Final = ("event_id", "partition_key")
_MAX_ORIGIN_BYTES: Final = MAX_MESSAGE_BYTES + 64 * 1024  # unpacked: all that a message can bring, and lengths
_MAX_DEATH_BYTES: Final = 64 * 1024  # unpacked: far more than its error may have
_origin: Final = msgspec.msgpack.Decoder(Origin)
_death: Final = msgspec.msgpack.Decoder(Death)


def origin_of(message: Message, events: Sequence[Event] = ()) -> Origin:
    """Return what came beside the body of the message that was first sent, which a held message carries with it.

    `events` are those of the message. Raises MalformedMessageError when what it carries can't be read.
    """
    if ATTEMPT in message.attributes:
        packed = message.binaries.get(ORIGIN)
        return _of_message(_without_ours(message), whole=False) if packed is None else _unpacked_origin(packed)
    whole = len(events) == 1 and _is_whole(events[0], message)
    return _of_message(message if whole or _SNS not in message.body else _with_attributes_of_sns(message), whole=whole)


def with_origin(draft: Draft, origin: Origin | None) -> Draft:
    """Return the held message with what came beside its event's body."""
    return draft if origin is None else _with_binary(draft, ORIGIN, msgspec.msgpack.encode(origin))


def with_death(draft: Draft, death: Death | None) -> Draft:
    """Return the held message with how its event died."""
    if death is None:
        return draft
    error = death.error.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair is no text
    return _with_binary(draft, DEATH, msgspec.msgpack.encode(replace(death, error=error)))


def death_of(message: Message) -> Death | None:
    """Return how the event of a held message died; None while it lives. Raises MalformedMessageError."""
    packed = message.binaries.get(DEATH)
    if packed is None:
        return None
    try:
        return _death.decode(_inflated(packed, _MAX_DEATH_BYTES))
    except (zlib.error, ValueError, RecursionError) as error:
        raise MalformedMessageError(f"the attribute {DEATH} can't be read: {error}") from error


def with_body_in_attribute(draft: Draft) -> Draft:
    """Return the held message with its body compressed in an attribute, where every body may lie."""
    return replace(_with_binary(draft, BODY, draft.body.encode()), body=_IN_ATTRIBUTE)


def body_of(message: Message) -> str:
    """Return the body of a held message, wherever it lies. Raises MalformedMessageError."""
    packed = message.binaries.get(BODY)
    if packed is None or message.pointer:
        return message.body
    try:
        return _inflated(packed, MAX_MESSAGE_BYTES).decode()
    except (zlib.error, ValueError) as error:
        raise MalformedMessageError(f"the attribute {BODY} holds no body: {error}") from error


def _unpacked_origin(packed: bytes) -> Origin:
    try:
        found = _origin.decode(_inflated(packed, _MAX_ORIGIN_BYTES))
    except (zlib.error, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise MalformedMessageError(f"the attribute {ORIGIN} can't be read: {error}") from error
    texts = (*found.attributes.values(), *found.attributes, *found.types.values(), found.trace_header)
    if not all(map(is_sendable, texts)):  # on their way to a cell some of these characters take six times their bytes
        raise MalformedMessageError(f"the attribute {ORIGIN} holds what no message can bring")
    return found


def _of_message(message: Message, *, whole: bool) -> Origin:
    return Origin(
        message.message_id,
        message.sent_at_ms if 0 <= message.sent_at_ms <= MAX_WHOLE else 0,
        message.attributes,
        message.types,
        message.binaries,
        message.trace_header,
        message.group_id or "",
        message.dedup_id or "",
        whole,
    )


def _with_attributes_of_sns(message: Message) -> Message:
    """The message as if SNS had delivered it raw: what is in the wrapping is beside the body then."""
    texts, binaries, types = dict(message.attributes), dict(message.binaries), dict(message.types)
    for name, found in attributes_in(message.body.encode()).items():
        if name in texts or name in binaries or not all(map(is_sendable, (name, found.Type, found.Value))):
            continue
        if found.Type != _STRING:
            types[name] = found.Type
        if found.Type.startswith(_BINARY):
            with suppress(ValueError):
                binaries[name] = b64decode(found.Value, validate=True)
        else:
            texts[name] = found.Value
    return replace(message, attributes=texts, binaries=binaries, types=types)


def _is_whole(event: Event, message: Message) -> bool:
    """Whether an event is all of its message's body; one that is a part of it has fewer bytes."""
    if event.pointer:
        return True
    body = message.body
    return len(event.body) == (len(body) if body.isascii() else len(body.encode("utf-8", "surrogatepass")))


def _without_ours(message: Message) -> Message:
    """A held message without what the router has written, as far as that is known."""

    def left(given: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in given.items() if not name.startswith(OURS) and name not in _NAMES}

    binaries = {name: value for name, value in message.binaries.items() if not name.startswith(OURS)}
    group = message.group_id if message.dedup_id is not None else None  # on a standard queue the router has named it
    attributes, types = left(message.attributes), left(message.types)
    return replace(message, attributes=attributes, types=types, binaries=binaries, group_id=group)


def _with_binary(draft: Draft, name: str, raw: bytes) -> Draft:
    types, binaries = {**draft.types, name: _BINARY}, {**draft.binaries, name: zlib.compress(raw)}
    return replace(draft, types=types, binaries=binaries)


def _inflated(packed: bytes, max_bytes: int) -> bytes:
    inflate = zlib.decompressobj()
    raw = inflate.decompress(packed, max_bytes)
    if not inflate.eof and inflate.decompress(inflate.unconsumed_tail, 1):
        raise ValueError(f"it has more than {max_bytes} bytes")
    if not inflate.eof:
        raise ValueError("it is cut short")
    return raw
