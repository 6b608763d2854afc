"""The items of a cell's table in DynamoDB, as they are written and as they are read. Nothing here calls anything.

The table has one key, the string `id`:

| id | attributes |
|---|---|
| `fence` | `generation` that has the store; of its newest commit: `nonce`, `tail` (the newest chunk), `added` (lines) |
| | `keyed`, the last generation that took the store and knows keys; `by_id_until`, when items by id alone end |
| `outbox` | `generation` that delivers; `head`, the first chunk never looked into; `kept`, those before it; `deleted` |
| `instances` | `generation`, the highest that has ever opened the store; `writes`, how often it was checked |
| `done/IDENTITY` | an event that is done: `generation`, `digest` of its body; `expires`, when DynamoDB deletes it |
| `event/ID` | an event that is done by its id alone, as older versions wrote it |
| `lines/NUMBER` | a chunk of the outbox: its `body`, or `stored_at` in the bucket; `gone`, its delivered lines |
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cell_worker.contract.protocol import EventName
from cell_worker.contract.strict_reader import MAX_WHOLE
from cell_worker.store.store import REMEMBER_S, Done, StoreError

Item = dict[str, Any]
"""An item, or an attribute's value, as DynamoDB's API has it."""

KEY: Final = "id"
FENCE: Final = "fence"
OUTBOX: Final = "outbox"
INSTANCES: Final = "instances"
MAX_ID_BYTES: Final = 1000
"""Of a longer identity the table has the hash. DynamoDB takes keys of 2048 bytes; up to 1 KB is one unit of writing."""
MAX_CHUNK_LINES: Final = 2000
MAX_DIGITS: Final = 20  # of a number; MAX_WHOLE has 16
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
"""No honest chunk is longer: the bucket takes bodies of about 1 MB."""
_INDEX_BITS: Final = 20  # in a line's number; above them is the number of its chunk
_encode_body: Final = msgspec.msgpack.Encoder().encode
_decode_body: Final = msgspec.msgpack.Decoder(list[bytes]).decode


class MalformedItemError(StoreError):
    """Something lies in the cell's table or bucket that no store of a cell has written, or what it wrote is missing."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"the cell's store: {what} {why}: docs/how-to/repair-a-store.md says how to mend it")


def key_of(item_id: str) -> Item:
    """Return the key of the item with this id."""
    return {KEY: {"S": item_id}}


def number(value: int) -> Item:
    """Return a number as an attribute's value."""
    return {"N": str(value)}


def numbers(values: Iterable[int]) -> Item:
    """Return a set of numbers, of which there is one at least, as an attribute's value."""
    return {"NS": [str(value) for value in values]}


def done_item_id(event: EventName) -> str:
    """Return the id of the item that says that this event is done."""
    return _item_id("done", event.identity)


def by_id_item_id(event: EventName) -> str:
    """Return the id of the item by which an older version said that it is done."""
    return _item_id("event", event.event_id)


def _item_id(kind: str, name: str) -> str:
    raw = name.encode()
    return f"{kind}/{name}" if len(raw) <= MAX_ID_BYTES else f"{kind}#{hashlib.sha256(raw).hexdigest()}"


def chunk_item_id(chunk: int) -> str:
    """Return the id of the item with the chunk of this number. So each chunk may lie in a partition of its own."""
    return f"lines/{chunk}"


def line_number(chunk: int, index: int) -> int:
    """Return the number in the outbox of the line at this index of a chunk."""
    return (chunk << _INDEX_BITS) | index


def chunk_of(line: int) -> int:
    """Return the number of the chunk that a line is in, by the line's number."""
    return line >> _INDEX_BITS


def body_of(lines: Sequence[bytes]) -> bytes:
    """Encode the lines of a chunk."""
    return _encode_body(list(lines))


def read_body(what: str, raw: object) -> list[bytes]:
    """Decode the lines of a chunk. Raises MalformedItemError that names `what` holds them."""
    if not isinstance(raw, bytes) or len(raw) > MAX_BODY_BYTES:
        raise MalformedItemError(what, "has no lines, or too many bytes of them")
    try:
        lines = _decode_body(raw)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise MalformedItemError(what, f"has lines that can't be read ({error})") from error
    if not 0 < len(lines) <= MAX_CHUNK_LINES:
        raise MalformedItemError(what, f"has {len(lines)} lines")
    return lines


