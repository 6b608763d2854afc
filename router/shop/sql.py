"""Answers SQL over sales with DuckDB, which sees one table and nothing else of the machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from router.core.errors import CellRouterError
from router.shop.core.sales import COLUMNS, SaleRow

TABLE: Final = "sales"
MAX_SQL_CHARS: Final = 10_000
MAX_ANSWER_ROWS: Final = 10_000
MAX_SECONDS: Final = 30.0
MEMORY: Final = "1GB"
_TEXTS: Final = frozenset({"shop", "product", "order_id"})


class BadQueryError(CellRouterError):
    """A query can't be answered; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query comes to."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    cut: bool  # whether there were more rows than are shown


def answer(query: str, rows: Sequence[SaleRow], seconds: float = MAX_SECONDS) -> Answer:
    """Run one SELECT over these sales. Raises BadQueryError.

    DuckDB gets the rows, then loses every way to files, the network and its own settings, before it sees the query.
    """
    if len(query) > MAX_SQL_CHARS:
        raise BadQueryError(f"the query has {len(query)} characters, more than {MAX_SQL_CHARS}")
    try:
        import duckdb  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise BadQueryError("this needs packages of an extra: pip install 'cellrouter[shop]'") from error
    connection = duckdb.connect(":memory:")
    deadline = threading.Timer(seconds, connection.interrupt)
    try:
        _prepare(connection, rows)
        if (why := _why_not(duckdb, connection, query)) is not None:
            raise BadQueryError(why)
        deadline.start()
        found = connection.execute(query)
        names = [column[0] for column in found.description or ()]
        first = found.fetchmany(MAX_ANSWER_ROWS + 1)
    except duckdb.InterruptException as error:
        raise BadQueryError(f"the query took longer than {seconds:g} s: ask for less") from error
    except duckdb.Error as error:
        raise BadQueryError(f"SQL: {error!s:.500}") from error
    finally:
        deadline.cancel()
        connection.close()
    return Answer(names, first[:MAX_ANSWER_ROWS], len(first) > MAX_ANSWER_ROWS)


def _prepare(connection: Any, rows: Sequence[SaleRow]) -> None:
    """Give DuckDB the sales as its only table, and take everything else away from it."""
    columns = [f"{name} {'VARCHAR' if name in _TEXTS else 'BIGINT'}" for name in COLUMNS]
    connection.execute(f"CREATE TABLE {TABLE} ({', '.join(columns)})")  # names of ours
    if rows:
        import pyarrow as pa  # noqa: PLC0415 - comes with DuckDB in the extra

        sold = pa.table({name: [getattr(row, name) for row in rows] for name in COLUMNS})
        connection.register("_sold", sold)
        connection.execute(f"INSERT INTO {TABLE} SELECT {', '.join(COLUMNS)} FROM _sold")  # noqa: S608 - names of ours
        connection.unregister("_sold")
    for setting in (
        "python_enable_replacements = false",  # variables of this process are no tables
        f"memory_limit = '{MEMORY}'",
        "threads = 2",
        "temp_directory = ''",
        "enable_external_access = false",
        "lock_configuration = true",  # the last one
    ):
        connection.execute(f"SET {setting}")


def _why_not(duckdb: Any, connection: Any, query: str) -> str | None:
    """Say why a text is not one SELECT; None when it is. Raises duckdb.Error for what is no SQL."""
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        return f"give one statement: there are {len(statements)}"
    if statements[0].type != duckdb.StatementType.SELECT:
        return f"only SELECT is answered, and this is {statements[0].type.name}: sales are read, and never changed"
    return None
