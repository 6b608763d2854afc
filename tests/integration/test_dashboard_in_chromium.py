"""The dashboard in a real browser: what a person sees of a fleet that falls ill, and what a hostile text does there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from router.api.feed import MAX_STREAMS
from tests.support.aio import run
from tests.support.chromium import BINARY, Tab, chromium
from tests.support.dashboard_rig import Rig, dashboard
from tests.support.fleet_world import HOSTILE, SICK
from tests.support.page_checks import CONTRAST, NAMELESS, TEXT

pytestmark = [
    pytest.mark.one_kind,  # it asks for no server
    pytest.mark.skipif(BINARY is None, reason="there is no Chromium"),
]

HEX: Final = f"document.querySelector('a.hex[href$=\"{SICK}\"]')"


async def in_one_session(rig: Rig, tab: Tab) -> None:
    """Go through what a person may see."""
    await is_well_at_first(rig, tab)
    await changes_while_it_is_open(rig, tab)
    await rig.stop()  # it says nothing new from now on
    await goes_by_keyboard_and_on_a_phone(tab)
    await says_when_it_is_not_up_to_date(rig, tab)
    await makes_nothing_of_hostile_texts(rig, tab)
    assert tab.console == []
    await asks_where_it_is_not_told(rig, tab)
    assert {url.split("/")[2] for url in tab.asked if not url.startswith("data:")} == {rig.url.split("/")[2]}


async def is_well_at_first(rig: Rig, tab: Tab) -> None:
    """One glance tells that all is well, where this is, and how fresh it is."""
    await tab.size(1280, 900)
    await tab.call("Page.navigate", url=rig.url)
    await tab.until(f"{TEXT}.includes('All is well') && {TEXT}.includes('live')")
    assert await tab.run("[...document.querySelectorAll('a.hex')].length") == 24
    assert await tab.run("document.getElementById('environment').textContent") == "production"
    assert await tab.run("document.title") == "All is well · fleet · cellrouter"
    assert await tab.run("document.querySelectorAll('h1').length") == 1
    for scheme in ("dark", "light"):
        await tab.scheme(scheme)
        assert await tab.run(CONTRAST) == []
    assert await tab.run(NAMELESS) == []


async def changes_while_it_is_open(rig: Rig, tab: Tab) -> None:
    """A cell falls ill and is given up; what a person has selected meanwhile stays selected."""
    await tab.run("getSelection().selectAllChildren(document.querySelector('.tile dt'))")
    rig.world.falls_ill()
    rig.world.is_in_hand()
    await tab.until(f"{HEX}.dataset.health === 'treated'")
    await tab.until(f"{TEXT}.includes('Nothing needs you; 2 things are being done')")
    assert "‖" in await tab.run("document.querySelector('.legend').textContent"), "no meaning by colour alone"
    assert await tab.run("document.querySelector('.hand').innerText.includes('cell-0003 is draining: disk')")
    rig.world.is_given_up()
    await tab.until(f"{HEX}.dataset.health === 'given-up'")
    await tab.until(f"{TEXT}.includes('2 things need you') && {TEXT}.includes('cellrouter explain {SICK}')")
    await tab.until("document.getElementById('spoken').textContent === '2 things need you'")
    assert await tab.run("getSelection().toString()") == "Throughput"
    assert await tab.run(CONTRAST) == []


async def goes_by_keyboard_and_on_a_phone(tab: Tab) -> None:
    """The honeycomb is one stop of the tab key; a narrow page needs no scrolling sideways."""
    await tab.run("document.querySelector('a.hex[tabindex=\"0\"]').focus()")
    for _ in range(7):
        await tab.press("ArrowRight")
    assert await tab.run("document.activeElement.getAttribute('aria-label')"), "an arrow leads to the next cell"
    await tab.press("Enter")
    await tab.until(f"document.querySelector('h1')?.textContent === '{SICK}'")
    await tab.until(f"{TEXT}.includes('kept from treatment by') && {TEXT}.includes('S: deviation of its tenants')")
    assert await tab.run("document.activeElement.id") == "content"
    assert await tab.run(NAMELESS) == []
    await tab.size(390, 844)
    for page in ("#/", f"#/cells/{SICK}", "#/audit?find=ada", "#/key/acme"):
        await tab.run(f"location.hash = '{page}'")
        await tab.until("!!document.querySelector('main h1') && !!document.querySelector('main .card')")
        assert await tab.run("document.documentElement.scrollWidth") == 390, page
        assert await tab.run(CONTRAST) == [], page
    await tab.until(f"{TEXT}.includes('50/s, burst 100')")
    await tab.run("location.hash = '#/audit?find=ada+drain'")
    await tab.until("document.querySelectorAll('tbody tr').length === 1")
    await tab.run("location.hash = '#/'")


async def says_when_it_is_not_up_to_date(rig: Rig, tab: Tab) -> None:
    """A process that has nothing new, and Redis lost: both grey the page and say since when."""
    await tab.until("document.querySelector('[role=alert]').innerText.includes('Nothing new can be read.')")
    rig.start()
    await tab.until("document.querySelector('[role=alert]').hidden")
    rig.world.registry.down = True
    await tab.until(f"{TEXT}.includes('Redis is lost') && {TEXT}.includes('stale')")
    assert await tab.run("document.querySelector('[role=alert]').innerText.includes('Nothing new can be read.')")
    assert await tab.run("getComputedStyle(document.querySelector('main')).filter") == "grayscale(0.9)"
    assert await tab.run("[...document.querySelectorAll('a.hex')].length") == 24, "what was known stays"
    rig.world.registry.down = False
    await tab.until(f"!{TEXT}.includes('Redis is lost') && {TEXT}.includes('live')")


async def makes_nothing_of_hostile_texts(rig: Rig, tab: Tab) -> None:
    """Keys, reasons, names of people and actions that are markup are shown as they are, on every page."""
    rig.world.is_attacked()
    shown = HOSTILE.replace('"', '\\"')
    for page in ("#/", f"#/cells/{SICK}", "#/audit"):
        await tab.run(f"location.hash = '{page}'")
        await tab.until(f'{TEXT}.includes("{shown}")')
    await tab.run(f'location.hash = "#/key/" + encodeURIComponent("{shown}")')
    await tab.until(f'{TEXT}.includes("{shown}")')
    assert await tab.run("document.querySelectorAll('main img, main script, [onerror]').length") == 0
    assert "cellrouter" in await tab.run("document.title")


async def asks_where_it_is_not_told(rig: Rig, tab: Tab) -> None:
    """Where as many pages have a stream as may have one, the next asks, and is as fresh."""
    rig.world.feed.streams += MAX_STREAMS
    await tab.run("location.hash = '#/'")
    await tab.call("Page.reload")
    await tab.until(f"{TEXT}.includes('live ·') && !!{HEX}")
    rig.world.troubles.append("the registry is read-only")
    await tab.until(f"{TEXT}.includes('the registry is read-only')")


def test_the_dashboard_in_a_browser(tmp_path: Path) -> None:
    """One session: live change, keyboard, phone, Redis lost, stale, injection, contrast, and no console line."""

    async def story() -> None:
        async with dashboard() as rig, chromium(tmp_path) as tab:
            await in_one_session(rig, tab)

    run(story(), limit_s=120)
