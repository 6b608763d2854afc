"""Finds in the code what routers, controllers and workers log, for the page about their log."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
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
    return sorted({line for _, found in _calls(folder, but) for line in found})


def untold(folder: str) -> list[str]:
    """Return the code of each call in a folder that logs a text of which nothing is always the same."""
    return [code for code, found in _calls(folder, "none") if not found]


def _calls(folder: str, but: str) -> Iterator[tuple[str, list[LogLine]]]:
    """Return the code of each call that logs, and the lines that it may write."""
    for file in (_CODE / folder).rglob("*.py"):
        if file.is_relative_to(_CODE / but):
            continue
        for function in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                known = _texts_of_names(function)
                yield from ((ast.unparse(call), list(_lines(call, known))) for call in _logging(function))


def _logging(function: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(function):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        if node.func.attr in LEVELS and "log" in ast.unparse(node.func.value):
            yield node


def _texts_of_names(function: ast.AST) -> dict[str, list[ast.expr]]:
    """Return what each name in a function may stand for."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


def _lines(call: ast.Call, known: Mapping[str, Sequence[ast.expr]]) -> Iterator[LogLine]:
    level = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    fields = (keyword.arg for keyword in call.keywords if keyword.arg is not None)
    named = tuple("exception" if field == "exc_info" else field for field in fields)
    yield from (LogLine(text, level, named) for text in _texts(call.args[0], known))


def _texts(said: ast.expr, known: Mapping[str, Sequence[ast.expr]]) -> list[str]:
    """Return the texts that an expression may be, as far as they are always the same; none where nothing of it is."""
    match said:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=one, orelse=other):
            return _texts(one, known) + _texts(other, known)
        case ast.Name(id=name):
            return [text for each in known.get(name, ()) for text in _texts(each, known)]
        case ast.JoinedStr(values=parts):
            choices = (_texts(part, known) or ["…"] for part in parts)
            return ["".join(chosen) for chosen in product(*choices)]
        case ast.FormattedValue(value=value):
            return _texts(value, known)
    return []


def _row(line: LogLine) -> str:
    return f"| {line.text} | {line.level} | {', '.join(f'`{field}`' for field in line.fields)} |\n"
