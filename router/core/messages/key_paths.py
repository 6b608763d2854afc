"""JMESPath expressions that find a partition key or an event id in an event's JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import jmespath
import jmespath.exceptions
import jmespath.functions

from router.core.errors import ConfigError, MalformedMessageError

KeyPath = Callable[[Any], Any]
# Beside its own errors, jmespath lets through what Python raises when a function meets a value it wasn't made for.
_FAULTS: Final = (
    jmespath.exceptions.JMESPathError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


class _Functions(jmespath.functions.Functions):  # type: ignore[misc] # jmespath has no type hints
    """The function that JMESPath lacks for keys which are a part of a longer text, such as a path."""

    @jmespath.functions.signature({"types": ["string"]}, {"types": ["string"]})  # type: ignore[untyped-decorator]
    def _func_match(self, text: str, pattern: str) -> str | None:
        """Return the first group of the first match of `match(text, pattern)`, or null."""
        found = _regex(pattern).search(text)
        return found.group(1) if found else None


_OPTIONS: Final = jmespath.Options(custom_functions=_Functions())


def compile_path(path: str) -> KeyPath:
    """Compile a JMESPath expression, which may use `match(text, 'regex with one group')`, into a function.

    Raises ConfigError for a faulty expression. The function takes a decoded document and returns what it finds, None
    for nothing; it raises MalformedMessageError for a document that the expression can't be applied to.
    """
    try:
        expression = jmespath.compile(path)
        _check_patterns(expression.parsed)
    except (jmespath.exceptions.JMESPathError, ValueError) as error:
        raise ConfigError(f"{path!r} is no JMESPath expression: {error}") from error

    def search(document: Any) -> Any:
        try:
            return expression.search(document, options=_OPTIONS)
        except (*_FAULTS, RecursionError) as error:
            raise MalformedMessageError(f"the JMESPath expression {path!r} can't be applied to it: {error}") from error

    return search


def _check_patterns(node: dict[str, Any]) -> None:
    """Compile the patterns written in the expression now, so that a faulty one doesn't wait for the first message."""
    children = node.get("children", ())
    if node.get("type") == "function_expression" and node.get("value") == "match":
        for child in children[1:]:
            if child.get("type") == "literal" and isinstance(child["value"], str):
                _regex(child["value"])
    for child in children:
        if isinstance(child, dict):
            _check_patterns(child)


def _regex(pattern: str) -> re.Pattern[str]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    if not regex.groups:
        raise ValueError(f"the regular expression {pattern!r} has no (group)")
    return regex
