"""How the help of the command line is ordered: its commands in groups, by what one wants to do."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from typer.core import TyperGroup

MOST_CHARS: Final = 200  # of what a command does; longer than any, since a text that is cut says nothing


class Panel(StrEnum):
    """A group of commands in the help, in its order there."""

    RUN = "Run"
    LOOK = "Look"
    CHANGE = "Change"
    REPAIR = "Repair"
    SET_UP = "Set up"


class PanelGroup(TyperGroup):
    """A group whose help lists its commands by panels; those without one come last."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel, with a line for each command."""
        found: dict[str, list[tuple[str, str]]] = {panel.value: [] for panel in Panel}
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        for name, command in commands:
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                of = panel if isinstance(panel, str) else "Commands"
                found.setdefault(of, []).append((name, command.get_short_help_str(MOST_CHARS)))
        for title, rows in found.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
