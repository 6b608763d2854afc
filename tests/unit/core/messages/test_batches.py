"""Lists are cut into what one SQS call takes."""

from __future__ import annotations

from router.core.messages.batches import BATCH, chunks


def test_parts_are_full_but_for_the_last_and_in_order() -> None:
    """Ten entries fit in a call unless another size is asked for."""
    assert list(chunks("abcdefg", 3)) == ["abc", "def", "g"]
    assert [len(part) for part in chunks(range(25))] == [BATCH, BATCH, 5]


def test_nothing_gives_no_part() -> None:
    """An empty list needs no call."""
    assert list(chunks([])) == []
