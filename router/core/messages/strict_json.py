"""JSON that every parser understands in the same way, or the reason why a text is not such JSON.

What passes here can be embedded in a batch and decoded by a worker: one bad body must never spoil its neighbours. It
also has one meaning only: if an object had a member twice, another parser could see another value than the one that the
router routes by.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, Final, NoReturn

import msgspec

from router.core.errors import MalformedMessageError
from router.core.models import Reason

MAX_DEPTH: Final = 500
"""How deeply arrays and objects may be nested. Python 3.11 gives up at about 1000 less the depth of its own stack. That
differs between a router and a worker, so the limit is well below."""
_STRING: Final = re.compile(rb'(?s)"[^"\\]*+(?:\\.[^"\\]*+)*+"?')
_OPEN, _CLOSE = b"[{", b"]}"
_STEPS: Final = bytes.maketrans(_OPEN + _CLOSE, b"\x01\x01\xff\xff")  # as signed bytes: +1 and -1
_NO_BRACKETS: Final = bytes(set(range(256)) - set(_OPEN + _CLOSE))
_any: Final = msgspec.json.Decoder()


class _StrictObject(msgspec.Struct):
    """Any object. Its members are skipped, which checks the syntax and no more."""


_object: Final = msgspec.json.Decoder(_StrictObject)


class _DuplicateError(ValueError):
    """A JSON object has a member twice."""


class JsonText(msgspec.Struct, frozen=True, gc=False):
    """A text that should be JSON, with its UTF-8 bytes and the name that reasons give it, such as `the body`."""

    text: str
    raw: bytes
    name: str

    @classmethod
    def of(cls, text: str, name: str, max_bytes: int | None) -> JsonText:
        """Encode a text. Raises MalformedMessageError when it can't be encoded, is too long or is nested too deeply."""
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise MalformedMessageError(f"{name} is no text: it holds half of a surrogate pair") from error
        size = len(raw)
        if max_bytes is not None and size > max_bytes:
            raise MalformedMessageError(f"{name} has {size} bytes, more than {max_bytes}")
        # Fewer bytes than that can't be nested so deeply; most notifications are shorter.
        if size > 2 * MAX_DEPTH and depth_exceeds(raw, MAX_DEPTH):
            raise MalformedMessageError(f"{name} is nested too deeply: more than {MAX_DEPTH} arrays and objects")
        return cls(text, raw, name)

    def named(self, name: str) -> JsonText:
        """Return the same text under another name."""
        return JsonText(self.text, self.raw, name)

    def decode(self) -> Any:
        """Return the value of the text. Raises MalformedMessageError when it is not JSON, or is ambiguous."""
        try:
            value = _any.decode(self.raw)
            json.loads(self.text, object_pairs_hook=_unique)  # the fastest scanner that tells of members seen twice
        except RecursionError as error:
            raise MalformedMessageError(f"{self.name} is nested too deeply") from error
        except _DuplicateError as error:
            raise MalformedMessageError(f"{self.name} is ambiguous: {error}") from error
        except msgspec.ValidationError as error:
            raise MalformedMessageError(f"{self.name} can't be read: {error}") from error
        except (msgspec.DecodeError, ValueError) as error:
            raise MalformedMessageError(_why_not_json(self, error)) from error
        return value

    def check_object(self) -> None:
        """Check by its syntax that the text is an object, which costs much less than to decode it.

        Raises MalformedMessageError when it is not.
        """
        try:
            _object.decode(self.raw)
        except (msgspec.DecodeError, RecursionError) as error:
            if not isinstance(self.decode(), dict):  # raises first when it is not JSON at all
                raise MalformedMessageError(f"{self.name} is JSON but not an object") from error
            raise MalformedMessageError(f"{self.name} can't be read: {error}") from error


def depth_exceeds(raw: bytes, limit: int) -> bool:
    """Whether arrays and objects are nested more deeply than `limit`; for what is no JSON, the answer means nothing."""
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


def _why_not_json(text: JsonText, error: Exception) -> Reason:
    if not text.text.strip():
        return f"{text.name} is empty"
    try:
        json.loads(text.text, parse_constant=_refuse)
    except (ValueError, RecursionError) as reason:
        return f"{text.name} is not JSON: {reason if isinstance(reason, _ConstantError) else error}"
    # The one thing that the stricter decoder refuses and this one takes.
    return f"{text.name} is no text: a \\u escape in it is half of a surrogate pair"


class _ConstantError(ValueError):
    """The text holds NaN or an infinity, which are not JSON."""


def _refuse(name: str) -> NoReturn:
    raise _ConstantError(f"it holds {name}")
