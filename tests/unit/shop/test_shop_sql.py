"""SQL over the sales: it answers, it changes nothing, it reaches nothing, and it ends."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest

from cell_worker.contract.strict_reader import Unreadable
from router.shop.core.sales import COLUMNS, SaleRow, by_minute, of_all_minutes, once
from router.shop.sales import read_object
from router.shop.sql import MAX_ANSWER_ROWS, BadQueryError, answer

duckdb = pytest.importorskip("duckdb", reason="of the extra `shop`")
pyarrow = pytest.importorskip("pyarrow", reason="of the extra `shop`")
parquet = pytest.importorskip("pyarrow.parquet", reason="of the extra `shop`")

ROWS = [
    SaleRow(
        f"shop-{place % 3}", f"cup-{place % 2}", f"CUSTOMER-ORDER-{place:013d}-0000", 1, place, place, 0, 100, place
    )
    for place in range(1, 200)
]
TOTALS = "SELECT shop, product, SUM(quantity) FROM sales GROUP BY ALL"


def parquet_of(rows: list[SaleRow]) -> bytes:
    """Write rows as a Parquet file."""
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([msgspec.structs.asdict(row) for row in rows]), file)
    return file.getvalue()


def test_sql_says_what_the_minutes_say() -> None:
    """Two ways of counting that share no code."""
    found = {(shop, product): int(sold) for shop, product, sold in answer(TOTALS, ROWS).rows}
    assert found == of_all_minutes(by_minute(ROWS))
    assert answer(TOTALS, []).rows == []


def test_both_kinds_of_objects_hold_the_same_rows_and_a_row_twice_counts_once() -> None:
    """Parquet, and what Firehose makes of lines of JSON."""
    lines = b"\n".join(map(msgspec.json.encode, ROWS)) + b"\n"
    assert read_object(parquet_of(ROWS)) == read_object(lines) == ROWS
    assert once([*ROWS, *ROWS[:50]]) == ROWS


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"PAR1nothing", "parquet"),
        (b'{"shop": "a"}', "line 1: "),
        (b"\xff\n", "line 1: "),
        (msgspec.json.encode(ROWS[0]) + b"\n{", "line 2: "),
    ],
)
def test_an_object_that_is_no_sales_gets_a_reason(raw: bytes, why: str) -> None:
    """Cut short, damaged, or of somebody else."""
    found = read_object(raw)
    assert isinstance(found, Unreadable)
    assert why in found.why.lower()


def test_parquet_with_other_columns_gets_a_reason() -> None:
    """A column that is missing, and one of another type."""
    for table in (pyarrow.table({"shop": ["a"]}), pyarrow.table({name: ["text"] for name in COLUMNS})):
        file = io.BytesIO()
        parquet.write_table(table, file)
        assert isinstance(read_object(file.getvalue()), Unreadable)


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE sales",
        "INSERT INTO sales SELECT * FROM sales",
        "SELECT 1; SELECT 2",
        "",
        "SET memory_limit = '100GB'",
        "COPY sales TO '{file}'",
        "ATTACH '{file}'",
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM secret_rows",
        "INSTALL httpfs",
        "SELECT getenv('HOME')",
        "CREATE TABLE t AS SELECT 1",
        "PRAGMA database_list",
        "not sql",
        "x" * 20_000,
    ],
)
def test_a_query_can_only_read_the_sales(query: str, tmp_path: Path) -> None:
    """No file, no network, no setting, no variable of this process, and nothing is changed."""
    file = tmp_path / "a.csv"
    file.write_text("a,b\n1,2\n")
    secret_rows = pyarrow.table({"secret": ["yes"]})
    assert secret_rows.num_rows == 1
    with pytest.raises(BadQueryError):
        answer(query.replace("{file}", str(file)), ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_an_answer_is_bounded() -> None:
    """In its rows, and in its time."""
    found = answer("SELECT a.line FROM sales a, sales b", ROWS)
    assert len(found.rows) == MAX_ANSWER_ROWS
    assert found.cut
    with pytest.raises(BadQueryError, match="took longer"):
        answer("SELECT COUNT(*) FROM range(1000000) a, range(1000000) b WHERE hash(a.range, b.range) = 0", ROWS, 0.2)
