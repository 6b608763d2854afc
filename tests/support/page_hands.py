"""What a person does on the dashboard's page, by keyboard: press a button, give a reason, agree to a plan."""

from __future__ import annotations

from typing import Final

from tests.support.chromium import Tab

DIALOG: Final = "(document.querySelector('dialog[open]')?.innerText ?? '')"
"""All that the open dialog says."""
FOCUSED: Final = "(document.activeElement.id || document.activeElement.textContent)"
"""What has the focus: its id, else its text."""


def in_page(text: str) -> str:
    """Write a text as the page's own language has it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


async def open_page(tab: Tab, page: str) -> None:
    """Open another page of the dashboard, and wait for its actions."""
    await tab.run("document.querySelector('main > *').dataset.before = ''")
    await tab.run(f"location.hash = {in_page(page)}")
    await tab.until("!document.querySelector('main > [data-before]')")
    await tab.until("!!document.querySelector('main .slots:not([hidden]) button')")


async def press(tab: Tab, label: str, where: str = "main") -> None:
    """Press the button that begins with this, by keyboard."""
    button = f"[...document.querySelectorAll('{where} button')].find((e) => e.textContent.startsWith({in_page(label)}))"
    await tab.until(f"!!{button} && !{button}.disabled")
    await tab.run(f"{button}.focus()")
    await tab.press("Enter")


async def act(tab: Tab, label: str, deed: str, why: str, result: str) -> None:
    """Take an action that needs no more words: open it, give the reason, do it, and read what became of it."""
    await press(tab, label)
    await confirm(tab, deed, why, result)
    await press(tab, "Close", "dialog")


async def confirm(tab: Tab, deed: str, why: str, result: str) -> None:
    """Agree to the plan that is shown."""
    await tab.until(f"{FOCUSED} === 'deed-why'")
    await tab.write(why)
    await press(tab, deed, "dialog")
    await tab.until(f"{DIALOG}.includes({in_page(result)})")
