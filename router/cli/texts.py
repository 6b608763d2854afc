"""How the commands write times and tables: whatever is in them, it doesn't steer the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from cell_worker.contract.texts import neutral, raw_of


class Screen(Console):
    """Standard output for tables and styled text: only the styles that our code gives reach the terminal.

    A text is no markup: `[red]` or `[link=…]` in a key is shown as it is, and what a terminal obeys is escaped.
    Commands make no other Console.
    """

    def __init__(self) -> None:
        super().__init__(file=raw_of(sys.stdout), markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make what is printed of a string, so that its width is that of what is shown."""
        return super().render_str(neutral(text), **{**options, "markup": False, "emoji": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Make what is printed of anything, rich's own `Text` too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(neutral(segment.text), segment.style)
