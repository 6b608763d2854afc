"""An envelope that is too long for one message, cut into parts of which each is a message, and put together again.

The parts of one envelope name it alike, by a hash of what it holds: what is sent a second time fits what was sent
before. They come in any order, and some perhaps twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

import msgspec

from router.core.models import MAX_MESSAGE_BYTES, Draft, Message

MAX_PARTS: Final = 8192  # in the smallest messages that a queue can be set to
_BEGINS: Final = '{"part":'
_ID_CHARS: Final = 32
_Number = Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]


class EnvelopePart(msgspec.Struct, frozen=True):
    """The body of a message that holds a part of an envelope."""

    part: _Number
    parts: _Number
    letter: Annotated[str, msgspec.Meta(min_length=_ID_CHARS, max_length=_ID_CHARS)]
    data: str


_part: Final = msgspec.json.Decoder(EnvelopePart)


class Whole(NamedTuple):
    """An envelope of which every part was found: the messages that hold them, and the data in its order."""

    messages: tuple[Message, ...]
    data: str


def cut(data: str, attributes: Mapping[str, str], max_bytes: int) -> list[Draft]:
    """Cut ASCII text into messages of at most `max_bytes`, each with these attributes."""
    letter = hashlib.sha256(data.encode()).hexdigest()[:_ID_CHARS]
    room = (
        min(max_bytes, MAX_MESSAGE_BYTES)
        - Draft(_text(EnvelopePart(MAX_PARTS, MAX_PARTS, letter, "")), attributes).size
    )
    chunks = [data[start : start + room] for start in range(0, len(data), room)]
    return [
        Draft(_text(EnvelopePart(number, len(chunks), letter, chunk)), attributes)
        for number, chunk in enumerate(chunks, 1)
    ]


def part_in(message: Message) -> EnvelopePart | None:
    """Return the part of an envelope that a message holds; None for any other message."""
    if not message.body.startswith(_BEGINS):
        return None
    try:
        found = _part.decode(message.body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return found if found.part <= found.parts else None


class Parts:
    """Parts of envelopes that wait for the others."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], list[tuple[Message, EnvelopePart]]] = {}

    def add(self, message: Message, part: EnvelopePart) -> Whole | None:
        """Take in a part, and return the envelope when it was the last one."""
        name = part.letter, part.parts
        found = self._found.setdefault(name, [])
        found.append((message, part))
        data = {each.part: each.data for _, each in found}
        if len(data) < part.parts:
            return None
        del self._found[name]
        return Whole(tuple(each for each, _ in found), "".join(data[number] for number in sorted(data)))

    def left(self) -> list[tuple[Message, EnvelopePart]]:
        """Take out the parts of which others are missing."""
        left = [each for found in self._found.values() for each in found]
        self._found.clear()
        return left


def _text(part: EnvelopePart) -> str:
    return msgspec.json.encode(part).decode()
