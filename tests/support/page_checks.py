"""What is asked of every page in a browser, as expressions that it evaluates."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

TEXT: Final = "(document.body?.innerText ?? '')"
"""All that the page says."""

CONTRAST: Final = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility() || element.closest("svg, .unseen, script")) continue;
    const backs = [];
    for (let at = element; at; at = at.parentElement) backs.unshift(getComputedStyle(at).backgroundColor);
    const a = light(over(["white", ...backs])), b = light(over(["white", ...backs, getComputedStyle(element).color]));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${element.className}: ${node.textContent}`);
  }
  return low;
})()"""
"""Every text whose contrast to what is behind it is below 4.5."""

NAMELESS: Final = """[...document.querySelectorAll(
    "a[href], button, input, select, textarea, dialog[open], [tabindex='0'], section, svg[role], [role='group']")]
  .filter((e) => e.checkVisibility() && !e.closest("[hidden]"))
  .filter((e) => e.tagName !== "SECTION" || e.hasAttribute("aria-label"))
  .filter((e) => {
    const own = ["SELECT", "TEXTAREA", "DIALOG"].includes(e.tagName) ? "" : e.textContent.trim();
    const named = document.getElementById(e.getAttribute("aria-labelledby"))?.textContent.trim();
    return !(e.getAttribute("aria-label") || named || own || e.labels?.length);
  }).map((e) => e.outerHTML)"""
"""What can be reached by keyboard, and has no name for who hears the page."""

AXE_FINDS: Final = """axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
  violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html}: ${node.failureSummary}`)))"""
"""All that axe-core finds wrong on a page that has run its script."""


def axe_core() -> str | None:
    """Return axe-core's script; None where its package is not installed."""
    found = find_spec("axe_core_python")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")
