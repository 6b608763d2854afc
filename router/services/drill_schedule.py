"""Does drills one after the other, each when it is due. What ends one ends none of the later ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from router.core.drills.kinds import AUDIT_READ, DrillKind, last_ms
from router.core.drills.schedule import DrillWindow, Every, due_ms
from router.core.errors import CellRouterError, RegistryUnavailableError
from router.ports import Clock, FleetReader

AGAIN_S: Final = 600.0  # after a drill that was refused or came to nothing, while its window is open
STEP_S: Final = 60.0  # between two looks at when the next one is due: another process may have done it


async def next_due_ms(registry: FleetReader, kind: DrillKind, every: Every, window: DrillWindow, clock: Clock) -> int:
    """Return when the next drill of a kind is due, by what the audit tells of the last one, in ms since 1970."""
    return due_ms(every, window, last_ms(await registry.audit(AUDIT_READ), kind), clock.time_ms())


async def repeat_drills(
    due: Callable[[], Awaitable[int]], drill: Callable[[], Awaitable[None]], clock: Clock, tell: Callable[[str], None]
) -> None:
    """Do a drill whenever one is due, until cancelled."""
    told = 0
    while True:
        try:
            due_at = await due()
            if due_at <= clock.time_ms():
                await drill()
                continue
        except RegistryUnavailableError as error:
            tell(f"it can't be told when the next drill is due: {error}")
            await clock.sleep(STEP_S)
        except CellRouterError as error:
            tell(f"no drill; tried again in {AGAIN_S / 60:.0f} minutes: {error}")
            await clock.sleep(AGAIN_S)
        else:
            if due_at != told:
                told = due_at
                tell(f"the next drill is due in {(due_at - clock.time_ms()) / 3600e3:.1f} h")
            await clock.sleep(min(STEP_S, (due_at - clock.time_ms()) / 1000))
