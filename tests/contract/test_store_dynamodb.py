"""The store on DynamoDB: what its transactions, its bucket and its costs are like, on a strict server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cell_worker import clock
from cell_worker.store.dynamodb import DynamoStore
from cell_worker.store.store import REMEMBER_S, FencedError
from cell_worker.store.table_plan import INLINE_BYTES
from tests.support.aio import until
from tests.support.stores import lines_of, named, on
from tests.support.strict_dynamodb import StrictDynamo

COMMIT = "TransactWriteItems"
BIG = 500_000
MakeTable = Callable[[], DynamoStore]


@pytest.fixture
def make(server: tuple[StrictDynamo, MakeTable]) -> MakeTable:
    """Make stores on the strict server."""
    return server[1]


def test_a_group_is_written_without_those_of_it_that_are_done(dynamo: StrictDynamo, make: MakeTable) -> None:
    """One event that was done before cancels the transaction, which is made anew without that event's lines."""

    async def story(store: DynamoStore) -> None:
        await store.commit(named("b"), [b"b"])
        before = dynamo.told.calls.count(COMMIT)
        answers = await asyncio.gather(*(store.commit(named(each), [each.encode()]) for each in "abcb"))
        assert answers == [True, False, True, False]
        assert dynamo.told.calls.count(COMMIT) == before + 2
        assert await lines_of(store) == [b"b", b"a", b"c"]
        assert await store.outbox_size() == 3

    on(make, story)


def test_one_instance_has_one_transaction_under_way(dynamo: StrictDynamo, make: MakeTable) -> None:
    """Two would cancel each other, as both look at the fence. Reads and the checks of others don't wait for it."""

    async def story(store: DynamoStore) -> None:
        dynamo.told.in_flight_s = 0.02
        standby = make()
        await standby.open(2)
        work = [store.commit(named(f"e{number}"), [b"%d" % number]) for number in range(300)]
        answers = await asyncio.gather(*work, standby.check(), store.check(), store.seen(named("e1")))
        assert answers[:300] == [True] * 300
        assert dynamo.told.most_in_flight == 1
        assert await lines_of(store) == [b"%d" % number for number in range(300)]
        await standby.close()

    on(make, story)


def test_a_take_wins_against_an_instance_that_commits_all_the_time(dynamo: StrictDynamo, make: MakeTable) -> None:
    """What the older one was told is written, nothing else is, and every event is done by one of the two."""
    answers: dict[str, bool] = {}

    async def commits(store: DynamoStore, who: str) -> None:
        for number in range(1000):
            event = f"e{number}"
            answers[f"{who} {event}"] = await store.commit(named(event), [f"{who} {event}".encode()])

    async def story(older: DynamoStore) -> None:
        dynamo.told.in_flight_s = 0.005
        newer = make()
        await newer.open(2)
        busy = asyncio.create_task(commits(older, "older"))

        async def begun() -> bool:
            return len(answers) >= 5

        await until(begun, "the older one commits")
        await newer.take()
        with pytest.raises(FencedError):
            await busy
        found = await lines_of(newer)
        assert {line.decode() for line in found} == {who for who, new in answers.items() if new}
        for number in range(20):
            await newer.commit(named(f"e{number}"), [f"newer e{number}".encode()])
        found = await lines_of(newer)
        done = [name for name in dynamo.items if name.startswith("done/")]
        assert len(found) == len(done) == await newer.outbox_size()
        await newer.close()

    on(make, story)


def test_two_processes_of_one_generation_do_every_event_once(dynamo: StrictDynamo, make: MakeTable) -> None:
    """As when an instance was restarted and its predecessor still runs: neither can commit past the other."""

    async def story(store: DynamoStore) -> None:
        dynamo.told.in_flight_s = 0.002
        other = make()
        await other.open(1)

        async def commits(each: DynamoStore, who: str) -> list[bool]:
            """Ten events that both have, and ten that nobody else has."""
            ids = [f"{who if number % 2 else 'both'} {number}" for number in range(20)]
            return [await each.commit(named(event), [event.encode()]) for event in ids]

        answers = await asyncio.gather(commits(store, "one"), commits(other, "two"))
        assert sum(map(sum, answers)) == 30
        third = make()
        await third.open(2)
        await third.take()
        done = [name.removeprefix("done/1:k/").encode() for name in dynamo.items if name.startswith("done/")]
        assert sorted(await lines_of(third)) == sorted(done)
        assert len(done) == 30 == await third.outbox_size()
        for each in (other, third):
            await each.close()

    on(make, story)


