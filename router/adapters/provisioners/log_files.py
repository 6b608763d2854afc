"""Keeps the log files of workers that run as processes from filling the disk, whatever a handler prints."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 10 * 1024 * 1024
"""A log file that is longer is emptied; as much of its end is kept beside it."""
KEPT: Final = 5  # generations of a cell whose logs stay: enough to see why the last few have ended


def bound(log: Path) -> None:
    """Move the end of a log that is too long to a file beside it, and empty the log; its worker goes on writing to it.

    That works only for a log that was opened for appending. What is written in between is lost.
    """
    with suppress(OSError):  # it is gone, or the disk fails: there is nothing to do about that here
        if log.stat().st_size <= MAX_BYTES:
            return
        with log.open("rb") as file:
            file.seek(-MAX_BYTES, os.SEEK_END)
            end = file.read(MAX_BYTES)
        os.truncate(log, 0)  # first: on a full disk this makes the room
        log.with_suffix(".log.1").write_bytes(end)


def remove_old(directory: Path, cell_id: str) -> None:
    """Remove the logs of all but the last few generations of a cell."""
    logs: dict[int, list[Path]] = {}
    for log in directory.glob(f"{cell_id}.g*.log*"):
        generation = log.name.removeprefix(f"{cell_id}.g").partition(".")[0]
        if generation.isdecimal():
            logs.setdefault(int(generation), []).append(log)
    for old in sorted(logs)[:-KEPT]:
        for log in logs[old]:
            with suppress(OSError):
                log.unlink()
