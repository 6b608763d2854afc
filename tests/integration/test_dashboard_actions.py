"""The dashboard's actions in a real browser: who may, what is planned and agreed to, and what is said when it fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from router.core.messages.dead_letter import of_event, to_drafts
from router.core.models import Event, Message
from tests.support.admin_rig import OPERATOR, TOKENS, VIEWER
from tests.support.aio import run
from tests.support.chromium import BINARY, Tab, chromium
from tests.support.dashboard_rig import Rig, dashboard
from tests.support.fleet_world import HOSTILE, SICK
from tests.support.page_checks import AXE_FINDS, CONTRAST, NAMELESS, TEXT, axe_core
from tests.support.page_hands import DIALOG, FOCUSED, act, confirm, in_page, open_page, press

pytestmark = [
    pytest.mark.one_kind,  # it asks for no server
    pytest.mark.skipif(BINARY is None, reason="there is no Chromium"),
]

WEIGH: Final = """{
  const input = document.activeElement;
  input.value = "4";
  input.dispatchEvent(new Event("input", { bubbles: true }));
}"""
CHOOSE: Final = """{
  const select = document.activeElement;
  select.value = "cell-0005";
  select.dispatchEvent(new Event("input", { bubbles: true }));
}"""
REFUSED: Final = "Failed to load resource"  # the browser's own line about an answer that is an error


def newest(rig: Rig) -> Any:
    """Return the newest entry of the audit."""
    return rig.world.registry.contents.audit[-1]


async def is_done_by_keyboard(rig: Rig, tab: Tab) -> None:
    """A plan first, a reason, a button that names the deed; and the focus comes back to where it was."""
    policy = rig.world.registry.contents.policy
    await tab.until(f"{TEXT}.includes('no tokens are set, so whoever is on this machine may act')")
    await press(tab, "Freeze")
    await tab.until(f"{DIALOG}.includes('{SICK}: frozen: would move nothing')")
    await tab.until(f"{FOCUSED} === 'deed-why'")
    await press(tab, f"Freeze {SICK}", "dialog")
    assert await tab.run("document.getElementById('deed-why').matches(':invalid')"), "there is no deed without a reason"
    for scheme in ("dark", "light"):
        await tab.scheme(scheme)
        assert await tab.run(CONTRAST) == []
    assert await tab.run(NAMELESS) == []
    await tab.press("Escape")
    await tab.until("!document.querySelector('dialog[open]')")
    assert await tab.run(FOCUSED) == "Freeze …"
    assert rig.world.registry.contents.policy is policy, "what is only planned changes nothing"
    await act(tab, "Freeze", f"Freeze {SICK}", "to look at it", "In force within a second, as version 1 of the policy")
    assert rig.world.registry.contents.policy.frozen == {SICK}
    assert (newest(rig).who, newest(rig).why) == ("somebody on this machine", f"{SICK}: frozen. to look at it")
    await tab.until(f"{FOCUSED} === 'Unfreeze …'")
    for label in ("Eject", "Replace", "Evict", "Drain"):
        await act(tab, label, f"{label} {SICK}", HOSTILE, "In force within a second")
    policy = rig.world.registry.contents.policy
    assert policy.ejected == policy.draining == {SICK}
    assert policy.to_evict == policy.to_replace == {SICK: 3}
    await tab.until("!!document.querySelector('main').innerText.includes('<script>')")


async def holds_to_the_plan(rig: Rig, tab: Tab) -> None:
    """What is not as it was shown is not done; it is shown anew, and the reason is kept."""
    has = rig.world.registry.contents
    await open_page(tab, "#/cells/cell-0002")
    await press(tab, "Replace")
    await tab.until(f"{DIALOG}.includes('generation 3 serves until then')")
    has.cells["cell-0002"] = replace(has.cells["cell-0002"], generation=4)
    await confirm(tab, "Replace cell-0002", "a new machine", "The plan has changed since it was shown")
    await tab.until(f"{DIALOG}.includes('another instance; generation 4 serves until then: would move nothing')")
    assert "cell-0002" not in has.policy.to_replace
    assert await tab.run("document.getElementById('deed-why').value") == "a new machine"
    await press(tab, "Replace cell-0002", "dialog")
    await tab.until(f"{DIALOG}.includes('In force within a second')")
    assert has.policy.to_replace["cell-0002"] == 4
    await press(tab, "Close", "dialog")


async def says_when_nothing_is_known(rig: Rig, tab: Tab) -> None:
    """An answer that never came may hide a deed that is done; a refusal is told in the API's own words."""
    await tab.call("Network.setBlockedURLs", urls=["*/v1/changes"])
    await press(tab, "Freeze")
    await confirm(tab, "Freeze cell-0002", "to look", "It may be in force, or not. Look at the audit")
    assert await tab.run(f"{DIALOG}.includes('No answer')")
    await press(tab, "Cancel", "dialog")
    await tab.call("Network.setBlockedURLs", urls=[])
    await press(tab, "Freeze")
    await tab.until(f"{FOCUSED} === 'deed-why'")
    rig.world.registry.down = True
    await confirm(tab, "Freeze cell-0002", "to look", "The registry is out of reach")
    assert await tab.run(f"{DIALOG}.includes('It may be in force, or not')")
    await press(tab, "Cancel", "dialog")
    await press(tab, "Freeze")
    await tab.until(f"{DIALOG}.includes('The registry is out of reach')")
    rig.world.registry.down = False
    await press(tab, "Look again", "dialog")
    await tab.until(f"{FOCUSED} === 'deed-why'")
    await tab.press("Escape")


