"""The store on DynamoDB where its services are busy, silent, emptied or not its own, on a strict server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cell_worker import clock
from cell_worker.store import table_calls
from cell_worker.store.dynamodb import DynamoStore
from cell_worker.store.store import FencedError, StoreError
from tests.support.aio import run
from tests.support.stores import lines_of, named, on
from tests.support.strict_dynamodb import MODEL, StrictDynamo

COMMIT = "TransactWriteItems"
ERRORS = sorted({shape.name for shape in MODEL.operation_model(COMMIT).error_shapes})
BIG = 500_000
MakeTable = Callable[[], DynamoStore]


@pytest.fixture
def make(server: tuple[StrictDynamo, MakeTable]) -> MakeTable:
    """Make stores on the strict server."""
    return server[1]


@pytest.mark.parametrize("forgets_tokens", [False, True])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_commit_whose_answer_is_lost_counts_once(
    dynamo: StrictDynamo, make: MakeTable, *, forgets_tokens: bool, lost: int
) -> None:
    """It is sent again, is not done twice, and is not taken for a duplicate of itself."""

    async def story(store: DynamoStore) -> None:
        dynamo.told.forgets_tokens = forgets_tokens
        dynamo.told.faults.extend([(COMMIT, "lost")] * lost)
        assert all(await asyncio.gather(store.commit(named("a"), [b"1"]), store.commit(named("b"), [b"2"])))
        assert not await store.commit(named("a"), [b"again"])
        assert await store.commit(named("c"), [b"3"])
        assert await lines_of(store) == [b"1", b"2", b"3"]

    on(make, story)


def test_a_commit_that_stays_unanswered_is_found_when_the_event_comes_again(
    dynamo: StrictDynamo, make: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then nobody knows. Its line is delivered once, even when no other event follows."""
    monkeypatch.setattr(table_calls, "TRY_FOR_S", 0.2)

    async def story(store: DynamoStore) -> None:
        dynamo.told.faults.extend([(COMMIT, "lost"), *[(COMMIT, "unheard")] * 50])
        with pytest.raises(StoreError, match="table s-"):
            await store.commit(named("a"), [b"1"])
        dynamo.told.faults.clear()
        assert await store.seen(named("a"))
        assert await lines_of(store) == [b"1"]
        assert await store.outbox_size() == 1
        assert not await store.commit(named("a"), [b"again"])
        assert await store.commit(named("b"), [b"2"])
        assert await lines_of(store) == [b"1", b"2"]

    on(make, story)


