"""ArchiveReader on a folder: an archive that was copied there, as `aws s3 cp --recursive` does; and what S3's shares.

Whoever can write into the bucket or the folder can write anything. So an object is read a line at a time, and what is
no line of the archive is left out and counted.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import zstandard

from cell_worker.contract.strict_reader import StrictReader, Unreadable, read_regular_file
from router.core.archive.objects import MAX_OBJECT_BYTES, SUFFIX
from router.core.archive.records import ArchivedEvent
from router.core.errors import SourceUnavailableError
from router.core.models import Reason

MAX_LINE_BYTES: Final = 32 * 1024 * 1024  # a body of 4 MiB in which each byte has an escape, and more
MAX_STORED_BYTES: Final = 2 * MAX_OBJECT_BYTES  # a router ends an object when it is half as long
_MAX_WINDOW_BYTES: Final = 8 * 1024 * 1024  # which routers never ask for: it says how much memory reading takes
_reader: Final = StrictReader[ArchivedEvent]("archived event", ArchivedEvent, MAX_LINE_BYTES)


def records_in(stored: bytes) -> Iterator[ArchivedEvent | Unreadable]:
    """Read an object, line by line; what can't be read is a reason, after which there may be more. Never raises."""
    if len(stored) > MAX_STORED_BYTES:
        yield Unreadable(f"it has {len(stored)} bytes, more than {MAX_STORED_BYTES}")
        return
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    try:
        with decompressor.stream_reader(io.BytesIO(stored)) as stream:
            lines, line = io.BufferedReader(stream), b""
            while following := lines.readline(MAX_LINE_BYTES + 1):
                line = following
                if len(line) > MAX_LINE_BYTES:
                    yield Unreadable(f"a line has more than {MAX_LINE_BYTES} bytes")
                    return
                if line.endswith(b"\n"):
                    yield _reader.read(line)
        if not line.endswith(b"\n"):  # the library says nothing of a frame without its end
            yield Unreadable("it is cut short")
    except (zstandard.ZstdError, OSError, ValueError, MemoryError) as error:
        yield Unreadable(f"it is no whole zstd frame: {error}")


def records_of(stored: bytes) -> Iterator[ArchivedEvent | Reason]:
    """Read an object, line by line: a record, or the reason why a line is none. Never raises."""
    return (each.why if isinstance(each, Unreadable) else each for each in records_in(stored))


class ArchiveFolder:
    """An archive in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def names(self, prefix: str) -> list[str]:
        """List the objects whose names begin so, in their order."""
        folder = self._root / prefix
        return sorted(str(path.relative_to(self._root)) for path in folder.rglob(f"*{SUFFIX}"))

    async def read(self, name: str) -> bytes:
        """Read a whole object."""
        try:
            found = read_regular_file(self._root / name, MAX_STORED_BYTES)
        except OSError as error:
            raise SourceUnavailableError(f"{self._root / name}: {error}") from error
        if isinstance(found, Unreadable):
            raise SourceUnavailableError(f"{self._root / name}: {found.why}")
        return found

    def records(self, stored: bytes) -> Iterator[ArchivedEvent | Reason]:
        """Read what is in an object."""
        return records_of(stored)
