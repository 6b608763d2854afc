"""Reads the entries of hashes in Redis, where anybody may have written: a bad entry costs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.core.models import Reason
from router.core.telemetry import BadInput

T = TypeVar("T")
V = TypeVar("V")

MAX_NAME_BYTES: Final = 200
MAX_TOLD: Final = 100
"""So many new bad entries of one hash are told in one reading; a flood of them must not flood log and metrics."""


def name_of(field: bytes) -> str:
    """Return the name of an entry as text for people: escaped where it is not UTF-8, and cut where it is too long."""
    return field[:MAX_NAME_BYTES].decode(errors="backslashreplace")


def why_unnamed(field: bytes) -> Reason | None:
    """Return why the name of an entry can't be the id of anything; None where it can."""
    if not 0 < len(field) <= MAX_NAME_BYTES:
        return f"its name has {len(field)} bytes"
    return None if field == name_of(field).encode() else "its name is not UTF-8"


class EntryReader:
    """Reads entries by strict readers, passes over what can't be read, and tells of each such entry once."""

    def __init__(self, tell: Callable[[BadInput], None]) -> None:
        self._tell = tell
        self._told: dict[str, Mapping[str, int]] = {}  # by reader and entry: the hash of the content

    def read(
        self,
        reader: StrictReader[T],
        entries: Iterable[tuple[bytes, bytes]],
        make: Callable[[str, T], V],
    ) -> dict[str, V]:
        """Return by name what `make` makes of each entry. It raises ValueError for a value that makes no sense."""
        good: dict[str, V] = {}
        bad: dict[str, tuple[int, Reason]] = {}
        for field, raw in entries:
            try:
                name, value = _read(reader, field, raw)
                good[name] = make(name, value)
            except ValueError as error:
                bad[name_of(field)] = hash(raw), str(error)
        self._tell_of(reader.name, bad)
        return good

    def tell_of(self, source: str, bad: Mapping[str, Reason]) -> None:
        """Tell of what is bad now, by name: of each thing once, until it is well or bad for another reason."""
        self._tell_of(source, {name: (hash(why), why) for name, why in bad.items()})

    def read_one(self, reader: StrictReader[T], name: str, raw: bytes | None, make: Callable[[str, T], V]) -> V | None:
        """Return what `make` makes of one value; None where there is none (empty, or None) or it can't be read."""
        entries = [(name.encode(), raw)] if raw else []
        return self.read(reader, entries, make).get(name)

    def _tell_of(self, source: str, bad: Mapping[str, tuple[int, Reason]]) -> None:
        told = self._told.get(source, {})
        news = [(name, why) for name, (content, why) in bad.items() if told.get(name) != content]
        for name, why in news[:MAX_TOLD]:
            self._tell(BadInput(source, name, why))
        self._told[source] = {name: content for name, (content, _) in bad.items()}


def as_read(_: str, value: Any) -> Any:
    """Take a value as it was read."""
    return value


def _read(reader: StrictReader[T], field: bytes, raw: bytes) -> tuple[str, T]:
    if (why := why_unnamed(field)) is not None:
        raise ValueError(why)
    value = reader.read(raw)
    if isinstance(value, Unreadable):
        raise ValueError(value.why)  # noqa: TRY004 - it is a value's fault, not a type's
    return field.decode(), value
