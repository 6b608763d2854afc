"""How the commands write times and tables: whatever is in them, it doesn't steer the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cell_worker.contract.texts import neutral, raw_of

UNWRAPPED: Final = 10_000  # characters: the width of what is no terminal
LEAST_WRAPPED: Final = 24  # characters of a column whose text goes on in the next line


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table from which columns are left out where there is no room; a text is never cut."""

    title: str
    rank: int  # the lowest is left out first
    right: bool = False  # whether numbers stand under each other
    wraps: bool = False  # whether its texts may go on in the next line


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int) -> Table:
    """Make a table of as many columns as fit into the width."""
    needs = [_needed(column, [row[at] for row in rows]) for at, column in enumerate(columns)]
    kept = set(range(len(columns)))
    while len(kept) > 1 and 1 + sum(needs[at] + 3 for at in kept) > width:
        kept.remove(min(kept, key=lambda at: columns[at].rank))
    table = Table()
    for at in sorted(kept):
        one = columns[at]
        table.add_column(one.title, justify="right" if one.right else "left", no_wrap=not one.wraps, overflow="fold")
    for row in rows:
        table.add_row(*(row[at] for at in sorted(kept)))
    return table


def _needed(column: Column, texts: Sequence[str | Text]) -> int:
    longest = max(cell_len(neutral(str(text))) for text in (column.title, *texts))
    return min(longest, LEAST_WRAPPED) if column.wraps else longest


class Screen(Console):
    """Standard output for tables and styled text: only the styles that our code gives reach the terminal.

    A text is no markup: `[red]` or `[link=…]` in a key is shown as it is, and what a terminal obeys is escaped.
    Commands make no other Console.
    """

    def __init__(self) -> None:
        file = raw_of(sys.stdout)
        # What goes to a file or a pipe is read by grep and awk: a row is a line there, however long.
        width = None if file.isatty() or "COLUMNS" in os.environ else UNWRAPPED
        super().__init__(file=file, markup=False, emoji=False, width=width)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make what is printed of a string, so that its width is that of what is shown."""
        return super().render_str(neutral(text), **{**options, "markup": False, "emoji": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Make what is printed of anything, rich's own `Text` too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(neutral(segment.text), segment.style)
