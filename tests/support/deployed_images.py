"""Images of the worker as a team would build them from ours: with a handler of their own, well or faulty."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from tests.support.docker import built_image, docker

HANDLER: Final = "shop:handle"
_GOOD: Final = """
async def handle(event, cell):
    cell.emit({"event": event.event_id})
"""
_CRASHES: Final = """
raise RuntimeError("this release can't even be imported")
"""
_FAILS: Final = """
async def handle(event, cell):
    if event.event_id.endswith(("0", "1")):
        raise ValueError("this release fails a fifth of the events")
    cell.emit({"event": event.event_id})
"""
_SLOW: Final = """
import asyncio
async def handle(event, cell):
    await asyncio.sleep(0.6)
    cell.emit({"event": event.event_id})
"""
SOURCES: Final = {"good": _GOOD, "better": _GOOD, "crashes": _CRASHES, "fails": _FAILS, "slow": _SLOW}
_DOCKERFILE: Final = """
FROM {base}
LABEL release={release}
ENV AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test PYTHONPATH=/opt/shop {settings}
COPY shop.py /opt/shop/shop.py
"""


def images(repository: str, settings: str) -> dict[str, str]:
    """Build an image a release, each on ours, and return their names by release.

    MiniStack gives its tasks credentials at an address that no SDK believes, so the images bring some.
    """
    base = built_image()
    return {release: _built(base, f"{repository}:{release}", release, settings) for release in SOURCES}


def _built(base: str, name: str, release: str, settings: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "shop.py").write_text(SOURCES[release])
        Path(folder, "Dockerfile").write_text(_DOCKERFILE.format(base=base, release=release, settings=settings))
        docker("build", "--quiet", "--tag", name, folder)
    return name