async def acts_on_keys(rig: Rig, tab: Tab) -> None:
    """Whatever the key is called; on a narrow page too."""
    has = rig.world.registry.contents
    await tab.size(390, 844)
    await tab.run(f"location.hash = '#/key/' + encodeURIComponent({in_page(HOSTILE)})")
    await press(tab, "Pin")
    await tab.until(f"{FOCUSED} === 'deed-cell'")
    await tab.run(CHOOSE)
    await press(tab, "See the plan", "dialog")
    await tab.until(f"{DIALOG}.includes('→ cell-0005')")
    assert await tab.run("document.documentElement.scrollWidth") == 390
    assert await tab.run("document.querySelector('dialog').getBoundingClientRect().right < 390")
    assert await tab.run("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('dialog'))")
    assert await tab.run(CONTRAST) == []
    assert await tab.run(NAMELESS) == []
    await confirm(tab, f"Pin {HOSTILE} to cell-0005", "a noisy neighbour", "In force within a second")
    await press(tab, "Close", "dialog")
    assert has.policy.pins == {HOSTILE: "cell-0005"}
    await press(tab, "Limit")
    await press(tab, "See the plan", "dialog")
    await confirm(tab, f"Limit {HOSTILE}", "a runaway script", "rate 100/s, burst 200, concurrency any")
    await press(tab, "Close", "dialog")
    await press(tab, "Turns")
    await tab.until(f"{FOCUSED} === 'deed-weight'")
    await tab.run(WEIGH)
    await press(tab, "See the plan", "dialog")
    await confirm(tab, f"Set the turns of {HOSTILE}", "they pay for it", "weight 4, normal priority")
    await press(tab, "Close", "dialog")
    assert has.policy.fairness[HOSTILE].weight == 4
    await press(tab, "Quarantine")
    await press(tab, "See the plan", "dialog")
    await confirm(tab, f"Quarantine {HOSTILE}", "it crashes", "in quarantine for 3600 s")
    await press(tab, "Close", "dialog")
    await act(tab, "Release", f"Release {HOSTILE}", "mended", "released; what waited goes on soon")
    assert has.policy.in_quarantine(HOSTILE, rig.world.clock.time_ms()) is None
    assert (has.policy.limits[HOSTILE].rate_per_s, has.policy.limits[HOSTILE].burst) == (100, 200)
    assert await tab.run("document.querySelectorAll('img:not([src*=icon]), main script, dialog script').length") == 0
    await tab.size(1280, 900)


