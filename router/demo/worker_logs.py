"""What the workers of a local system write to their logs, as people read it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

_NOT_SHOWN: Final = frozenset({"event", "level", "timestamp", "cell", "generation", "exception"})
_WORTH_A_WORD: Final = frozenset({"warning", "error", "critical"})

_WORKER: Final = f"{os.sep}cell_worker{os.sep}"
_HANDLERS: Final = f"{_WORKER}handlers{os.sep}"


class WorkerLogs:
    """Reads the logs in a controller's `run` folder as they grow."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read_up_to: dict[Path, int] = {}

    def new_lines(self) -> list[str]:
        """Return what was written since the last call, whole lines only, each with the instance that it is of."""
        said = []
        for log in sorted(self._directory.glob("*.log")):
            begin = self._read_up_to.get(log, 0)
            if log.stat().st_size < begin:
                begin = 0  # it was too long, and was emptied
            with log.open("rb") as file:
                file.seek(begin)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read_up_to[log] = begin + len(whole) + len(newline)
            said += [shown(log.stem, line) for line in whole.decode("utf-8", "replace").splitlines() if line.strip()]
        return said


def shown(instance: str, line: str) -> str:
    """Return a line of a worker's log for people: an entry in words, with its traceback; anything else as it is."""
    try:
        entry: Any = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or "event" not in entry:
        return f"{instance} | {line}"
    level = f"{entry['level']}: " if entry.get("level") in _WORTH_A_WORD else ""
    more = "".join(f" {name}={value}" for name, value in entry.items() if name not in _NOT_SHOWN)
    traceback = f"\n{_of_handler(str(entry['exception']))}" if entry.get("exception") else ""
    return f"{instance} | {level}{entry['event']}{more}{traceback}"


def _of_handler(traceback: str) -> str:
    """Leave the worker's own frames out of a traceback: whoever writes a handler looks for their own."""
    kept, left_out = [], False
    for line in traceback.splitlines():
        if line.startswith('  File "'):
            left_out = _WORKER in line and _HANDLERS not in line
        elif not line.startswith("    "):
            left_out = False
        if not left_out:
            kept.append(line)
    return "\n".join(kept)
