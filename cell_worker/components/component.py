"""A component: a part of a cell that can be observed and restarted on its own."""

from __future__ import annotations

from typing import Protocol


class Component(Protocol):
    """What GET /components shows and POST /v1/components/{name}/restart restarts."""

    @property
    def name(self) -> str:
        """One word, unique in the cell: worker, store, sink, and so on."""
        ...

    async def check(self) -> str:
        """Describe a healthy state in a few words. Any exception means unhealthy, and its text is shown."""
        ...

    async def restart(self) -> None:
        """Drop what may be broken (connections, caches) and build it anew. Loses no event. Idempotent."""
        ...