async def undoes(rig: Rig, tab: Tab) -> None:
    """What was agreed to is taken back, and never another change that came first."""
    has = rig.world.registry.contents
    await open_page(tab, "#/audit")
    await press(tab, "Undo the last change")
    await tab.until(f"{DIALOG}.includes('take back release')")
    shown = has.policy.version
    entry = replace(newest(rig), action="cordon")
    assert await rig.world.registry.change_policy(has.policy.with_cordon("cell-0009"), entry)
    await confirm(tab, f"Undo version {shown}", "a mistake", "The plan has changed since it was shown")
    await tab.until(f"{DIALOG}.includes('take back cordon')")
    await press(tab, f"Undo version {shown + 1}", "dialog")
    await tab.until(
        f"{DIALOG}.includes('Taken back: cordon') && {DIALOG}.includes('The next undo takes back: release')"
    )
    await press(tab, "Close", "dialog")
    assert has.policy.cordoned == has.policy.draining
    assert newest(rig).action == "undo"
    await tab.until(f"[...document.querySelectorAll('tbody tr')].length > 8 && {TEXT}.includes('a mistake')")


async def redrives(rig: Rig, tab: Tab) -> None:
    """A trial first, and then no more than that; where the process has no rights to the queue, it says so."""
    for number, key in enumerate(("acme", "acme", "other")):
        event, message = Event(f"event-{number}", key, b"{}", 5), Message(f"m{number}", "r", "{}", 1, 1, {})
        letter = of_event(event, message, reason="rejected", error="no", source="source", dead_at_ms=1)
        await rig.dead.send(to_drafts(letter))
    rig.world.is_given_up()  # there are dead letters now, as the routers see it
    await open_page(tab, "#/")
    await press(tab, "Redrive")
    await tab.until(f"{FOCUSED} === 'deed-reason'")
    await tab.run("document.getElementById('deed-key').focus()")
    await tab.write("acme")
    await press(tab, "See the plan", "dialog")
    await tab.until(
        f"{DIALOG}.includes('2 dead letters would be sent back') && {DIALOG}.includes('event-0: to source')"
    )
    await confirm(tab, "Redrive these dead letters", "the handler is mended", "2 dead letters sent back, 0 failed")
    await press(tab, "Close", "dialog")
    assert (await rig.dead.depth()).waiting == 1
    assert newest(rig).why == "dead letters: key 'acme', at most 1000 of them. the handler is mended"
    about = rig.world.feed._about
    rig.world.feed._about = replace(about, role="controller")
    await tab.until(f"{TEXT}.includes('Ask a router')")
    assert await tab.run("document.querySelector('.tile button').disabled")
    rig.world.feed._about = about


async def signs_in(rig: Rig, tab: Tab) -> None:
    """A wrong token is not kept, who may only look is told so, and the token stays in its tab."""
    await press(tab, "Freeze")
    await tab.until(f"{FOCUSED} === 'deed-token'")
    assert await tab.run(NAMELESS) == []
    assert await tab.run(CONTRAST) == []
    assert not [url for url in tab.asked if "/v1/" in url], "nobody is asked for who only looks"
    for token, said in (("two words", "This is no token"), (OPERATOR[:-1], "this token is not believed")):
        await tab.until(f"{FOCUSED} === 'deed-token'")
        await tab.write(token)
        await press(tab, "Sign in", "dialog")
        await tab.until(f"{DIALOG}.includes('{said}')")
        assert await tab.run("sessionStorage.length") == 0
    await tab.write(VIEWER)
    await press(tab, "Sign in", "dialog")
    await tab.until(f"{DIALOG}.includes('vera may only look')")
    await tab.press("Escape")
    assert await tab.run("[...document.querySelectorAll('main .slots button')].every((e) => e.disabled)")
    assert await tab.run("document.getElementById('slots-said').innerText.includes('vera may only look')")
    await press(tab, "Sign out", "footer")
    await press(tab, "Freeze")
    await tab.until(f"{FOCUSED} === 'deed-token'")
    await tab.write(OPERATOR)
    await press(tab, "Sign in", "dialog")
    await confirm(tab, f"Freeze {SICK}", "to look", "In force within a second")
    assert newest(rig).who == "otto"
    await tab.call("Page.reload")
    await tab.until(f"{TEXT}.includes('Signed in as otto, who may act.')")
    assert not [url for url in tab.asked if OPERATOR in url]
    assert await tab.run("localStorage.length + document.cookie.length") == 0
    await tab.run("sessionStorage.setItem('cellrouter-token', 'taken-back')")
    await tab.call("Page.reload")
    await tab.until("sessionStorage.length === 0")
    await press(tab, "Unfreeze")
    await tab.until(f"{FOCUSED} === 'deed-token'")