def test_a_commit_that_a_successor_has_overtaken_counts_if_it_was_written(
    dynamo: StrictDynamo, make: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer was lost, the successor has taken the store since, and the event is done all the same."""

    async def overtaken(_: float) -> None:
        assert "done/1:k/b" in dynamo.items
        dynamo.items["fence"] |= {"generation": {"N": "2"}}  # what `take` writes

    async def story(store: DynamoStore) -> None:
        await store.commit(named("a"), [])
        dynamo.told.forgets_tokens = True
        dynamo.told.faults.append((COMMIT, "lost"))
        monkeypatch.setattr(clock, "sleep", overtaken)
        assert await store.commit(named("b"), [b"1"])
        with pytest.raises(FencedError, match="generation 2 has the cell's store; this is 1"):
            await store.commit(named("c"), [])

    on(make, story)


@pytest.mark.parametrize("code", [*ERRORS, "unheard"])
def test_every_error_of_a_transaction_passes_or_is_said(dynamo: StrictDynamo, make: MakeTable, code: str) -> None:
    """All that botocore's model names. A passing one costs a try; another one costs the events a `retry`."""

    async def story(store: DynamoStore) -> None:
        dynamo.told.faults.extend([(COMMIT, code)] * 2)
        try:
            new, said = await store.commit(named("a"), [b"1"]), code
        except StoreError as error:
            new, said = False, str(error)
        assert code in said
        dynamo.told.faults.clear()
        assert await store.commit(named("a"), [b"1"]) != new
        assert await lines_of(store) == [b"1"]

    on(make, story)


@pytest.mark.parametrize(
    "code",
    [
        *("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"),
        *("InternalServerError", "TransactionInProgressException"),
    ],
)
def test_a_busy_service_is_asked_again_and_then_given_up(
    dynamo: StrictDynamo, make: MakeTable, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Three refusals are waited out; a service that goes on refusing is named with what it said."""

    async def story(store: DynamoStore) -> None:
        dynamo.told.faults.extend([(COMMIT, code)] * 3)
        assert await store.commit(named("a"), [])
        monkeypatch.setattr(table_calls, "TRY_FOR_S", 0.2)
        dynamo.told.faults.extend([(COMMIT, code)] * 50)
        with pytest.raises(StoreError, match=code):
            await store.commit(named("b"), [])
        assert not await store.seen(named("b"))

    on(make, story)


def test_a_missing_body_is_named_with_the_page_that_helps(dynamo: StrictDynamo, make: MakeTable) -> None:
    """Nothing is skipped in silence."""

    async def story(store: DynamoStore) -> None:
        await store.commit(named("a"), [b"a" * BIG])
        dynamo.objects.clear()
        with pytest.raises(StoreError, match=r"the object outbox/.* is gone.*repair-a-store\.md"):
            await store.outbox(10)

    on(make, story)


def test_lines_are_not_delivered_again_when_an_instance_ends_amid_a_deletion(
    dynamo: StrictDynamo, make: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has deleted the lines, and not written down how far it is."""
    monkeypatch.setattr(table_calls, "TRY_FOR_S", 0.1)

    async def story(store: DynamoStore) -> None:
        for number in range(4):
            await store.commit(named(f"e{number}"), [b"%d" % number, b"+"])
        batch = await store.outbox(100)
        dynamo.told.faults.append(("BatchWriteItem", "unheard"))
        dynamo.told.faults.extend([("UpdateItem", "AccessDeniedException")])
        with pytest.raises(StoreError, match="AccessDenied"):
            await store.delete(batch[5][0])
        successor = make()
        await successor.open(2)
        await successor.take()
        assert await lines_of(successor) == [b"3", b"+"]
        await successor.delete((await successor.outbox(1))[0][0])
        assert await lines_of(successor) == [b"+"]
        await successor.delete((await successor.outbox(10))[-1][0])
        assert await lines_of(successor) == []
        assert await successor.outbox_size() == 0
        await successor.close()

    on(make, story)


def test_what_a_busy_service_leaves_undone_is_asked_for_again(dynamo: StrictDynamo, make: MakeTable) -> None:
    """Of 40 reads or deletions in one call it does 3."""

    async def story(store: DynamoStore) -> None:
        for number in range(40):
            await store.commit(named(f"e{number}"), [b"%d" % number])
        dynamo.told.at_most = 3
        seen = await asyncio.gather(*(store.seen(named(f"e{number}")) for number in range(50)))
        assert [done is not None for done in seen] == [True] * 40 + [False] * 10
        batch = await store.outbox(100)
        await store.delete(batch[-1][0])
        assert [name for name in dynamo.items if name.startswith("lines/")] == []

    on(make, story)


def test_a_table_that_is_emptied_in_use_is_taken_anew(dynamo: StrictDynamo, make: MakeTable) -> None:
    """As when it was restored under its name: the event gets `retry` once, and the instance goes on."""

    async def story(store: DynamoStore) -> None:
        await store.commit(named("a"), [b"1"])
        dynamo.items.clear()
        with pytest.raises(StoreError, match="emptied or restored"):
            await store.commit(named("b"), [b"2"])
        assert await store.commit(named("b"), [b"2"])
        assert await lines_of(store) == [b"2"]

    on(make, story)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ResourceNotFoundException", "no such table.*CELL_STORE_TABLE"),
        ("AccessDeniedException", "role may not do this: docs/reference/cell-table.md"),
        ("ValidationException", "partition key `id`"),
    ],
)
def test_a_table_that_can_not_be_used_is_named_with_what_to_do(
    dynamo: StrictDynamo, make: MakeTable, code: str, words: str
) -> None:
    """The store says so when it is opened, without trying again."""

    async def main() -> None:
        store = make()
        dynamo.told.faults.append(("BatchGetItem", code))
        with pytest.raises(StoreError, match=rf"table s-\w+: .*{words}"):
            await store.open(1)
        assert dynamo.told.calls == ["BatchGetItem"]
        await store.close()
        with pytest.raises(StoreError, match="it is closed"):
            await store.seen(named("a"))

    run(main())


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("fence", {"generation": {"S": "one"}}),
        ("outbox", {"kept": {"NS": ["-1"]}}),
        ("lines/1", {"body": {"B": "bm8gbGluZXM="}}),
        ("lines/1", {"body": {"N": "1"}}),
        ("lines/1", {}),
        ("fence", {"by_id_until": {"S": "soon"}}),
        ("done/1:k/a", {"expires": {"S": "soon"}}),
        ("done/1:k/a", {"expires": {"N": "99999999999"}, "digest": {"S": "soon"}}),
    ],
)
def test_an_item_that_no_store_has_written_is_named_with_the_page_that_helps(
    dynamo: StrictDynamo, make: MakeTable, name: str, item: dict[str, object]
) -> None:
    """Whatever lies there ends no process."""

    async def story(store: DynamoStore) -> None:
        await store.commit(named("a"), [b"1"])
        dynamo.items[name] = {"id": {"S": name}, **item}
        successor = make()

        async def use() -> None:
            await successor.open(2)
            await successor.take()
            await successor.outbox(10)
            await successor.seen(named("a"))

        with pytest.raises(StoreError, match=r"repair-a-store\.md"):
            await use()
        await successor.close()

    on(make, story)
