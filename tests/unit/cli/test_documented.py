"""Every command that the documentation shows is one that there is, with its options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from typer.main import get_command

from router.cli.main import app
from tests.support.paths import REPOSITORY

PAGES: Final = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docker-compose.yml")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
ENDS: Final = ("|", "||", "&&", "&", ">", ">>", "<", ";", "#")
"""Words after which the shell does something else."""
PLACEHOLDERS: Final = {"…", "COMMAND"}
SHOWN: Final = re.compile(
    r"`cellrouter ([^`\n]+(?:\n[^`\n]+)?)`|^(?:    |#   )\s*cellrouter (.+(?:\\\n.+)*)$", re.MULTILINE
)


def shown(page: Path) -> Iterator[list[str]]:
    """List the words of each command that a page shows, as far as they are the command's."""
    for in_line, in_block in SHOWN.findall(page.read_text()):
        text = (in_line or in_block).replace("\\\n", " ")
        try:
            words = shlex.split(text.partition("#")[0].partition(";")[0])
        except ValueError:
            words = text.split()
        ends = [place for place, word in enumerate(words) if word in ENDS]
        yield words[: min(ends, default=len(words))]


def why_wrong(words: list[str]) -> str | None:
    """Say what of a command there is not, or what it lacks; None where it is right as far as it goes.

    A word with | stands for one of several, and … for what is left out. A command's bare name is no whole command.
    """
    command: Any = get_command(app)
    path, left = "cellrouter", [word.split("|")[0] for word in words]
    while True:
        given = left
        try:
            parser = command.make_parser(command.context_class(command, info_name=path))
            values, left, _ = parser.parse_args(list(given))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            return f"{path}: {error}"
        if not hasattr(command, "commands"):
            break
        if not left or left[0] in PLACEHOLDERS:
            return None
        name, *left = left
        path, command = f"{path} {name}", command.get_command(None, name)
        if command is None:
            return f"{path}: there is no such command"
    if more := [word for word in left if word not in PLACEHOLDERS]:
        return f"{path}: nothing takes {more}"
    missing = [each.name for each in command.params if each.required and values.get(each.name) is None]
    return f"{path}: {missing} are missing" if given and missing and not PLACEHOLDERS & {*given} else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_that_a_page_shows_is_one(page: Path) -> None:
    """Nobody learns a command by heart: it is copied from here."""
    assert [why for words in shown(page) if (why := why_wrong(words)) is not None] == []


def test_a_wrong_command_is_found() -> None:
    """Else nothing above would say anything."""
    for words in (["celsl"], ["cells", "--jsn"], ["deploy", "cells", "IMAGE"], ["evict", "cell-0003"]):
        assert why_wrong(words) is not None, words
    for words in (["cells", "--json"], ["chaos", "…"], ["drill", "kill|slow", "--env", "stress"], ["plan", "pin"]):
        assert why_wrong(words) is None, words
