"""The readers of the archive and of a replay's checkpoint, as functions of the bytes that came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import zstandard

from router.adapters.archive_files import records_in
from router.adapters.checkpoints import load


def archived_event(raw: bytes) -> object:
    """Read these bytes as an object, and as what is packed in one, whole and cut short."""
    packed = zstandard.ZstdCompressor().compress(raw)
    return [list(records_in(stored)) for stored in (raw, packed, packed[: len(packed) // 2])]


def replay_checkpoint(raw: bytes) -> object:
    """Read a file that says how far a replay is."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "replay.json")
        path.write_bytes(raw)
        return load(path)


OF_THE_ARCHIVE: Final[Mapping[str, Callable[[bytes], object]]] = {
    "archived event": archived_event,
    "replay checkpoint": replay_checkpoint,
}
