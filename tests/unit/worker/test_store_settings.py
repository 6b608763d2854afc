"""Which store a worker has is a setting, and a mistake in it is named before anything starts."""

from __future__ import annotations

import pytest

from cell_worker.contract.keys import cell_secret
from cell_worker.settings import SettingsError, load
from cell_worker.store.dynamodb import DynamoStore
from cell_worker.store.sqlite import SqliteStore
from cell_worker.worker import Worker
from tests.support.keys import SECRET
from tests.support.runtime_world import in_loop


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every worker needs."""
    monkeypatch.setenv("CELL_ID", "cell-0007")
    monkeypatch.setenv("CELL_SECRET", cell_secret(SECRET, "live", "cell-0007"))
    monkeypatch.setenv("CELL_HANDLER", "tests.support.trivial:handle")


@in_loop
async def test_a_table_has_the_name_of_the_cells_other_things_unless_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a word about it, the store is the file."""
    assert isinstance(Worker(load())._store, SqliteStore)
    monkeypatch.setenv("CELL_STORE", "dynamodb")
    store = Worker(load())._store
    assert isinstance(store, DynamoStore)
    assert store._table.name == store._bodies._bucket == "cellrouter-live-cell-0007"
    monkeypatch.setenv("CELL_STORE_TABLE", "restored")
    store = Worker(load())._store
    assert isinstance(store, DynamoStore)
    assert (store._table.name, store._bodies._bucket) == ("restored", "cellrouter-live-cell-0007")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"CELL_STORE": "redis"}, "CELL_STORE: Input should be 'sqlite' or 'dynamodb'"),
        ({"CELL_STORE_TABLE": "t"}, "CELL_STORE_TABLE: is set, but CELL_STORE is sqlite, which has no table"),
        ({"CELL_STORE": "dynamodb", "CELL_STORE_TABLE": "arn:x"}, "CELL_STORE_TABLE: String should match pattern"),
    ],
)
def test_a_mistake_is_named(monkeypatch: pytest.MonkeyPatch, told: dict[str, str], words: str) -> None:
    """With the variable to change."""
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=words):
        load()
