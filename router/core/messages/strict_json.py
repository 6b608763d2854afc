"""JSON as every parser of it understands it, or a reason why it isn't.

What passes here can be embedded in a batch and decoded by a worker: one bad body must never spoil its neighbours. And
it has one meaning: with a member twice, what this side routes by is not what another parser sees.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, Final, NoReturn

import msgspec

from router.core.errors import MalformedMessageError

MAX_DEPTH: Final = 500
"""Of arrays and objects. Python 3.11 gives up at about 1000 less the depth of its own stack, which is not the same here
and in a worker, so the limit has to be well below."""
_STRING: Final = re.compile(rb'(?s)"[^"\\]*+(?:\\.[^"\\]*+)*+"?')
_OPEN, _CLOSE = b"[{", b"]}"
_STEPS: Final = bytes.maketrans(_OPEN + _CLOSE, b"\x01\x01\xff\xff")  # as signed bytes: +1 and -1
_NO_BRACKETS: Final = bytes(set(range(256)) - set(_OPEN + _CLOSE))
_any: Final = msgspec.json.Decoder()


class _StrictObject(msgspec.Struct):
    """Any object; its members are skipped, which checks the syntax and no more."""


_object: Final = msgspec.json.Decoder(_StrictObject)


class _DuplicateError(ValueError):
    """An object has a member twice."""


def encode(text: str, what: str, max_bytes: int | None) -> bytes:
    """The text's bytes, neither too many nor nested too deeply. `what` begins the reason of MalformedMessageError."""
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise MalformedMessageError(f"{what} is no text: it holds half of a surrogate pair") from error
    size = len(raw)
    if max_bytes is not None and size > max_bytes:
        raise MalformedMessageError(f"{what} has {size} bytes, more than {max_bytes}")
    # Fewer bytes than that can't be nested so deeply; most notifications are shorter.
    if size > 2 * MAX_DEPTH and depth_exceeds(raw, MAX_DEPTH):
        raise MalformedMessageError(f"{what} is nested too deeply: more than {MAX_DEPTH} arrays and objects")
    return raw


def decode(text: str, raw: bytes, what: str) -> Any:
    """The value of `raw`, which is `text`'s bytes. Raises MalformedMessageError; `what` begins its reason."""
    try:
        value = _any.decode(raw)
        json.loads(text, object_pairs_hook=_unique)  # its C scanner is the fastest that tells of members seen twice
    except RecursionError as error:
        raise MalformedMessageError(f"{what} is nested too deeply") from error
    except _DuplicateError as error:
        raise MalformedMessageError(f"{what} is ambiguous: {error}") from error
    except msgspec.ValidationError as error:
        raise MalformedMessageError(f"{what} can't be read: {error}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedMessageError(_why_not_json(text, what, error)) from error
    return value


def decode_object(text: str, raw: bytes, what: str) -> dict[str, Any]:
    """As `decode`, and an object."""
    value = decode(text, raw, what)
    if not isinstance(value, dict):
        raise MalformedMessageError(f"{what} is JSON but not an object")
    return value


def check_object(text: str, raw: bytes, what: str) -> None:
    """That it is an object by its syntax; much cheaper than to decode it. Raises MalformedMessageError."""
    try:
        _object.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        decode_object(text, raw, what)  # for its reason
        raise MalformedMessageError(f"{what} can't be read: {error}") from error


def depth_exceeds(raw: bytes, limit: int) -> bool:
    """Whether arrays and objects are nested deeper. For what is no JSON, any answer."""
    if raw.count(b"{") + raw.count(b"[") <= limit:
        return False
    brackets = _STRING.sub(b"", raw).translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(memoryview(brackets).cast("b")), default=0) > limit


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _DuplicateError(f"an object has the member {name!r:.80} twice")
    return members


def _why_not_json(text: str, what: str, error: Exception) -> str:
    if not text.strip():
        return f"{what} is empty"
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as reason:
        return f"{what} is not JSON: {reason if isinstance(reason, _ConstantError) else error}"
    # The one thing that the stricter decoder refuses and this one takes.
    return f"{what} is no text: a \\u escape in it is half of a surrogate pair"


class _ConstantError(ValueError):
    """NaN or an infinity."""


def _refuse(name: str) -> NoReturn:
    raise _ConstantError(f"it holds {name}")
