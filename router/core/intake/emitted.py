"""Where in a cell's bucket what its handler emits comes to lie, when a setting names folders by its members."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from router.core.models import Reason

_MEMBER: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_PATH: Final = re.compile(r"([A-Za-z0-9_.=-]|\{[a-z][a-z0-9_]*\}|(?<!/)/)+(?<=/)")
_OWN: Final = "outbox/"
MAX_CHARS: Final = 300
UNDELIVERED: Final = "undelivered/!{firehose:error-output-type}/"
"""Where Firehose puts what has no such members."""


@dataclass(frozen=True, slots=True)
class EmittedPath:
    """The folders of what is emitted, as Firehose takes them (dynamic partitioning)."""

    prefix: str
    query: str
    """In jq: the members of a record that the prefix names."""


def emitted_path(path: str) -> EmittedPath | None:
    """Return a path such as `sales/shop={shop}/` in Firehose's words. None for an empty one, without folders."""
    if not path:
        return None
    members = dict.fromkeys(_MEMBER.findall(path))
    prefix = _MEMBER.sub(r"!{partitionKeyFromQuery:\1}", path)
    # Without a time in the prefix, Firehose appends folders of its own.
    return EmittedPath(
        prefix + "!{timestamp:yyyyMMddHHmm}-", "{" + ",".join(f"{each}:.{each}" for each in members) + "}"
    )


def why_no_path(path: str) -> Reason | None:
    """Say why a text is no such path. None when it is one, or empty."""
    if not path:
        return None
    if len(path) > MAX_CHARS or not _PATH.fullmatch(path) or path.startswith(("/", _OWN)) or not _MEMBER.search(path):
        return (
            "must be folders with members of what is emitted, such as `sales/shop={shop}/day={day}/`, "
            f"in at most {MAX_CHARS} characters, and not below {_OWN}"
        )
    return None
