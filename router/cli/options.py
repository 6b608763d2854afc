"""Options and arguments that several commands share, each declared once."""

from __future__ import annotations

from typing import Annotated, Final

import typer

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as shells have it for SIGINT."""


def _given(why: str) -> str:
    if not why.strip():
        raise typer.BadParameter("say why, for those who come after you")
    return why


def _a_key(key: str | None) -> str | None:
    if key == "":
        raise typer.BadParameter("no event has an empty key")
    return key


Key = Annotated[str, typer.Argument(help="The partition key.", callback=_a_key)]
OptionalKey = Annotated[
    str | None, typer.Argument(metavar="[KEY]", help="The partition key; left out with --default.", callback=_a_key)
]
CellId = Annotated[str, typer.Argument(metavar="CELL", help="The cell, as cell-0003.")]
Why = Annotated[str, typer.Option(help="For the audit.")]
RequiredWhy = Annotated[str, typer.Option(help="For the audit.", callback=_given)]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
