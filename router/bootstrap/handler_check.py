"""Tries whether the handler can be imported, in a process of its own: it is somebody else's code."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from typing import Final

from router.core.models import Reason
from router.settings_sections import CellsSection

IMPORT_S: Final = 30.0
"""How long an import may take before it counts as failed: as long as a launch, by default."""


async def why_no_handler(handler: str, environ: Mapping[str, str]) -> Reason | None:
    """Return why a worker with these variables couldn't import the handler; None when it could.

    The reason is the last line of the traceback, with the file and line that it comes from.
    """
    why = await _why_no_worker(handler, environ)
    return None if why is None else why.removeprefix(f"CELL_HANDLER={handler}: ")


async def _why_no_worker(handler: str, environ: Mapping[str, str]) -> Reason | None:
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
        return f"its import has not ended after {IMPORT_S:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return None
    last_line = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return last_line or f"its import ends the process, with {process.returncode}"


async def handler_faults(cells: CellsSection, environ: Mapping[str, str]) -> tuple[list[Reason], list[Reason]]:
    """Return what is wrong with the handler for certain, and what may be wrong: others may have what is not here."""
    if cells.provisioner == "external" or (why := await why_no_handler(cells.handler, environ)) is None:
        return [], []
    if cells.provisioner == "subprocess":
        return [f"cells.handler: {cells.handler} can't be used: {why}"], []
    return [], [
        f"cells.handler: {cells.handler} can't be used here: {why}; the workers' image must have what is missing"
    ]
