"""An archive in memory, and what a common tool would read from its objects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import zstandard

from router.adapters.archive_files import records_of
from router.core.archive.objects import SUFFIX
from router.core.archive.records import ArchivedEvent
from router.core.archive.replay import Checkpoint
from router.core.models import Reason
from router.services.data_plane.archive.archivist import ArchiveConfig, Archivist
from router.services.unforeseen import Unforeseen
from tests.support.fake_clock import FakeClock

T = TypeVar("T")


class MemoryArchive:
    """An ArchiveStore in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failure: Exception | None = None
        self.stalls = False  # it takes nothing and says nothing
        self.tries = 0

    async def put(self, key: str, body: bytes) -> None:
        self.tries += 1
        if self.stalls:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        assert key not in self.objects, f"{key} was written twice"
        self.objects[key] = body

    def events(self) -> list[dict[str, Any]]:
        """Return all that is archived."""
        return [line for body in self.objects.values() for line in read_lines(body)]


class Reading:
    """An ArchiveReader of what lies in memory."""

    def __init__(self, store: MemoryArchive) -> None:
        self._store = store

    async def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self._store.objects if name.startswith(prefix))

    async def read(self, name: str) -> bytes:
        return self._store.objects[name]

    def records(self, stored: bytes) -> Iterator[ArchivedEvent | Reason]:
        return records_of(stored)


@dataclass
class Told:
    """A Progress that remembers what it is told."""

    at: Checkpoint | None = None
    faults: list[str] = field(default_factory=list)

    def sent(self, at: Checkpoint) -> None:
        self.at = at

    def unreadable(self, name: str, why: Reason) -> None:
        self.faults.append(f"{name}: {why}")

    def not_sent(self, record: ArchivedEvent, why: Reason) -> None:
        self.faults.append(f"{record.event_id}: {why}")

    def waiting(self, ended: int, events: int) -> None:
        return


class Inline:
    """Does beside the event loop nothing at all: it runs work at once, unless it stalls."""

    def __init__(self) -> None:
        self.stalls = False

    async def run(self, work: Callable[[], T]) -> T:
        if self.stalls:
            await asyncio.Event().wait()
        return work()


def read_lines(body: bytes) -> list[dict[str, Any]]:
    """Read an object as any tool does that knows zstd and JSON lines."""
    text = zstandard.ZstdDecompressor().decompressobj().decompress(body).decode()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def labels_of(key: str) -> Mapping[str, str]:
    """Return the parts of an object's name that tools take for columns."""
    assert key.startswith("archive/v1/")
    assert key.endswith(SUFFIX)
    return dict(part.split("=", 1) for part in key.split("/") if "=" in part)


def archivist(
    store: MemoryArchive, clock: FakeClock, observer: Any, beside: Inline | None = None, environment: str = "live"
) -> Archivist:
    """Make what a router writes the archive with."""
    config = ArchiveConfig(environment, "router/1/abc")
    return Archivist(config, store, beside or Inline(), clock, observer, Unforeseen(observer, clock))
