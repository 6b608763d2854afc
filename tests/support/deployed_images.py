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
    if event.attempt == 1 and sum(map(ord, event.event_id)) % 5 == 0:
        raise ValueError("this release fails the first try of a fifth of the events")
    cell.emit({"event": event.event_id})
"""
_SLOW: Final = """
import asyncio
async def handle(event, cell):
    await asyncio.sleep(0.6)
    cell.emit({"event": event.event_id})
"""
_SOURCES: Final = {"good": _GOOD, "better": _GOOD, "crashes": _CRASHES, "fails": _FAILS, "slow": _SLOW}
_DOCKERFILE: Final = """
FROM {base}
LABEL release={release}
ENV AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test PYTHONPATH=/opt/shop {settings}
COPY shop.py /opt/shop/shop.py
"""


def image_of(release: str, settings: str) -> str:
    """Build the image of a release on ours, and return its name.

    MiniStack gives its tasks credentials at an address that no SDK believes, so the image brings some.
    """
    name = f"cellrouter-test-deployed:{release}"
    dockerfile = _DOCKERFILE.format(base=built_image(), release=release, settings=settings)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "shop.py").write_text(_SOURCES[release])
        Path(folder, "Dockerfile").write_text(dockerfile)
        docker("build", "--quiet", "--tag", name, folder)
    return name
