"""The commands for who writes a handler: `new`, `send` and `tail`, as far as they need no system."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from typer.testing import CliRunner

from router.cli.development.drafts import NotSentError, drafts_of
from router.cli.development.new import contents
from router.cli.development.sinks import Sinks, hours
from router.cli.main import app
from router.settings import Settings, check
from tests.support.fake_clock import FakeClock
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY
from tests.support.runtime_world import in_loop

NOW_MS = round(datetime(2026, 11, 28, 0, 10, tzinfo=UTC).timestamp() * 1000)


def settings(**variables: str) -> Settings:
    """The settings that these variables make."""
    found, faults = check({"CELLROUTER_SECRET": SECRET, "CELLROUTER_ENVIRONMENT": "test", **variables})
    assert found is not None, faults
    return found


def test_an_event_is_sent_as_it_is_with_the_key_that_a_router_will_find() -> None:
    """A given key is the attribute that comes before all others."""
    (draft,), (event,) = drafts_of(['{"tenant": "acme", "id": 1}'], None, settings())
    assert (draft.body, draft.attributes, draft.group_id) == ('{"tenant": "acme", "id": 1}', {}, None)
    assert (event.partition_key, event.event_id) == ("acme", "its message")
    (draft,), (event,) = drafts_of(['{"tenant": "acme"}'], "other", settings())
    assert draft.attributes == {"partition_key": "other"}
    assert event.partition_key == "other"
    _, (event,) = drafts_of(['{"tenant": "a", "n": "7/1"}'], None, settings(CELLROUTER_SOURCE_EVENT_ID="n"))
    assert event.event_id == "7/1"


def test_on_a_fifo_queue_the_key_is_the_group() -> None:
    """Two events that are the same are two, since who sends them has sent two."""
    fifo = settings(CELLROUTER_SOURCE_QUEUE="events.fifo")
    drafts, _ = drafts_of(['{"tenant": "acme"}'] * 2, None, fifo)
    assert [draft.group_id for draft in drafts] == ["acme", "acme"]
    assert len({draft.dedup_id for draft in drafts}) == 2


def test_nothing_is_sent_when_one_event_can_not_be_understood() -> None:
    """It is said which, and why."""
    with pytest.raises(NotSentError, match=r"^event 2: no partition key found.*nothing was sent$"):
        drafts_of(['{"tenant": "acme"}', '{"id": 1}'], None, settings())
    with pytest.raises(NotSentError, match=r"^the body is not .*nothing was sent$"):
        drafts_of(["{"], None, settings())


def test_the_hour_before_is_looked_at_too() -> None:
    """Also where it is of another day: Firehose names its objects by the UTC hour in which their first record came."""
    assert hours(NOW_MS) == ["2026/11/27/23/", "2026/11/28/00/"]


class FakeS3:
    """The two calls of S3 by which sinks are read."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], tuple[datetime, bytes]] = {}
        self.read: list[str] = []  # the last letter of each key that was got

    def put(self, bucket: str, name: str, body: bytes, second: int) -> None:
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
        self.objects[bucket, hours(FakeClock().time_ms())[-1] + name] = (at, body)

    def get_paginator(self, name: str) -> FakeS3:
        assert name == "list_objects_v2"
        return self

    async def paginate(self, *, Bucket: str, Prefix: str) -> AsyncIterator[dict[str, Any]]:  # noqa: N803 - as S3's
        found = [(key, at) for (bucket, key), (at, _) in self.objects.items() if bucket == Bucket]
        yield {"Contents": [{"Key": key, "LastModified": at} for key, at in found if key.startswith(Prefix)]}

    async def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - as S3's
        self.read.append(Key[-1])
        return {"Body": _Body(self.objects[Bucket, Key][1])}


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def read(self) -> bytes:
        return self._content


@in_loop
async def test_records_are_shown_once_the_oldest_first() -> None:
    """Of all cells together, each with the cell that it is of; an object may hold several."""
    s3 = FakeS3()
    sinks = Sinks(s3, {"cell-0000": "b0", "cell-0001": "b1"}, FakeClock())
    assert await sinks.new() == []
    s3.put("b0", "z", b'{"n":3}\n', 3)
    s3.put("b1", "a", b'{"n":1}\n{"n":2}\n', 1)
    assert await sinks.new() == [("cell-0001", '{"n":1}'), ("cell-0001", '{"n":2}'), ("cell-0000", '{"n":3}')]
    s3.put("b0", "a", b'{"n":4}\n', 4)
    assert await sinks.new() == [("cell-0000", '{"n":4}')]
    assert await sinks.new() == []


@in_loop
async def test_of_the_newest_records_no_more_is_read_than_is_shown() -> None:
    """An hour of a busy cell is many objects. What is left out at first is not shown later."""
    s3 = FakeS3()
    for second, name in enumerate("abcd"):
        s3.put("b0", name, f'{{"n":{second}}}\n{{"m":{second}}}\n'.encode(), second)
    sinks = Sinks(s3, {"cell-0000": "b0"}, FakeClock())
    assert [line for _, line in await sinks.new(3)] == ['{"m":2}', '{"n":3}', '{"m":3}']
    assert s3.read == ["d", "c"]
    assert await sinks.new() == []
    s3.put("b0", "e", b'{"n":5}\n', 5)
    assert await sinks.new(0) == []


def test_a_new_package_has_its_own_name_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made where the command is called, and never over something that is there."""
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(app, ["new", "my_orders"])
    assert made.exit_code == 0, made.output
    assert "cellrouter dev my_orders.handler:Handler" in made.output
    root = tmp_path / "my_orders"
    assert not [path for path in root.rglob("*") if path.is_file() and "my_workload" in path.read_text()]
    for path in root.rglob("*.py"):
        compile(path.read_text(), path, "exec")
    again = CliRunner().invoke(app, ["new", "my_orders"])
    assert (again.exit_code, "can't be made" in again.output) == (2, True)


@pytest.mark.parametrize("name", ["My", "1a", "a-b", "class", "json", "router", "../a"])
def test_a_name_that_no_package_can_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also one that would hide a package that cellrouter or Python needs."""
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["new", name]).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_compose_override_fits_the_compose_file() -> None:
    """Its services are there, and its variables are settings; the image is the one of its Dockerfile."""
    made = contents("my_orders")
    override = yaml.safe_load(made["compose.override.yml"])["services"]
    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    assert {name for name in services if name.startswith("controller-")} == set(override)
    for service in override.values():
        found = settings(**service["environment"])
        assert (found.cells.handler, found.docker.image) == ("my_orders.handler:Handler", "my_orders:dev")
    assert "COPY my_orders /opt/my_orders" in made["Dockerfile"]
