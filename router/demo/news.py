"""What a controller does, told as it happens."""

from __future__ import annotations

from typing import Any, Final

from router.demo.system_client import SystemClient

LAST_WORDS: Final = "; its last words:"  # begins an instance's log in the audit, which is too long to show


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
                what = " ".join(f"{entry['action']} {entry['cell_id']}".split())
                new.append(f"{what}: {entry['why'].partition(LAST_WORDS)[0]}")
        return new
