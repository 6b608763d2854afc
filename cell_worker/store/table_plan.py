"""Puts commits together into one transaction of DynamoDB. Nothing here calls anything."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from cell_worker.contract.protocol import EventName
from cell_worker.store.store import REMEMBER_S
from cell_worker.store.table_items import (
    FENCE,
    KEY,
    MAX_CHUNK_LINES,
    FenceItem,
    Item,
    body_of,
    chunk_item_id,
    done_item_id,
    key_of,
    number,
)

MAX_ITEMS: Final = 100
"""DynamoDB takes no more items in one transaction."""
MAX_BYTES: Final = 2_500_000
"""The most bytes of lines in one transaction. DynamoDB takes 4 MB; in JSON, as base64, they are a third more."""
INLINE_BYTES: Final = 32 * 1024
"""An event with more bytes of lines has them in the bucket.

DynamoDB takes items of 400 KB, but each KB costs three units of writing, and the outbox is read 99 chunks at a time.
"""
STORED_BYTES: Final = 1_000_000
"""The most bytes of one object in the bucket, unless a single line is longer."""
MAX_STORED: Final = 90
"""The most objects of one event: with its id and the fence they fit into one transaction."""
_LINE_OVERHEAD: Final = 5  # bytes for each line's length


@dataclass(frozen=True, slots=True)
class StoredBody:
    """The body of a chunk in the cell's bucket, and how many lines it has."""

    key: str
    lines: int


@dataclass(frozen=True, slots=True)
class Commit:
    """An event that is done, with its lines: few enough for the table, or stored in the bucket before."""

    event: EventName
    digest: bytes = b""
    lines: Sequence[bytes] = ()
    stored: Sequence[StoredBody] = ()


def size_of(lines: Sequence[bytes]) -> int:
    """Return how many bytes the lines take in a chunk."""
    return sum(map(len, lines)) + _LINE_OVERHEAD * len(lines)


def is_small(lines: Sequence[bytes]) -> bool:
    """Whether an event's lines are few enough for the table."""
    return len(lines) <= MAX_CHUNK_LINES and size_of(lines) <= INLINE_BYTES


def for_bucket(lines: Sequence[bytes]) -> list[list[bytes]]:
    """Divide an event's lines into bodies for the bucket. Raises ValueError when they are too many for one event."""
    bodies: list[list[bytes]] = []
    room = 0
    for line in lines:
        room -= size_of([line])
        if room < 0 or len(bodies[-1]) >= MAX_CHUNK_LINES:
            bodies.append([])
            room = STORED_BYTES - size_of([line])
        bodies[-1].append(line)
    if len(bodies) > MAX_STORED:
        most = f"{MAX_STORED} times {STORED_BYTES} bytes or {MAX_CHUNK_LINES} lines"
        raise ValueError(f"an event left {len(lines)} lines, more than fit into one transaction: at most {most}")
    return bodies


class Plan:
    """The first commits of a sequence, as many as fit into one transaction, and the chunks that their lines make."""

    def __init__(self, commits: Sequence[Commit]) -> None:
        self.commits: dict[EventName, Commit] = {}  # of the same event twice, the first
        self.fitting = 0
        self._chunks: list[list[bytes] | StoredBody] = []
        self._bytes = self._room = 0
        for commit in commits:
            if not self._add(commit):
                break
            self.fitting += 1

    def _add(self, commit: Commit) -> bool:
        if commit.event in self.commits:
            return True
        size = size_of(commit.lines)
        opens = bool(commit.lines) and not self._fits_into_last(commit, size)
        items = 1 + len(self.commits) + 1 + len(self._chunks) + opens + len(commit.stored)
        if items > MAX_ITEMS or self._bytes + size > MAX_BYTES:
            return False
        self.commits[commit.event] = commit
        self._bytes += size
        if opens:
            self._chunks.append([])
            self._room = INLINE_BYTES
        if commit.lines:
            last = self._chunks[-1]
            assert isinstance(last, list), "a new one was opened after a stored one"
            last.extend(commit.lines)
            self._room -= size
        self._chunks.extend(commit.stored)
        return True

    def _fits_into_last(self, commit: Commit, size: int) -> bool:
        last = self._chunks[-1] if self._chunks else None
        return isinstance(last, list) and size <= self._room and len(last) + len(commit.lines) <= MAX_CHUNK_LINES

    def without(self, indexes: Collection[int]) -> Plan:
        """Make the plan of all commits but those whose items have these indexes in the transaction."""
        return Plan([commit for index, commit in enumerate(self.commits.values(), start=1) if index not in indexes])

    def after(self, fence: FenceItem, nonce: str) -> FenceItem:
        """Return what the fence says once this plan is written."""
        lines = sum(chunk.lines if isinstance(chunk, StoredBody) else len(chunk) for chunk in self._chunks)
        return FenceItem(fence.generation, nonce, fence.tail + len(self._chunks), fence.added + lines)

    def items(self, table: str, fence: FenceItem, nonce: str, now_s: int) -> list[Item]:
        """Return the transaction's items: the fence, then every event, then the chunks."""
        events = [self._done(table, commit, fence.generation, now_s) for commit in self.commits.values()]
        chunks = [
            {"Put": {"TableName": table, "Item": _chunk_item(fence.tail + index, chunk)}}
            for index, chunk in enumerate(self._chunks, start=1)
        ]
        return [self._past_fence(table, fence, nonce), *events, *chunks]

    def _past_fence(self, table: str, fence: FenceItem, nonce: str) -> Item:
        """Nobody has taken the store and nobody has committed since `fence` was read: else nothing is written."""
        after = self.after(fence, nonce)
        values = {
            ":generation": number(fence.generation),
            ":tail": number(fence.tail),
            ":new": number(after.tail),
            ":added": number(after.added),
            ":nonce": {"S": nonce},
        }
        return {
            "Update": {
                "TableName": table,
                "Key": key_of(FENCE),
                "UpdateExpression": "SET nonce = :nonce, tail = :new, added = :added",
                "ConditionExpression": "generation = :generation AND tail = :tail",
                "ExpressionAttributeValues": values,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    @staticmethod
    def _done(table: str, commit: Commit, generation: int, now_s: int) -> Item:
        item = key_of(done_item_id(commit.event)) | {"digest": {"B": commit.digest}}
        return {
            "Put": {
                "TableName": table,
                "Item": item | {"generation": number(generation), "expires": number(now_s + REMEMBER_S)},
                "ConditionExpression": f"attribute_not_exists({KEY}) OR expires <= :now",
                "ExpressionAttributeValues": {":now": number(now_s)},
            }
        }


def _chunk_item(chunk: int, content: list[bytes] | StoredBody) -> Item:
    key = key_of(chunk_item_id(chunk))
    if isinstance(content, StoredBody):
        return key | {"stored_at": {"S": content.key}}
    return key | {"body": {"B": body_of(content)}}
