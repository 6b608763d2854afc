"""Compiles one value of a Sigma rule into a test of one value of a record.

Sigma ignores case when it compares strings, unless `cased` says otherwise; `*` stands for any text and `?` for one
character. A number or a boolean of a record is compared by its JSON text (`443`, `true`), so a rule need not know
whether CloudTrail writes a number or a string. Numbers are compared exactly, whatever their size. Where text is wanted,
a map or a list is searched as its JSON text: once as it is, and once with the quotes of embedded documents unescaped,
like a SIEM that keeps raw JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

import msgspec
from sigma.policy.regex_engine import RE2RegexEngine, RegexPattern
from sigma.types import (
    CompareOperators,
    Placeholder,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SigmaType,
    SpecialChars,
    TimestampPart,
)

ValueTest = Callable[[Any], bool]
TextTest = Callable[[str], bool]
JSON: Final = msgspec.json.Encoder(decimal_format="number")
"""Writes the values of a record as they were written."""


class UnsupportedRule(Exception):
    """A valid rule asks for something that can't be evaluated here. The text says what it is."""


def compile_value(value: SigmaType) -> ValueTest:
    """Compile a rule's value into a test of a value found in a record. Raises UnsupportedRule."""
    match value:
        case SigmaTimestampPart():
            return _timestamp_is(value)
        case SigmaNumber():
            return _number_is(value)
        case SigmaBool():
            return _text(f"{value.boolean}".lower().__eq__, cased=False)
        case SigmaCompareExpression():
            return _compares(value)
        case SigmaCIDRExpression():
            return _in_network(value.network)
        case SigmaString() | SigmaRegularExpression():
            cased = isinstance(value, SigmaCasedString | SigmaRegularExpression)
            return _text(compile_text(value), cased=cased)
        case _:
            raise UnsupportedRule(f"{type(value).__name__} values are not supported")


def compile_text(value: SigmaString | SigmaRegularExpression, *, anywhere: bool = False) -> TextTest:
    """Compile a rule's text into a test of a whole text or, with `anywhere`, of any part of it.

    The test expects its text in lower case unless the value is cased. Raises UnsupportedRule.
    """
    if isinstance(value, SigmaRegularExpression):
        return _regex(_flags(value) + str(value.regexp))
    for part in value.s:
        if isinstance(part, Placeholder):
            raise UnsupportedRule(f"the placeholder %{part.name}% (expand modifier) is not supported: name its values")
    parts: list[str | SpecialChars] = [part for part in value.s if not isinstance(part, Placeholder)]
    if not isinstance(value, SigmaCasedString):
        parts = [part.lower() if isinstance(part, str) else part for part in parts]
    if anywhere:
        parts = [SpecialChars.WILDCARD_MULTI, *parts, SpecialChars.WILDCARD_MULTI]
    return _glob(parts)


def text_of(value: Any) -> str | None:
    """The text of a scalar, as rules compare it. None for null, maps and lists."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float | Decimal) else None


def number_of(value: Any) -> Decimal | int | None:
    """The exact value of a number, or of a text that spells one. None for anything else, and for what is not finite."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        value = repr(value)
    if not isinstance(value, str | Decimal):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _text(test: TextTest, *, cased: bool) -> ValueTest:
    def matches(value: Any) -> bool:
        if isinstance(value, str):
            return test(value if cased else value.lower())
        texts = _json_texts(value) if isinstance(value, dict | list) else (text_of(value),)
        return any(text is not None and test(text if cased else text.lower()) for text in texts)

    return matches


def _json_texts(value: Any) -> tuple[str, str]:
    text = JSON.encode(value).decode()
    return text, text.replace('\\"', '"')


def _glob(parts: list[str | SpecialChars]) -> TextTest:
    if SpecialChars.WILDCARD_SINGLE in parts:
        return _full_match("(?s)" + "".join(_glob_regex(part) for part in parts))
    if SpecialChars.WILDCARD_MULTI not in parts:
        return "".join(part for part in parts if isinstance(part, str)).__eq__
    pieces = [""]
    for part in parts:
        if isinstance(part, str):
            pieces[-1] += part
        else:
            pieces.append("")
    return _pieces_in_order(pieces[0], [piece for piece in pieces[1:-1] if piece], pieces[-1])


