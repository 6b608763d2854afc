"""Puts what the controller did into words for somebody who watches the demo and has never read an audit. Pure."""

from __future__ import annotations

import re
from typing import Final

from router.core.models import Reason

LAST_WORDS: Final = "; its last words:"  # begins an instance's log in the audit, which is too long to show
_TRIAL: Final = re.compile(r"generation \d+ is slower: (.+, its twin [^(]+) \(.*\), (generation \d+)")


def told(action: str, cell_id: str, why: Reason) -> str | None:
    """Say what an entry of the audit means; None where the next entry says the same."""
    why = why.partition(LAST_WORDS)[0]
    match action:
        case "treat":
            return f"{cell_id} is sick: {why}"
        case "replace":
            return None
        case "launch" if " is slow: " in why:
            return f"{cell_id}: {why.partition(':')[0]} is launched beside it, as its twin, to see whether it is faster"
        case "admit" if found := _TRIAL.fullmatch(why):
            return f"{cell_id}: {found[1]}: replaced by {found[2]}"
    return f"{action} {cell_id}".strip() + f": {why}"
