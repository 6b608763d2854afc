"""What the worker and an evaluator say to each other through pipes: MessagePack, each message after its length."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from cell_worker.handlers.security.evaluation.analysis import Analysis

LENGTH_BYTES: Final = 4
ORDINARY_CPU_S: Final = 0.25
"""No ordinary log takes so much CPU: one of 1 MB takes 0.05 s."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


class Cap(StrEnum):
    """What an evaluation has exceeded when it was ended."""

    ORDINARY = "ordinary"  # it takes more CPU than an ordinary log, and has its turn among the slow ones
    CPU = "cpu"
    MEMORY = "memory"
    ANSWER = "answer"
    OTHER = "other"  # it crashed, or somebody else ended it


class Setup(msgspec.Struct, frozen=True):
    """The rules that an evaluator works with."""

    texts: dict[str, str]
    remedies: list[str]
    certificates: str  # the file of those that it trusts when it reads an object
    slow: bool  # it is for slow logs


class SignedGet(msgspec.Struct, frozen=True):
    """A request for one object, signed with the worker's credentials: good for that object, for some minutes."""

    url: str
    headers: dict[str, str]
    proxy: str | None = None
    proxy_headers: dict[str, str] = {}


class Request(msgspec.Struct, frozen=True):
    """One log object, and how much its evaluation may use."""

    bucket: str
    key: str
    content: bytes | SignedGet  # as it is stored, or how to read it
    max_object_bytes: int
    max_bytes: int
    cpu_s: int
    memory_bytes: int
    slow: bool  # it may take all of `cpu_s`, else no more than ORDINARY_CPU_S
    nice: int  # how far it stands back behind the other evaluations


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """The log can't be evaluated, and never will be."""

    why: str


class Unread(msgspec.Struct, frozen=True, tag=True):
    """The object could not be read."""

    why: str


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The evaluation was ended before it had an answer."""

    cap: Cap
    how: str


Answer = Analysis | Rejected | Unread | Ended


class Reply(msgspec.Struct, frozen=True):
    """What became of a request, and the CPU that it took."""

    answer: msgspec.Raw  # of an Answer, as the child has written it
    cpu_s: float


def length_of(message: bytes) -> bytes:
    """What goes through the pipe before a message."""
    return len(message).to_bytes(LENGTH_BYTES)