def _pieces_in_order(first: str, middle: list[str], last: str) -> TextTest:
    """Test for the shape first*middle*…*last. The greedy search takes linear time, whatever the pattern is."""
    if not first and not last and len(middle) == 1:
        (only,) = middle
        return lambda text: only in text

    def matches(text: str) -> bool:
        end = len(text) - len(last)
        if end < len(first) or not text.startswith(first) or not text.endswith(last):
            return False
        at = len(first)
        for piece in middle:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    return matches


def _glob_regex(part: str | SpecialChars) -> str:
    if isinstance(part, str):
        return re.escape(part)
    return ".*" if part is SpecialChars.WILDCARD_MULTI else "."


def _regex(pattern: str) -> TextTest:
    """Compile a regular expression with RE2, as pySigma checks it. RE2 takes linear time and never backtracks."""
    compiled = _compiled(pattern)
    return lambda text: compiled.search(text) is not None


def _full_match(pattern: str) -> TextTest:
    compiled = _compiled(pattern)
    return lambda text: compiled.fullmatch(text) is not None


_RE2: Final = RE2RegexEngine()


def _compiled(pattern: str) -> RegexPattern:
    try:
        return _RE2.compile(pattern)
    except _RE2.error as error:
        raise UnsupportedRule(f"regular expression {pattern!r}: {error}") from error


_FLAGS: Final = {
    SigmaRegularExpressionFlag.IGNORECASE: "i",
    SigmaRegularExpressionFlag.MULTILINE: "m",
    SigmaRegularExpressionFlag.DOTALL: "s",
}


def _flags(value: SigmaRegularExpression) -> str:
    flags = "".join(sorted(_FLAGS[flag] for flag in value.flags))
    return f"(?{flags})" if flags else ""


def _number_is(value: SigmaNumber) -> ValueTest:
    wanted = number_of(value.number)
    return lambda found: number_of(found) == wanted


Number = Decimal | int
_COMPARE: Final[dict[CompareOperators, Callable[[Number, Number], bool]]] = {
    CompareOperators.LT: lambda a, b: a < b,
    CompareOperators.LTE: lambda a, b: a <= b,
    CompareOperators.GT: lambda a, b: a > b,
    CompareOperators.GTE: lambda a, b: a >= b,
    CompareOperators.NEQ: lambda a, b: a != b,
}


def _compares(expression: SigmaCompareExpression) -> ValueTest:
    compare, limit = _COMPARE[expression.op], number_of(expression.number.number)
    assert limit is not None, "pySigma takes finite numbers only"
    read = _part_reader(expression.number)

    def matches(value: Any) -> bool:
        number = read(value)
        return number is not None and compare(number, limit)

    return matches


def _timestamp_is(part: SigmaTimestampPart) -> ValueTest:
    read = _part_reader(part)
    return lambda value: read(value) == part.number


_PARTS: Final[dict[TimestampPart, Callable[[datetime], int]]] = {
    TimestampPart.MINUTE: lambda time: time.minute,
    TimestampPart.HOUR: lambda time: time.hour,
    TimestampPart.DAY: lambda time: time.day,
    TimestampPart.WEEK: lambda time: time.isocalendar().week,
    TimestampPart.MONTH: lambda time: time.month,
    TimestampPart.YEAR: lambda time: time.year,
}


def _part_reader(number: SigmaNumber) -> Callable[[Any], Number | None]:
    if not isinstance(number, SigmaTimestampPart):
        return number_of
    part = _PARTS[number.timestamp_part]

    def read(value: Any) -> int | None:
        time = time_of(value)
        return None if time is None else part(time)

    return read


def time_of(value: Any) -> datetime | None:
    """The time that an ISO 8601 text tells. None for anything else."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


MAX_ADDRESS_CHARS: Final = 200
"""No address is longer. Longer texts would only fill the cache of addresses."""


def _in_network(network: IPv4Network | IPv6Network) -> ValueTest:
    def matches(value: Any) -> bool:
        address = _address(value) if isinstance(value, str) and len(value) <= MAX_ADDRESS_CHARS else None
        return address is not None and address in network

    return matches


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
