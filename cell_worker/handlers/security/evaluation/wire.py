"""What the worker and an evaluator say to each other through pipes: MessagePack, each message after its length."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from cell_worker.handlers.security.evaluation.analysis import Analysis

LENGTH_BYTES: Final = 4
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


class Cap(StrEnum):
    """What an evaluation has exceeded when it was ended."""

    CPU = "cpu"
    MEMORY = "memory"
    ANSWER = "answer"
    OTHER = "other"  # it crashed, or somebody else ended it


class Setup(msgspec.Struct, frozen=True):
    """The rules that an evaluator works with."""

    texts: dict[str, str]
    remedies: list[str]


class Request(msgspec.Struct, frozen=True):
    """One log object, and how much its evaluation may use."""

    bucket: str
    key: str
    stored: bytes
    max_bytes: int
    cpu_s: int
    memory_bytes: int


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """The log can't be evaluated, and never will be."""

    why: str


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The evaluation was ended before it had an answer."""

    cap: Cap
    how: str


Answer = Analysis | Rejected | Ended


def framed(message: bytes) -> bytes:
    """A message as it goes through the pipe."""
    return len(message).to_bytes(LENGTH_BYTES) + message