def test_a_line_that_comes_while_the_outbox_is_found_empty_is_delivered(
    make: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look has read the fence before the commit, and returns after it."""

    async def story(store: DynamoStore) -> None:
        read = store._table.get

        async def and_commit(*ids: str) -> dict[str, Any]:
            found = await read(*ids)
            monkeypatch.undo()
            assert await store.commit(named("a"), [b"1"])
            return found

        monkeypatch.setattr(store._table, "get", and_commit)
        assert await lines_of(store) == []
        assert await lines_of(store) == [b"1"]
        assert await store.outbox_size() == 1

    on(make, story)


def test_an_expired_event_counts_no_more_though_it_is_still_there(dynamo: StrictDynamo, make: MakeTable) -> None:
    """DynamoDB deletes items days after they have expired."""

    async def story(store: DynamoStore) -> None:
        await store.commit(named("a"), [b"1"])
        left_s = int(dynamo.items["done/1:k/a"]["expires"]["N"]) - clock.time_ms() // 1000
        assert REMEMBER_S - 60 < left_s <= REMEMBER_S
        dynamo.items["done/1:k/a"] |= {"expires": {"N": str(clock.time_ms() // 1000 - 1)}}
        assert not await store.seen(named("a"))
        assert await store.commit(named("a"), [b"2"])
        assert await store.seen(named("a"))
        assert not await store.prune()

    on(make, story)


def test_long_lines_go_through_the_bucket_and_leave_nothing_there(dynamo: StrictDynamo, make: MakeTable) -> None:
    """One that no item takes, many that no transaction takes, and a short one between them keep their order."""
    lines = [[b"a" * BIG], [b"b"], [b"%d " % n * 30_000 for n in range(40)], [b"x"] * 5000, [b"c" * INLINE_BYTES]]

    async def story(store: DynamoStore) -> None:
        for number, each in enumerate(lines):
            assert await store.commit(named(f"e{number}"), each)
        assert not await store.commit(named("e0"), lines[0])
        wanted = [line for each in lines for line in each]
        assert await store.outbox_size() == len(wanted)
        assert len(dynamo.objects) == 1 + 4 + 3 + 1
        found: list[bytes] = []
        while batch := await store.outbox(500, 1_000_000):
            assert sum(len(line) for _, line in batch) <= 1_000_000
            found += [line for _, line in batch]
            await store.delete(batch[-1][0])
        assert found == wanted
        assert await store.outbox_size() == 0
        assert dynamo.objects == {}
        assert [name for name in dynamo.items if name.startswith("lines/")] == []

    on(make, story)


def test_an_event_with_more_lines_than_any_transaction_takes_is_refused(dynamo: StrictDynamo, make: MakeTable) -> None:
    """It fails, and does not come again for ever."""

    async def story(store: DynamoStore) -> None:
        with pytest.raises(ValueError, match="200000 lines"):
            await store.commit(named("a"), [b"x"] * 200_000)
        assert await store.commit(named("b"), [])

    on(make, story)


def test_an_event_costs_the_write_units_that_the_docs_say(dynamo: StrictDynamo, make: MakeTable) -> None:
    """docs/reference/cell-table.md: 2 for the fence, 2 an event, 3 a KB of lines, and 1 for the outbox."""

    async def story(store: DynamoStore) -> None:
        dynamo.told.write_units = 0
        await asyncio.gather(*(store.commit(named(f"e{number}"), []) for number in range(16)))
        assert dynamo.told.write_units == 2 + 2 * 16
        dynamo.told.write_units = 0
        await asyncio.gather(*(store.commit(named(f"f{number}"), [b"x" * 500]) for number in range(16)))
        assert dynamo.told.write_units == 2 + 2 * 16 + 2 * 8
        dynamo.told.write_units = 0
        await store.delete((await store.outbox(500))[-1][0])
        assert dynamo.told.write_units == 8 + 1
        dynamo.told.write_units = dynamo.told.read_units = 0
        assert not await store.seen(named("g"))
        assert await store.commit(named("g"), [b"x" * 500])
        await store.delete((await store.outbox(500))[-1][0])
        assert dynamo.told.write_units == 2 + 2 + 2 + 1 + 1
        assert dynamo.told.read_units == 1 + 2

    on(make, story)
