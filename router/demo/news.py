"""What a controller does, told as it happens and in words for somebody who has never read an audit."""

from __future__ import annotations

import re
from typing import Any, Final

from router.core.models import Reason
from router.demo.system_client import SystemClient

LAST_WORDS: Final = "; its last words:"  # begins an instance's log in the audit, which is too long to show
_TRIAL: Final = re.compile(r"generation \d+ is slower: (.+, its twin [^(]+) \(.*\), (generation \d+)")


class News:
    """Tells each entry of a controller's audit once, those from before a moment left out."""

    def __init__(self, system: SystemClient, since_ms: int) -> None:
        self._system = system
        self._since_ms = since_ms
        self._told_of: set[tuple[Any, ...]] = set()

    async def lines(self) -> list[str]:
        """Say what the controller has done since the last call; nothing while it can't be reached."""
        new = []
        for entry in await self._system.audit():
            key = tuple(entry.values())
            if entry["at_ms"] >= self._since_ms and key not in self._told_of:
                self._told_of.add(key)
                if text := told(entry["action"], entry["cell_id"], entry["why"]):
                    new.append(text)
        return new


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
