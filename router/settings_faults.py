"""Says what is wrong with the settings and where it stands: in a variable, or in a line of the file.

No value is ever shown: any of them may be a password, or have one in it. Whoever may see it looks at the place.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from router.core.config_text import line_of

PREFIX: Final = "CELLROUTER_"

Key = tuple[str, ...]  # ("redis", "url"), ("secret",)


def described(details: Any, variables: Mapping[Key, str], path: Path | None, text: str, kind: type[BaseModel]) -> str:
    """Describe one of pydantic's errors as `where: key: what is wrong`; `kind` is the model of all settings."""
    key = tuple(str(part) for part in details["loc"])[:2]
    problem = " ".join(details["msg"].removeprefix("Value error, ").split())
    if details["type"] == "extra_forbidden":
        problem = "no such key" + _suggestion(key, kind)
    elif details["type"] == "missing":
        variable = PREFIX + "_".join(key).upper()
        problem = f"is required: set {variable}, or {key[-1]} in the file"
    return f"{place(key, variables, path, text)}: {'.'.join(key)}: {problem}"


def place(key: Key, variables: Mapping[Key, str], path: Path | None, text: str) -> str:
    """Say where a key is set, or could be: in a variable, a line of the file, the file, or the environment."""
    if key in variables:
        return variables[key]
    line = line_of(text, key)
    return f"{path}:{line}" if line else str(path) if path else "environment"


def _suggestion(key: Key, kind: type[BaseModel]) -> str:
    section = kind.model_fields[key[0]].annotation if len(key) > 1 else kind
    model = section if isinstance(section, type) and issubclass(section, BaseModel) else kind
    near = difflib.get_close_matches(key[-1], model.model_fields, n=1)
    prefix = f"{key[0]}." if len(key) > 1 else ""
    return f"; did you mean {prefix}{near[0]}?" if near else f"; there are {', '.join(sorted(model.model_fields))}"
