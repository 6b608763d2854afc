"""Describes the command line in Markdown, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from router.cli.main import app
from router.cli.panels import LISTED


def page() -> str:
    """Describe every command, by the groups of the help: what it does, its arguments and its options."""
    root: Any = get_command(app)
    return "\n".join(
        f"## {panel.value}\n\n{''.join(text for each in part for text in _of(root, each.name))}"
        for panel, part in LISTED.items()
    )


def _of(root: Any, name: str) -> Iterator[str]:
    return _described(f"cellrouter {name}", root.get_command(None, name))


def _described(path: str, command: Any) -> Iterator[str]:
    about = re.sub(r"\n\s*\n", "\n\n", "\n".join(line.strip() for line in (command.help or "").splitlines()))
    yield f"### {path}\n\n{about.strip()}\n\n"
    if rows := [_row(param) for param in command.params if not getattr(param, "hidden", False)]:
        yield "| | what | default |\n|---|---|---|\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows) + "\n"
    for name, part in getattr(command, "commands", {}).items():
        if part.hidden:
            continue
        yield from _described(f"{path} {name}", part)


def _row(param: Any) -> tuple[str, str, str]:
    if param.param_type_name == "argument":
        name, default = param.metavar or param.name.upper(), "required" if param.required else ""
    else:
        name = ", ".join([*param.opts, *param.secondary_opts])
        shown = not (param.default in (None, "", False, 0) or callable(param.default))
        default = "required" if param.required else f"`{param.default}`" if shown else ""
    return f"`{name}`", (param.help or "").replace("|", "\\|"), default
