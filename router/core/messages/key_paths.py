"""JMESPath expressions that find a partition key or an event id in an event's JSON.

The expression is the operator's, the document anybody's. So an expression has a number of steps for one document, and
patterns are RE2's, which take linear time: no document keeps a router busy for longer than its length explains.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import jmespath
import jmespath.exceptions
import jmespath.functions
import jmespath.visitor
import re2

from router.core.errors import ConfigError, MalformedMessageError

MAX_STEPS: Final = 20_000
"""How often one search may apply a part of its expression to a value: about 20 ms. A path of six names takes ten."""

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
        found = _regex(pattern).search(text.encode())  # RE2 works on bytes: a text would cost twice as much
        group: bytes | None = found.group(1) if found else None
        return group.decode() if group is not None else None


_OPTIONS: Final = jmespath.Options(custom_functions=_Functions())
_QUIET: Final = re2.Options()
_QUIET.log_errors = False  # it would write a faulty pattern to standard error, beside our own error


class _Interpreter(jmespath.visitor.TreeInterpreter):  # type: ignore[misc] # jmespath has no type hints
    """Evaluates an expression in at most MAX_STEPS steps."""

    def __init__(self) -> None:
        super().__init__(_OPTIONS)
        self._steps = 0

    def visit(self, node: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluate one part of the expression. Raises ValueError when there were too many."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise ValueError(f"it takes more than {MAX_STEPS} steps: its lists are too long")
        return super().visit(node, *args, **kwargs)


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
            return _Interpreter().visit(expression.parsed, document)
        except (*_FAULTS, RecursionError) as error:
            raise MalformedMessageError(f"the JMESPath expression {path!r} can't be applied to it: {error}") from error

    return search


def _check_patterns(node: dict[str, Any]) -> None:
    """Compile all patterns now, so that a faulty one doesn't wait for the first message.

    Each has to be written in the expression: one that a document brought could be of any size.
    """
    children = node.get("children", ())
    if node.get("type") == "function_expression" and node.get("value") == "match":
        for child in children[1:]:
            if child.get("type") != "literal" or not isinstance(child["value"], str):
                raise ValueError("the pattern of match(text, 'pattern') has to be written there, in quotes")
            _regex(child["value"])
    for child in children:
        if isinstance(child, dict):
            _check_patterns(child)


@lru_cache
def _regex(pattern: str) -> Any:
    try:
        regex = re2.compile(pattern, _QUIET)
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error
        raise ValueError(f"{pattern!r} is no regular expression of RE2, which takes linear time: {why}") from error
    if not regex.groups:
        raise ValueError(f"the regular expression {pattern!r} has no (group)")
    return regex
