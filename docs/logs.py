"""Finds in the code what routers, controllers and workers log, for the page about their log."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LEVELS: Final = ("error", "warning", "info")
PACKAGES: Final = {"router": "Routers and controllers", "cell_worker": "Workers"}
_CODE: Final = Path(__file__).parent.parent
_SHARED: Final = "cell_worker/contract/"
"""What lies there is of every process."""


@dataclass(frozen=True, slots=True, order=True)
class LogLine:
    """A line that is logged: its text, where three dots stand for what is not always the same, and its fields."""

    text: str
    level: str
    fields: tuple[str, ...]


def page() -> str:
    """List every line in a Markdown table for each kind of process, in the order of the alphabet."""
    return "\n".join(
        f"## {title}\n\n| text | level | fields |\n|---|---|---|\n{''.join(map(_row, lines))}"
        for title, lines in (
            ("Every process", lines_in(_SHARED)),
            *((title, lines_in(f"{package}/", but=_SHARED)) for package, title in PACKAGES.items()),
        )
    )


def lines_in(folder: str, but: str = "none") -> list[LogLine]:
    """Return the lines that the code of a folder logs, without those of the folder `but`, each once."""
    files = (file for file in (_CODE / folder).rglob("*.py") if not file.is_relative_to(_CODE / but))
    return sorted({line for file in files for line in _logged(ast.walk(ast.parse(file.read_text("utf-8"))))})


def _logged(nodes: Iterable[ast.AST]) -> Iterator[LogLine]:
    for node in nodes:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        if node.func.attr in LEVELS and "log" in ast.unparse(node.func.value) and (text := _text(node.args[0])):
            fields = (keyword.arg for keyword in node.keywords if keyword.arg is not None)
            yield LogLine(text, node.func.attr, tuple("exception" if f == "exc_info" else f for f in fields))


def _text(argument: ast.expr) -> str:
    """Return the text of a line as far as it is always the same; empty where nothing of it is."""
    match argument:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
    return ""


def _row(line: LogLine) -> str:
    return f"| {line.text} | {line.level} | {', '.join(f'`{field}`' for field in line.fields)} |\n"
