"""Options and arguments that several commands share, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer


def _given(why: str) -> str:
    if not why.strip():
        raise typer.BadParameter("say why, for those who come after you")
    return why


Key = Annotated[str, typer.Argument(help="The partition key.")]
CellId = Annotated[str, typer.Argument(metavar="CELL", help="The cell, as cell-0003.")]
Why = Annotated[str, typer.Option(help="For the audit.")]
RequiredWhy = Annotated[str, typer.Option(help="For the audit.", callback=_given)]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
