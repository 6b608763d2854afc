"""Makes the pictures of docs/images, of a fleet that nobody runs: `python -m docs.screenshots`, where Chromium is."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from tests.support.aio import run
from tests.support.chromium import Tab, chromium
from tests.support.dashboard_rig import Rig, dashboard

IMAGES: Final = Path(__file__).parent / "images"
DESKTOP: Final = (1280, 960, 1.0)
SMALL: Final = (1280, 640, 1.0)
PHONE: Final = (390, 844, 2.0)


async def pictures(rig: Rig, tab: Tab) -> None:
    """Take one of each thing that the page may say."""
    world = rig.world
    await tab.call("Page.navigate", url=rig.url)
    await tab.until("document.querySelectorAll('a.hex').length == 24")
    world.remember()
    await tab.until("!!document.querySelector('.band [data-health=treated]')")
    await take(tab, "dashboard", *DESKTOP)
    world.falls_ill()
    world.is_in_hand()
    await tab.until("!!document.querySelector('.doing .matter')")
    await take(tab, "dashboard-phone", *PHONE)
    await tab.scheme("dark")
    await take(tab, "dashboard-dark", *DESKTOP)
    await tab.scheme("light")
    world.is_given_up()
    await tab.until("!!document.querySelector('.urgent .matter')")
    await take(tab, "dashboard-given-up", *DESKTOP)
    await tab.run("location.hash = '#/cells/cell-0007'")
    await tab.until("document.querySelectorAll('.facts dt').length > 12")
    await take(tab, "dashboard-cell", *DESKTOP)
    await plan_of_a_drain(tab)
    await tab.run("location.hash = '#/key/acme'")
    await tab.until("document.querySelectorAll('.facts dt').length > 8")
    await tab.until("!!document.querySelector('.slots:not([hidden]) button')")
    await take(tab, "dashboard-key", *SMALL)
    await tab.run("location.hash = '#/'")
    world.registry.down = True
    await tab.until("document.body.innerText.includes('Redis is lost')")
    await take(tab, "dashboard-redis-lost", *DESKTOP)
    world.registry.down = False
    await tab.until("document.getElementById('stale').hidden")
    await rig.stop()
    await tab.until("!document.getElementById('stale').hidden")
    await take(tab, "dashboard-stale", *DESKTOP)


async def plan_of_a_drain(tab: Tab) -> None:
    """Take the dialog in which people act."""
    await tab.run("location.hash = '#/cells/cell-0012'")
    button = "[...document.querySelectorAll('.slots button')].find((each) => each.textContent.startsWith('Drain'))"
    await tab.until(f"{button}?.checkVisibility()")
    await tab.run(f"{button}.click()")
    await tab.until("document.activeElement.id === 'deed-why'")
    await tab.write("its disk is old")
    await take(tab, "dashboard-plan", *DESKTOP)
    await tab.press("Escape")


async def take(tab: Tab, name: str, width: int, height: int, scale: float) -> None:
    """Save what the page looks like on such a screen."""
    await tab.size(width, height, scale)
    await asyncio.sleep(1.2)  # noqa: TID251 - what moves on the page comes to rest
    data = await tab.picture("webp", quality=62)
    (IMAGES / f"{name}.webp").write_bytes(data)
    print(f"{name}: {len(data) / 1000:.0f} kB")  # noqa: T201 - for who runs it


async def main() -> None:
    """Serve the page, and take the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        async with dashboard() as rig, chromium(Path(folder)) as tab:
            await tab.size(*DESKTOP)
            await pictures(rig, tab)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    run(main(), limit_s=120)
