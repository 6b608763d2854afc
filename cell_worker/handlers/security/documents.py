"""Reads the YAML documents of rule files, before pySigma does.

pySigma speaks of its own inside when a document has an unexpected shape, and rounds numbers. So what people often write
is looked for here, and said with the field and how to mend it; and numbers are kept as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from itertools import chain
from typing import Any, Final
from uuid import UUID

import yaml
from sigma.rule import SigmaRule
from sigma.rule.base import SigmaYAMLLoader
from sigma.types import SigmaNumber

PROSE: Final = ("falsepositives", "fields", "references")
"""The lists of a rule that are only for people."""
MAX_SHOWN_CHARS: Final = 80
_WORDS: Final = {"and", "or", "not", "of", "all", "any", "them"}
_OPERATORS: Final = {"&&": "and", "&": "and", "||": "or", "!": "not "}
_PART: Final = re.compile(r"[\w*?-]+|&&?|\|\||!")
_PIPE: Final = re.compile(r"(?<!\|)\|(?!\|)")
_AGGREGATION: Final = re.compile(r"\b(count|sum|min|max|avg|near)\s*\(", re.IGNORECASE)


class _ExactFloat(float):
    """A decimal of a rule, which remembers how it was written."""

    exact: Decimal


class _DocumentLoader(SigmaYAMLLoader):
    pass


def _decimal(loader: _DocumentLoader, node: yaml.ScalarNode) -> float:
    number = _ExactFloat(loader.construct_yaml_float(node))
    try:
        number.exact = Decimal(node.value)
    except InvalidOperation:  # one of YAML's other ways to write a number, such as 1:30.5
        number.exact = Decimal(repr(float(number)))
    return number


_DocumentLoader.add_constructor("tag:yaml.org,2002:float", _decimal)


def documents_of(text: str) -> list[Any]:
    """Read the documents of a file. Raises yaml.YAMLError."""
    return list(yaml.load_all(text, _DocumentLoader))


def tidied(document: Mapping[str, Any]) -> dict[str, Any]:
    """Change what pySigma refuses in public rules: a text where a list belongs, and `timeframe` in the detection."""
    changes: dict[str, Any] = {key: [document[key]] for key in PROSE if isinstance(document.get(key), str)}
    detection = document.get("detection")
    if isinstance(detection, dict) and isinstance(detection.get("timeframe"), str):
        changes["timeframe"] = detection["timeframe"]
        changes["detection"] = {key: value for key, value in detection.items() if key != "timeframe"}
    return {**document, **changes}


def keep_exact(rule: SigmaRule, document: Mapping[str, Any]) -> None:
    """Give a rule the numbers that its document has: pySigma rounds what is beyond 2^53 or has many decimals."""
    definitions = document.get("detection")
    for name, detection in rule.detection.detections.items():
        written = list(_written_numbers(definitions.get(name))) if isinstance(definitions, dict) else []
        parsed = list(_parsed_numbers(detection))
        if len(written) == len(parsed):
            for number, exact in zip(parsed, written, strict=True):
                if float(number.number) == float(exact):
                    number.number = exact.exact if isinstance(exact, _ExactFloat) else exact  # type: ignore[assignment]


def _written_numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _written_numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _parsed_numbers(detection: Any) -> Iterator[SigmaNumber]:
    for item in detection.detection_items:
        if hasattr(item, "detection_items"):
            yield from _parsed_numbers(item)
        else:
            yield from (value for value in item.original_value or () if isinstance(value, SigmaNumber))


def faults_of(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a document: the field, what is in it, and how to mend it."""
    if (identity := document.get("id")) is not None and not _is_uuid(identity):
        yield (
            f"id: {_shown(identity)} is no UUID, and a finding names its rule by it: write a new one, as uuidgen prints"
        )
    for key in ("name", "remedy"):
        if document.get(key) is not None:
            yield from _text_faults(key, document[key])
    detection, correlation = document.get("detection"), document.get("correlation")
    if isinstance(detection, dict):
        yield from _detection_faults(detection)
    if isinstance(correlation, dict):
        yield from _correlation_faults(correlation)


def _detection_faults(detection: Mapping[Any, Any]) -> Iterator[str]:
    for name, definition in detection.items():
        if name not in {"condition", "timeframe"}:
            yield from _key_faults(f"detection.{name}", definition)
    if "condition" in detection:
        given = detection["condition"]
        for text in given if isinstance(given, list) else [given]:
            yield from _condition_faults("detection.condition", text, detection.keys())


def _key_faults(field: str, definition: Any) -> Iterator[str]:
    if isinstance(definition, list):
        for inner in definition:
            yield from _key_faults(field, inner)
    elif isinstance(definition, dict):
        for key, value in definition.items():
            yield from _text_faults(f"{field}.{key}", key)
            if any(isinstance(inner, dict) for inner in (value if isinstance(value, list) else [value])):
                yield f"{field}.{key}: a map stands where values belong: write the way to a field with dots, as in a.b"


def _condition_faults(field: str, text: Any, names: Iterable[Any]) -> Iterator[str]:
    """Look for what other languages, and people, write in conditions. A name of the rule's own is none of these."""
    if not isinstance(text, str):
        yield from _text_faults(field, text)
        return
    search = _PIPE.split(text, maxsplit=1)[0]
    wrong = {part: right for part in _PART.findall(search) if part not in names and (right := _right(part)) != part}
    if wrong:
        mended = _PART.sub(lambda part: wrong.get(part[0], part[0]), search) + text[len(search) :]
        yield f"{field}: {_shown(text)} has {', '.join(wrong)}, which Sigma doesn't know: write {mended!r}"
    elif found := _AGGREGATION.search(search):
        yield (
            f"{field}: {_shown(text)} has {found[1]}(…) without a pipe before it: write "
            "'selection | count(field) by group > 5', or a correlation rule"
        )


def _right(part: str) -> str:
    return part.lower() if part.lower() in _WORDS else _OPERATORS.get(part, part)


def _correlation_faults(correlation: Mapping[Any, Any]) -> Iterator[str]:
    if correlation.get("type") is not None:
        yield from _text_faults("correlation.type", correlation["type"])
    rules, aliases, condition = (correlation.get(key) for key in ("rules", "aliases", "condition"))
    if rules == [] and not isinstance(condition, str):
        yield "correlation.rules: it names no rule: write the id or the name of each rule that counts"
    for rule in rules if isinstance(rules, list) else ():
        if not isinstance(rule, str):
            yield f"correlation.rules: {_shown(rule)} stands where a rule's id or name belongs: write it as a text"
    if isinstance(aliases, dict):
        mappings = [mapping for mapping in aliases.values() if isinstance(mapping, dict)]
        for part in chain.from_iterable(chain(mapping.keys(), mapping.values()) for mapping in mappings):
            yield from _text_faults("correlation.aliases", part)
    if isinstance(condition, str):
        yield from _condition_faults("correlation.condition", condition, ())


def _text_faults(field: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{field}: {_shown(value)} stands where a text belongs: write a text, in quotes if it looks like a number"


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


def _shown(value: Any) -> str:
    """A value as a message quotes it: its kind when it is large."""
    if isinstance(value, dict | list):
        return "a map" if isinstance(value, dict) else "a list"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
