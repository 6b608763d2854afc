"""The common part of all tests in which a sick cell gets another instance."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from router.core.registry import AuditEntry
from tests.support.sick_system import Episode, SickSystem

TO_BE_SAFE_S = 60.0  # three times the promise, because the machine may be busy
TO_SERVE_S = 90.0
RUNGS = {
    "treat",
    "restart components",
    "restart instance",
    "replace",
    "reprovision",
    "give up",
    "recovered",
    "launch",
    "admit",
}


def ladder(audit: Sequence[AuditEntry]) -> list[str]:
    """List the rungs that were taken, in order, and check that each has a reason. Guarded treatments are left out."""
    rungs = [entry for entry in audit if entry.action in RUNGS]
    assert all(entry.why for entry in rungs)
    return [entry.action for entry in rungs]


async def replaced(
    world: SickSystem, victim: str, strike: str | Callable[[], Awaitable[None]], *options: str, gray: bool = False
) -> Episode:
    """Make an instance sick by `cellrouter chaos` or by a call; check that it is made safe and that another one serves.

    No slot moves. The other cells keep their generations, and do only their own events, once and at the first attempt.
    With `gray`, the sick instance's health check must say all the while that it is ready.
    """
    slot_map, before, address = (
        await world.map(),
        await world.generations(),
        await _address(world, victim),
    )

    async def fails() -> None:
        if callable(strike):
            await strike()
        else:
            await world.cli("chaos", strike, victim, *options, "--for", "300")
        assert not gray or await asyncio.to_thread(_is_ready, address)

    episode = await world.falls_ill(victim, fails)
    assert episode.safe_s < TO_BE_SAFE_S
    assert episode.serving_s < TO_SERVE_S
    assert await world.map() == slot_map
    assert await world.generations() == before | {victim: before[victim] + 1}
    meanwhile = [deed for deed in world.deeds if deed["at_ms"] >= episode.began_ms]
    assert all(deed["cell"] == slot_map.cell_of(deed["key"]) for deed in meanwhile)
    others = [deed for deed in meanwhile if deed["cell"] != victim]
    assert {(deed["generation"], deed["attempt"]) for deed in others} == {(before[d["cell"]], 1) for d in others}
    assert max(Counter(deed["event"] for deed in others).values()) == 1
    return episode


async def _address(world: SickSystem, cell_id: str) -> str:
    return (await world.lease(cell_id)).address


def _is_ready(address: str) -> bool:
    with urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as reply:
        return bool(reply.status == 200)
