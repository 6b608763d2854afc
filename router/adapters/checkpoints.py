"""Keeps how far a replay has come in a file, which is always whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.core.archive.replay import Checkpoint
from router.core.errors import ProvisionError
from router.core.models import Reason

_reader: Final = StrictReader[Checkpoint]("replay checkpoint", Checkpoint, 16 * 1024)


def load(path: Path) -> Checkpoint | Reason | None:
    """Return what the file says; None where there is none, and a reason where it can't be read."""
    try:
        found = _reader.read_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return str(error)
    return found.why if isinstance(found, Unreadable) else found


def save(path: Path, at: Checkpoint) -> None:
    """Write it beside the file, and then in its place. Raises ProvisionError."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_bytes(msgspec.json.encode(at))
        new.replace(path)
    except OSError as error:
        raise ProvisionError(f"{path}: can't keep how far the replay is: {error}") from error
