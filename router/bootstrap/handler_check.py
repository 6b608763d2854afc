"""Tries whether the handler can be imported, in a process of its own: it is somebody else's code."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from typing import Final

from router.core.models import Reason

IMPORT_S: Final = 30.0
"""How long an import may take before it counts as failed: as long as a launch, by default."""


async def why_no_handler(handler: str, environ: Mapping[str, str]) -> Reason | None:
    """Return why a worker with these variables couldn't import the handler; None when it could.

    The reason is the last line of the traceback, with the file and line that it comes from.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cell_worker.handling", handler),
        env=environ,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(IMPORT_S):
            _, said = await process.communicate()
    except TimeoutError:
        return f"CELL_HANDLER={handler}: its import has not ended after {IMPORT_S:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return None
    last_line = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return last_line or f"CELL_HANDLER={handler}: its import ends the process, with {process.returncode}"
