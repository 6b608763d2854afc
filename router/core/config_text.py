"""Where a configuration file sets what, so that a fault can be named with its line."""

from __future__ import annotations

import re
from typing import Final

FILE_VARIABLE: Final = "CELLROUTER_CONFIG"
"""The variable that names the configuration file."""
SERVER_VARIABLE: Final = "CELLROUTER_SERVER"
"""The variable that names the Admin API through which commands work, as --server does."""
TOKEN_VARIABLE: Final = "CELLROUTER_TOKEN"  # noqa: S105 - a name
"""The variable that holds the token by which commands ask it."""
TOKEN_FILE_VARIABLE: Final = "CELLROUTER_TOKEN_FILE"  # noqa: S105 - a name
"""The variable that names a file which holds that token."""
OF_COMMANDS: Final = frozenset({FILE_VARIABLE, SERVER_VARIABLE, TOKEN_VARIABLE, TOKEN_FILE_VARIABLE})
"""The variables that are no settings."""


def line_of(text: str, key: tuple[str, ...]) -> int | None:
    """Return the line, from 1, that sets a key or begins its section; None for none.

    It understands `[section]` and `key = value`, which is all that the settings need of TOML.
    """
    section: tuple[str, ...] = ()
    found = None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            section = (header.group(1),)
            if section == key[:1]:
                found = number
        elif (pair := re.match(r"\s*([\w-]+)\s*=", line)) and (*section, pair.group(1)) == key:
            return number
    return found


def natural(fault: str) -> list[tuple[bool, int, str]]:
    """Return a sort key that puts line 9 before line 10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", fault)]