async def begin(rig: Rig, tab: Tab) -> None:
    """Open the page of a cell."""
    await tab.size(1280, 900)
    await tab.call("Page.navigate", url=f"{rig.url}#/cells/{SICK}")
    await tab.until("!!document.querySelector('main .slots:not([hidden]) button')")
    assert await tab.run(NAMELESS) == []


def test_what_is_done_from_the_page_is_planned_agreed_to_and_audited(tmp_path: Path) -> None:
    """One session on the process' own machine: cells, keys, undo and dead letters, and all that may go wrong."""

    async def story() -> None:
        async with dashboard() as rig, chromium(tmp_path) as tab:
            await begin(rig, tab)
            await is_done_by_keyboard(rig, tab)
            assert tab.console == []
            await holds_to_the_plan(rig, tab)
            await says_when_nothing_is_known(rig, tab)
            await acts_on_keys(rig, tab)
            await undoes(rig, tab)
            await redrives(rig, tab)
            assert [line for line in tab.console if REFUSED not in line] == []
            assert {url.split("/")[2] for url in tab.asked if not url.startswith("data:")} == {rig.url.split("/")[2]}

    run(story(), limit_s=120)


def test_who_acts_signs_in_where_tokens_are_set(tmp_path: Path) -> None:
    """One session with wrong tokens, one that may only look, one that may act, and one that was taken back."""

    async def story() -> None:
        async with dashboard(tokens=TOKENS) as rig, chromium(tmp_path) as tab:
            await begin(rig, tab)
            await signs_in(rig, tab)
            assert [line for line in tab.console if REFUSED not in line] == []

    run(story(), limit_s=120)


async def is_clean(tab: Tab, script: str, what: str) -> None:
    """Have axe-core look at the page as it is, in both schemes."""
    await tab.run(f"{script}; 0")
    for scheme in ("dark", "light"):
        await tab.scheme(scheme)
        assert await tab.run(AXE_FINDS) == [], f"{what}, {scheme}"


def test_axe_finds_nothing_wrong_on_any_page_and_in_any_step(tmp_path: Path) -> None:
    """Of a fleet with something to tell, wide and on a phone; and it does find what is wrong."""
    script = axe_core()
    if script is None:
        pytest.skip("axe-core is not installed")

    async def story() -> None:
        async with dashboard() as rig, chromium(tmp_path) as tab:
            await begin(rig, tab)
            for tell in (rig.world.falls_ill, rig.world.is_in_hand, rig.world.is_given_up):
                tell()
            for width in (1280, 390):
                await tab.size(width, 900)
                await open_page(tab, "#/")
                await is_clean(tab, script, "the fleet")
                await open_page(tab, "#/audit")
                await is_clean(tab, script, "the audit")
                await open_page(tab, "#/key/acme")
                await is_clean(tab, script, "a key")
                await press(tab, "Limit")
                await tab.until(f"{FOCUSED} === 'deed-how'")
                await is_clean(tab, script, "what exactly")
                await tab.press("Escape")
                await open_page(tab, "#/cells/cell-0002")
                await is_clean(tab, script, "a cell")
                await press(tab, "Drain")
                await tab.until(f"{FOCUSED} === 'deed-why'")
                await is_clean(tab, script, "the plan")
                await tab.run("document.querySelector('label[for=deed-why]').htmlFor = ''")
                assert await tab.run(AXE_FINDS), "a field without a name"
                await tab.press("Escape")

    run(story(), limit_s=120)
