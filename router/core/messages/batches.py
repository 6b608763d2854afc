"""How many messages one SQS batch call takes, and how longer lists are cut for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

BATCH: Final = 10  # the most entries that an SQS batch call takes


def chunks(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts of `size` items, in order; the last part may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
