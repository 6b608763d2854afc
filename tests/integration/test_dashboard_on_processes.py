"""What is done on the dashboard of a real controller takes effect in real cells, and is told in a real registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.aio import until
from tests.support.chromium import BINARY, Tab, chromium
from tests.support.page_checks import TEXT
from tests.support.page_hands import DIALOG, act, confirm, open_page, press
from tests.support.system import Role, System, page

pytestmark = [
    pytest.mark.one_kind,  # the page does the same whatever the servers
    pytest.mark.skipif(BINARY is None, reason="there is no Chromium"),
]

KEY: Final = "acme"


async def cell_of_next_event(system: System) -> str:
    """Send one event of the key, and return the cell that did it."""
    await system.send([{"key": KEY}])
    await system.done({system.sent[-1]})
    return str(system.deeds()[-1]["cell"])


async def goes_to(role: Role, cell_id: str) -> None:
    """Wait until the key's events go to this cell."""

    async def found() -> bool:
        said: dict[str, Any] = json.loads(page(f"{role.url}/fleet/key?key={KEY}"))
        return said["cell"] == cell_id and ["moving to", "-"] in said["rows"]

    await until(found, f"{KEY} goes to {cell_id}")


def test_deeds_on_the_page_reach_the_cells_and_are_undone(on_system: Callable[..., System], tmp_path: Path) -> None:
    """A cell is frozen and a key pinned through a controller; its events follow, and go back when that is undone."""

    async def story(system: System) -> None:
        router = await system.router()
        first = await cell_of_next_event(system)
        (other,) = {"cell-0000", "cell-0001"} - {first}
        async with chromium(tmp_path / "browser") as tab:
            await tab.call("Page.navigate", url=f"{system.leader.url}/#/cells/{first}")
            await tab.until("!!document.querySelector('main .slots:not([hidden]) button')")
            await act(tab, "Freeze", f"Freeze {first}", "to look at it", "In force within a second, as version 1")
            await tab.until(f"{TEXT}.includes('by hand')")
            await pin(tab, other)
            await goes_to(router, other)
            assert await cell_of_next_event(system) == other
            await open_page(tab, "#/audit")
            await act(tab, "Undo the last change", "Undo version 2", "a mistake", f"Taken back: pin {KEY}")
            await goes_to(router, first)
            assert await cell_of_next_event(system) == first
            assert tab.console == []
        done = [entry for entry in await system.leader.audit() if entry["who"] == "somebody on this machine"]
        assert [(entry["action"], entry["why"].partition(". ")[2]) for entry in done] == [
            ("freeze", "to look at it"),
            ("pin", "they pay for it"),
            ("undo", "a mistake"),
        ]
        (cell,) = [cell for cell in await system.leader.lanes() if cell["cell_id"] == first]
        assert cell["frozen"], "what was done before the last change stays"

    on_system(story)


async def pin(tab: Tab, cell_id: str) -> None:
    """Pin the key to the other of the two cells, which is the one that the page proposes."""
    await open_page(tab, f"#/key/{KEY}")
    await press(tab, "Pin")
    await press(tab, "See the plan", "dialog")
    await tab.until(f"{DIALOG}.includes('→ {cell_id}')")
    await confirm(tab, f"Pin {KEY} to {cell_id}", "they pay for it", "In force within a second, as version 2")
    await press(tab, "Close", "dialog")
