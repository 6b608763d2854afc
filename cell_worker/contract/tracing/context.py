"""Which trace an event belongs to, as its producer says it: W3C's `traceparent` and `tracestate`, or AWS' trace header.

Whoever sends an event writes these texts, so they are read strictly and within bounds. What can't be read counts as
none, as W3C wants it: the event goes on, and its trace begins here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from cell_worker.contract.strict_reader import Unreadable

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
MAX_TEXT_CHARS: Final = 512
"""What W3C asks everybody to take of a `tracestate`; a longer text of any kind is none."""
MAX_SHOWN_CHARS: Final = 256
"""A longer attribute of a span is cut."""
_MAX_MEMBERS: Final = 32
_HEX: Final = "[0-9a-f]"
_TRACEPARENT: Final = re.compile(rf"({_HEX}{{2}})-({_HEX}{{32}})-({_HEX}{{16}})-({_HEX}{{2}})(-.*)?")
_ROOT: Final = re.compile(rf"1-({_HEX}{{8}})-({_HEX}{{24}})", re.IGNORECASE)
_PARENT: Final = re.compile(rf"{_HEX}{{16}}", re.IGNORECASE)
_KEY: Final = re.compile(r"[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}")
_VALUE: Final = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_SAMPLED: Final = {"1": True, "0": False}


class TraceContext(msgspec.Struct, frozen=True):
    """A place in a trace: what comes next belongs below this span."""

    trace_id: int  # of 128 bits, never 0
    span_id: int  # of 64 bits; 0: the trace has no span yet
    sampled: bool | None  # None: whoever began the trace leaves it to us
    state: tuple[tuple[str, str], ...] = ()  # what vendors want to be carried along, the newest first


def context_in(attributes: Mapping[str, object], trace_header: str) -> TraceContext | None:
    """Return the trace that a message belongs to by its attributes, else by its trace header; None for none."""
    given = attributes.get(TRACEPARENT) if attributes else None
    if isinstance(given, str) and not isinstance(found := read_traceparent(given), Unreadable):
        state = attributes.get(TRACESTATE)
        members = read_tracestate(state) if isinstance(state, str) else ()
        return found if isinstance(members, Unreadable) else msgspec.structs.replace(found, state=members)
    if not trace_header or isinstance(found := read_trace_header(trace_header), Unreadable):
        return None
    return found


def read_traceparent(text: str) -> TraceContext | Unreadable:
    """Read W3C's `traceparent`, of this version or a later one."""
    if len(text) > MAX_TEXT_CHARS or (found := _TRACEPARENT.fullmatch(text)) is None:
        return Unreadable("it is no traceparent, as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (more and version == "00"):
        return Unreadable(f"version {version} has no such traceparent")
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return Unreadable("a trace or a span of zeros is none")
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))


def read_tracestate(text: str) -> tuple[tuple[str, str], ...] | Unreadable:
    """Read W3C's `tracestate`: all of its members, or none when one is faulty."""
    if len(text) > MAX_TEXT_CHARS:
        return Unreadable(f"it has {len(text)} characters, more than {MAX_TEXT_CHARS}")
    members: dict[str, str] = {}
    for member in filter(None, (each.strip(" \t") for each in text.split(","))):
        key, _, value = member.partition("=")
        if _KEY.fullmatch(key) is None or _VALUE.fullmatch(value) is None or key in members:
            return Unreadable("one of its members is none, or comes twice")
        members[key] = value
    if len(members) > _MAX_MEMBERS:
        return Unreadable(f"it has {len(members)} members, more than {_MAX_MEMBERS}")
    return tuple(members.items())


def read_trace_header(text: str) -> TraceContext | Unreadable:
    """Read AWS' trace header, as X-Ray writes it: `Root=1-…;Parent=…;Sampled=1`, with others' fields between."""
    if len(text) > MAX_TEXT_CHARS:
        return Unreadable(f"it has {len(text)} characters, more than {MAX_TEXT_CHARS}")
    fields = dict(field.strip(" ").partition("=")[::2] for field in text.split(";"))
    if (root := _ROOT.fullmatch(fields.get("Root", ""))) is None:
        return Unreadable("it has no Root, as 1-5759e988-bd862e3fe1be46a994272793")
    trace_id, parent = int("".join(root.groups()), 16), fields.get("Parent", "")
    if not trace_id or (parent and _PARENT.fullmatch(parent) is None):
        return Unreadable("its Root is zero, or its Parent is no span")
    return TraceContext(trace_id, int(parent or "0", 16), _SAMPLED.get(fields.get("Sampled", "")))


def traceparent_of(trace_id: int, span_id: int) -> str:
    """Write the `traceparent` of a span that is sampled."""
    return f"00-{trace_id:032x}-{span_id:016x}-01"


def shown(text: str) -> str:
    """Return a text as an attribute of a span: of bounded length, and without half of a surrogate pair."""
    return text[:MAX_SHOWN_CHARS].encode(errors="replace").decode()
