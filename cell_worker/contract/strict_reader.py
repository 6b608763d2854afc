"""Reads JSON that comes from outside the process, under limits: a value of the expected type, or why it is none.

Whoever sends it may be broken or hostile, and no input may end the process that reads it. So nothing is ever raised for
what was read. A part of the wire contract, since routers and cells read by the same rules.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec

T = TypeVar("T")

MAX_WHOLE: Final = 2**53
"""JSON, Lua and JavaScript all hold every whole number up to here exactly."""
Whole = Annotated[int, msgspec.Meta(ge=0, le=MAX_WHOLE)]
"""A generation, an epoch, a count or a time in ms."""
Id = Annotated[str, msgspec.Meta(max_length=200)]
"""The name of a cell, an instance, a router or a component: at most 200 characters."""
_MAX_WHY_CHARS: Final = 300


class Unreadable(msgspec.Struct, frozen=True):
    """Stands for a value that can't be read, and tells the reason in words for people."""

    why: str


class StrictReader(Generic[T]):
    """Decodes JSON of one type and of at most `max_bytes`. Its name says in logs and metrics what it reads."""

    __slots__ = ("_decode", "_max_bytes", "name")

    def __init__(self, name: str, kind: Any, max_bytes: int) -> None:
        assert name not in READERS, f"two readers of the name {name}"
        self.name = name
        self._decode = msgspec.json.Decoder(kind).decode
        self._max_bytes = max_bytes
        READERS[name] = self

    def read(self, raw: bytes) -> T | Unreadable:
        """Return the value that `raw` holds, or the reason why it holds none. Never raises."""
        if len(raw) > self._max_bytes:
            return Unreadable(f"it has {len(raw)} bytes, more than {self._max_bytes}")
        try:
            value: T = self._decode(raw)
        except RecursionError:  # msgspec limits the depth in this way, and it is none of its own errors
            return Unreadable("it is nested too deeply")
        except (ValueError, ArithmeticError) as error:  # ValueError: DecodeError and UnicodeDecodeError are such
            return Unreadable(str(error)[:_MAX_WHY_CHARS])
        return value

    def read_file(self, path: Path) -> T | Unreadable:
        """Read a file of which no more than `max_bytes` count. Raises OSError; never waits for what is no file."""
        raw = read_regular_file(path, self._max_bytes)
        return raw if isinstance(raw, Unreadable) else self.read(raw)


def read_regular_file(path: Path, max_bytes: int) -> bytes | Unreadable:
    """Return what a file holds, and at most a byte more than `max_bytes`. Raises OSError; never waits."""
    # Without waiting for a writer, since anybody may have put a named pipe there.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return Unreadable("it is no file")
        with open(handle, "rb", closefd=False) as file:
            return file.read(max_bytes + 1)
    finally:
        os.close(handle)


READERS: Final[dict[str, StrictReader[Any]]] = {}
"""Every reader of this process by its name, so that a test can see that each is fuzzed."""
