"""An image of the worker as a team builds it from ours, with a handler of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from tests.support.docker import built_image, docker

HANDLER: Final = "shop:handle"
_SOURCE: Final = """
async def handle(event, cell):
    cell.emit({"event": event.event_id})
"""
_DOCKERFILE: Final = """
FROM {base}
ENV AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test PYTHONPATH=/opt/shop {settings}
COPY shop.py /opt/shop/shop.py
"""


def image_with_handler(name: str, settings: str) -> str:
    """Build the image under this name, and return the name.

    MiniStack gives its tasks credentials at an address that no SDK believes, so the image brings some.
    """
    base = built_image()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "shop.py").write_text(_SOURCE)
        Path(folder, "Dockerfile").write_text(_DOCKERFILE.format(base=base, settings=settings))
        docker("build", "--quiet", "--tag", name, folder)
    return name
