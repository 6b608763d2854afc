"""`cellrouter shop query`: the answer for people and for machines, and what it lacks."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from router.cli.development import shop
from router.cli.main import app
from router.shop.core.sales import SaleRow
from router.shop.sales import SalesFound
from tests.support.hostile_texts import HOSTILE, obeyed
from tests.support.keys import SECRET

pytest.importorskip("duckdb", reason="of the extra `shop`")

ROWS = [SaleRow("corner", product, f"ORDER-{n}", 1, n, n, 0, 100, n) for n, product in enumerate(("cup", "tea"), 1)]
TOTALS = "SELECT product, SUM(quantity) AS pieces FROM sales GROUP BY product ORDER BY product"


@pytest.fixture(autouse=True)
def _sales(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands for the registry and S3; the list gets the names of objects that can't be read."""
    unread: list[str] = []

    async def found(*_: object) -> SalesFound:
        return SalesFound(ROWS, 3, unread)

    monkeypatch.setattr(shop, "_sales", found)
    monkeypatch.setenv("CELLROUTER_SECRET", SECRET)
    return unread


def asked(*arguments: str) -> tuple[int, str, str]:
    """Run the command; returns its exit code and what it prints."""
    done = CliRunner().invoke(app, ["shop", "query", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_an_answer_is_a_table_or_json() -> None:
    """The same rows in both."""
    code, table, _ = asked(TOTALS)
    assert (code, [row.split() for row in table.splitlines() if "cup" in row or "tea" in row]) == (
        0,
        [["│", "cup", "│", "1", "│"], ["│", "tea", "│", "2", "│"]],
    )
    assert json.loads(asked(TOTALS, "--json")[1]) == [{"product": "cup", "pieces": 1}, {"product": "tea", "pieces": 2}]


def test_what_an_answer_lacks_is_said_and_is_no_success(_sales: list[str]) -> None:  # noqa: PT019 - it is used
    """The objects are named, with the reason."""
    _sales.append("s3://bucket/sales/1: line 1: it is no JSON")
    code, table, told = asked(TOTALS)
    assert (code, "cup" in table) == (1, True)
    assert "not read: s3://bucket/sales/1: line 1: it is no JSON" in told
    assert "1 of 3 objects can't be read" in told


@pytest.mark.parametrize("wrong", [("DELETE FROM sales",), (TOTALS, "--day=today"), (TOTALS, "--shop=A#B")])
def test_what_cannot_be_asked_is_refused(wrong: tuple[str, ...]) -> None:
    """Before anything is read, where that can be seen."""
    assert asked(*wrong)[0] != 0


def test_no_text_of_an_answer_steers_the_terminal() -> None:
    """Neither a value nor the name of a column."""
    text = HOSTILE.replace("'", "''").replace('"', '""').replace("\0", "")
    code, table, _ = asked(f"SELECT '{text}' AS \"{text}\"")
    assert (code, obeyed(table)) == (0, [])