def whole(item: Item, name: str) -> int:
    """Read a whole number; one that is not there is 0. Raises MalformedItemError."""
    found = item.get(name, {"N": "0"})
    match found:
        case {"N": str(digits)} if digits.isascii() and digits.isdigit() and len(digits) < MAX_DIGITS:
            if (value := int(digits)) <= MAX_WHOLE:
                return value
    raise MalformedItemError(f"an item's {name}", "is no whole number")


def _wholes(item: Item, name: str) -> frozenset[int]:
    match item.get(name, {"NS": []}):
        case {"NS": [*found]}:
            return frozenset(whole({name: {"N": each}}, name) for each in found)
    raise MalformedItemError(f"an item's {name}", "is no set of whole numbers")


def text(item: Item, name: str) -> str:
    """Read a string; one that is not there is empty. Raises MalformedItemError."""
    match item.get(name, {"S": ""}):
        case {"S": str(found)}:
            return found
    raise MalformedItemError(f"an item's {name}", "is no string")


def as_item(found: object) -> Item:
    """Take what was found for an item; where nothing was, an empty one. Raises MalformedItemError."""
    if found is None:
        return {}
    if isinstance(found, dict):
        return found
    raise MalformedItemError("an item", "is none")


@dataclass(frozen=True, slots=True)
class FenceItem:
    """Which generation has the store, and what its newest commit has left."""

    generation: int = 0
    nonce: str = ""
    tail: int = 0
    added: int = 0

    @classmethod
    def read(cls, found: object) -> FenceItem:
        """Read the item; where there is none, nobody has taken the store. Raises MalformedItemError."""
        item = as_item(found)
        return cls(whole(item, "generation"), text(item, "nonce"), whole(item, "tail"), whole(item, "added"))


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """How far the outbox is delivered: up to `head`, but for the chunks in `kept`."""

    head: int = 1
    kept: tuple[int, ...] = ()
    deleted: int = 0

    @classmethod
    def read(cls, found: object) -> OutboxItem:
        """Read the item; where there is none, nothing was ever delivered. Raises MalformedItemError."""
        item = as_item(found)
        head, kept = max(1, whole(item, "head")), sorted(_wholes(item, "kept"))
        return cls(head, tuple(chunk for chunk in kept if chunk < head), whole(item, "deleted"))

    def left(self, tail: int, start: int, most: int) -> list[int]:
        """The chunks that may have lines, the oldest first: at most so many, after the first `start` of them."""
        kept = list(self.kept[start : start + most])
        first = self.head + max(0, start - len(self.kept))
        return kept + list(range(first, min(tail + 1, first + most - len(kept))))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines of the outbox that were written together, and which of them were delivered since, by their indexes."""

    number: int
    lines: Sequence[bytes]
    gone: frozenset[int]
    stored_at: str = ""

    def waiting(self) -> list[int]:
        """The indexes of the lines that were not delivered."""
        return [index for index in range(len(self.lines)) if index not in self.gone]

    def kept(self, last: int, keep: Collection[int]) -> list[int]:
        """The indexes that stay when lines up to number `last` are deleted, but not those in `keep`."""
        numbered = ((index, line_number(self.number, index)) for index in self.waiting())
        return [index for index, line in numbered if line > last or line in keep]


def gone_of(item: Item) -> frozenset[int]:
    """Read which lines of a chunk were delivered. Raises MalformedItemError."""
    return _wholes(item, "gone")


def done_of(item: Item, now_s: int) -> Done | None:
    """Read an event's item, if it still counts: DynamoDB deletes it some days too late. Raises MalformedItemError."""
    if not item or whole(item, "expires") <= now_s:
        return None
    match item.get("digest", {"B": b""}):
        case {"B": bytes(digest)}:
            return Done(digest)
    raise MalformedItemError("an item's digest", "is no bytes")


def by_id_until(fence: object, now_s: int) -> int:
    """Until when, in seconds since 1970, items by id alone may count, by the fence as a taker finds it.

    A new table has none. When an older version has had the store last, it may have left some a moment ago. Raises
    MalformedItemError.
    """
    item = as_item(fence)
    if not item:
        return 0
    return whole(item, "by_id_until") if whole(item, "keyed") == whole(item, "generation") else now_s + REMEMBER_S
