"""Compiles a parsed Sigma condition into a Python function of a CloudTrail record.

A field is a dotted path into nested maps. A list on the way or at the end stands for its elements, and one that matches
is enough. A key that contains dots itself is found too, also beside a key that is its own first part. A field that is
missing, null or an empty list is `null`; `exists` only asks for the key.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.types import (
    SigmaCasedString,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SigmaType,
)

from cell_worker.handlers.security.values import (
    TextTest,
    UnsupportedRule,
    ValueTest,
    compile_text,
    compile_value,
    text_of,
)

Record = Mapping[str, Any]
Predicate = Callable[[Record], bool]
Finder = Callable[[Any], Iterator[Any]]
"""Yields the values that a record has at one path."""


def compile_condition(node: Any) -> Predicate:
    """Compile a condition into a function that says whether it holds for a record. Raises UnsupportedRule."""
    match node:
        case ConditionAND():
            return _all([compile_condition(part) for part in node.args])
        case ConditionOR():
            return _any([compile_condition(part) for part in node.args])
        case ConditionNOT():
            return _not(compile_condition(node.args[0]))
        case ConditionFieldEqualsValueExpression():
            return _field(node.field, node.value)
        case ConditionValueExpression():
            return _keyword(node.value)
        case _:
            raise UnsupportedRule(f"the condition has {type(node).__name__}, which is not supported")


def required_texts(node: Any, field: str) -> frozenset[str] | None:
    """The lower-case texts of which `field` must have one for the condition to hold. None when it need have none."""
    match node:
        case ConditionAND():
            known = [texts for part in node.args if (texts := required_texts(part, field)) is not None]
            return frozenset.intersection(*known) if known else None
        case ConditionOR():
            parts = [required_texts(part, field) for part in node.args]
            return None if None in parts else frozenset().union(*(part for part in parts if part is not None))
        case ConditionFieldEqualsValueExpression(field=name, value=SigmaString() as value) if name == field:
            return None if value.contains_special() else frozenset({"".join(map(str, value.s)).lower()})
        case _:
            return None


def find(path: str) -> Finder:
    """Compile a dotted path into a function that yields the values which a record has there."""
    nodes = _nodes_at(path)
    return lambda record: (element for node in nodes(record) for element in _elements(node))


def leaves(value: Any) -> Iterator[Any]:
    """Yield every scalar inside a JSON value, however deep it lies."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        else:
            yield item


def _nodes_at(path: str) -> Finder:
    """Compile a path into a function that yields what stands there, lists whole. Any parts of it may be one key."""
    keys = path.split(".")
    if len(keys) == 1:
        return lambda record: iter((record[path],)) if path in record else iter(())
    steps = [
        [(".".join(keys[at:end]), end) for end in range(at + 1, len(keys) + 1)]  # a key, and where the path goes on
        for at in range(len(keys))
    ]
    return lambda record: _walk(record, steps, 0)


def _walk(value: Any, steps: list[list[tuple[str, int]]], at: int) -> Iterator[Any]:
    if at == len(steps):
        yield value
    elif isinstance(value, dict):
        for key, end in steps[at]:
            if key in value:
                yield from _walk(value[key], steps, end)
    elif isinstance(value, list):
        for element in _elements(value):
            yield from _walk(element, steps, at)


def _elements(value: Any) -> Iterator[Any]:
    """Yield the value or, of a list, what is in it and in its inner lists. Not recursive: input decides the depth."""
    if not isinstance(value, list):
        yield value
        return
    stack = value[::-1]
    while stack:
        element = stack.pop()
        if isinstance(element, list):
            stack.extend(reversed(element))
        else:
            yield element


def _all(parts: list[Predicate]) -> Predicate:
    return lambda record: all(part(record) for part in parts)


def _any(parts: list[Predicate]) -> Predicate:
    return lambda record: any(part(record) for part in parts)


def _not(part: Predicate) -> Predicate:
    return lambda record: not part(record)


def _field(field: str, value: SigmaType) -> Predicate:
    finder = find(field)
    match value:
        case SigmaNull():
            return lambda record: all(found is None for found in finder(record))
        case SigmaExists():
            return _exists(field, wanted=value.exists)
        case SigmaExpansion():
            return _any([_field(field, part) for part in value.values])
        case SigmaFieldReference():
            return _same_as(finder, value)
        case _:
            return _tests(field, finder, compile_value(value))


def _tests(field: str, finder: Finder, test: ValueTest) -> Predicate:
    if "." in field:
        return lambda record: any(test(found) for found in finder(record))

    def matches(record: Record) -> bool:
        found = record.get(field)
        if isinstance(found, list):
            return any(test(element) for element in _elements(found))
        return test(found)

    return matches


def _exists(field: str, *, wanted: bool) -> Predicate:
    nodes = _nodes_at(field)
    return lambda record: any(True for _ in nodes(record)) is wanted


def _same_as(finder: Finder, reference: SigmaFieldReference) -> Predicate:
    others = find(reference.field)
    prepared = _relation(starts=reference.starts_with, ends=reference.ends_with)

    def matches(record: Record) -> bool:
        related = prepared(_lower_texts(others(record)))
        return any(related(text) for text in _lower_texts(finder(record)))

    return matches


def _lower_texts(values: Iterator[Any]) -> Iterator[str]:
    return (text.lower() for value in values if (text := text_of(value)) is not None)


def _relation(*, starts: bool, ends: bool) -> Callable[[Iterable[str]], TextTest]:
    """How texts are compared with another field's: never each with each, of which a record may have many."""
    if starts and ends:
        return _contains_one_of
    if starts:
        return _starts_with_one_of
    if ends:
        return _ends_with_one_of
    return lambda others: frozenset(others).__contains__


def _starts_with_one_of(others: Iterable[str]) -> TextTest:
    """Only the last start that sorts before a text can be its own, once those that begin with another are left out."""
    starts: list[str] = []
    for other in sorted(others):
        if not starts or not other.startswith(starts[-1]):
            starts.append(other)

    def matches(text: str) -> bool:
        at = bisect_right(starts, text)
        return at > 0 and text.startswith(starts[at - 1])

    return matches


def _ends_with_one_of(others: Iterable[str]) -> TextTest:
    matches = _starts_with_one_of(other[::-1] for other in others)
    return lambda text: matches(text[::-1])


def _contains_one_of(others: Iterable[str]) -> TextTest:
    wanted = frozenset(others)
    return lambda text: any(other in text for other in wanted)


def _keyword(value: SigmaType) -> Predicate:
    match value:
        case SigmaExpansion():
            return _any([_keyword(part) for part in value.values])
        case SigmaNumber():
            return _in_any_leaf(compile_text(SigmaString(str(value.number)), anywhere=True), cased=False)
        case SigmaRegularExpression():
            return _in_any_leaf(compile_text(value), cased=True)
        case SigmaString():
            return _in_any_leaf(compile_text(value, anywhere=True), cased=isinstance(value, SigmaCasedString))
        case _:
            raise UnsupportedRule(f"{type(value).__name__} as a keyword is not supported")


def _in_any_leaf(test: TextTest, *, cased: bool) -> Predicate:
    def matches(record: Record) -> bool:
        texts = (text for leaf in leaves(record) if (text := text_of(leaf)) is not None)
        return any(test(text if cased else text.lower()) for text in texts)

    return matches
