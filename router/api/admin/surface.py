"""The shape of the Admin API: what an operation is, which values its address takes, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from router.api.admin.problems import problem
from router.core.callers import ApiCaller, Role

PREFIX: Final = "/v1"
MAX_VALUES: Final = 32  # of an address
_WHOLE: Final = re.compile(r"-?[0-9]{1,16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be done: who asks, and what."""

    caller: ApiCaller
    values: Mapping[str, Any]  # of the address, as its parameters say
    body: Any


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that the address of an operation takes: a text, or a whole number."""

    name: str
    about: str
    example: str | int
    whole: bool = False
    least: int = 0  # of a number, or of the characters of a text
    most: int = 200
    default: str | int | None = None
    required: bool = False
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> str | int:
        """Return the value. Raises ProblemError, which says what it must be."""
        if self.whole:
            number = int(text) if _WHOLE.fullmatch(text) else None
            if number is None or not self.least <= number <= self.most:
                raise problem("bad-values", f"{self.name} must be a whole number from {self.least} to {self.most}")
            return number
        if self.choices and text not in self.choices:
            raise problem("bad-values", f"{self.name} must be one of {', '.join(self.choices)}")
        if not self.least <= len(text) <= self.most:
            raise problem("bad-values", f"{self.name} must have {self.least} to {self.most} characters")
        return text

    def schema(self) -> dict[str, Any]:
        """Describe the value as JSON Schema."""
        if self.choices:
            return {"type": "string", "enum": list(self.choices)}
        bounds = ("minimum", "maximum") if self.whole else ("minLength", "maxLength")
        found = {"type": "integer" if self.whole else "string", bounds[0]: self.least, bounds[1]: self.most}
        return found | ({"default": self.default} if self.default is not None else {})


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked of the API."""

    method: str
    path: str  # after the prefix; `{cell}` stands for a value
    name: str
    about: str
    role: Role
    answer: Any  # the type of what it answers; bytes for JSON that is made already
    do: Callable[[Asked], Awaitable[Any]]
    parameters: Sequence[Parameter] = ()
    body: Any = None
    body_examples: Mapping[str, Any] | None = None
    faults: Sequence[int] = ()  # statuses that it may answer beside those of every operation

    @property
    def pattern(self) -> re.Pattern[str]:
        """Return what matches its path, with the values in it."""
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(PREFIX + self.path)))

    def values(self, in_path: Mapping[str, str], query: bytes) -> dict[str, Any]:
        """Read the values of an address. Raises ProblemError for one that there is not, or that is none."""
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_VALUES, errors="strict")
        except ValueError as error:
            raise problem("bad-values", "the values after the ? can't be read: percent-encode them as UTF-8") from error
        given: dict[str, str] = {}
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, text in pairs:
            if name not in known or name in in_path or name in given:
                why = "is there twice" if name in given else "is no value that can be asked for here"
                raise problem("bad-values", f"{name[:80]!r} {why}; there are: {', '.join(known) or 'none'}")
            given[name] = text
        given |= in_path
        if missing := [each.name for each in self.parameters if each.required and each.name not in given]:
            raise problem("bad-values", f"{missing[0]} is required: add ?{missing[0]}=…")
        return {
            name: parameter.read(given[name]) if name in given else parameter.default
            for name, parameter in known.items()
        }
