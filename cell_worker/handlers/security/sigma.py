"""Loads a folder of Sigma rules for CloudTrail, and evaluates them over the records of one log object.

pySigma parses the rules; matching.py and correlation.py compile them. No rule is dropped silently. A faulty file ends
the load with a RuleError that names every such file, or is left out and listed in `RuleSet.bad` where that is wanted. A
valid rule that can't be used here is in `RuleSet.skipped` with the reason.

`remedy: NAME` at the top level of a rule says what to do about a match. Sigma allows keys that it doesn't know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml
from sigma.collection import SigmaCollection
from sigma.conditions import SigmaCondition
from sigma.correlations import SigmaCorrelationRule, SigmaRuleReference
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule
from sigma.rule.attributes import SigmaRelatedType, SigmaStatus
from sigma.rule.base import check_alias_expansion

from cell_worker.handlers.security.aggregation import compile_aggregation
from cell_worker.handlers.security.correlation import Correlation, Gathering, Window, compile_correlation
from cell_worker.handlers.security.documents import documents_of, faults_of, keep_exact, tidied
from cell_worker.handlers.security.matching import Predicate, Record, compile_condition, required_texts
from cell_worker.handlers.security.values import UnsupportedRule

LOGSOURCE: Final = {"product": "aws", "service": "cloudtrail", "category": None}
CANDIDATE_CACHE: Final = 8192
"""How many pairs of eventSource and eventName are remembered. They come from logs, so their number must be limited."""
MAX_NAME_CHARS: Final = 256
"""Longer names of a log are not remembered: no service or call of AWS has one."""

FAULTY: Final = (SigmaError, TypeError, AttributeError, KeyError, ValueError)
"""What pySigma raises for a faulty rule. All but the first: when a value has an unexpected shape."""

AnyRule = SigmaRule | SigmaCorrelationRule


class RuleError(Exception):
    """Some rule files are faulty. The text names each one and its error, one on a line."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a finding says about its rule."""

    rule_id: str
    title: str
    level: str
    tags: tuple[str, ...]
    remedy: str | None
    path: str


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that matched a record, or a correlation that a window of records met."""

    rule: Rule
    index: int  # the record's place in the log object; for a correlation, that of the window's first record
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with its compiled condition, and the sources and names of records that it can match at all."""

    rule: Rule
    matches: Predicate
    sources: frozenset[str] | None  # eventSource in lower case; None: any
    names: frozenset[str] | None  # eventName in lower case; None: any
    output: bool = True  # False: correlations count its matches, and it reports none itself


@dataclass(frozen=True)
class RuleSet:
    """All rules of a folder, in the order of their paths."""

    rules: tuple[CompiledRule, ...]
    correlations: tuple[tuple[Rule, Correlation], ...]
    skipped: list[tuple[str, str]]  # (path, reason)
    bad: list[tuple[str, str]] = field(default_factory=list)  # (path, error) of the faulty files that were left out
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)  # of all files, by path
    _candidates: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_candidates", lru_cache(CANDIDATE_CACHE)(self._candidates_for))

    def __len__(self) -> int:
        only_counting = {rule.rule_id for rule, _ in self.correlations} - {each.rule.rule_id for each in self.rules}
        return len(self.rules) + len(only_counting)

    def all(self) -> Iterator[Rule]:
        """Yield every rule that a match may be of."""
        yield from (each.rule for each in self.rules)
        yield from (rule for rule, _ in self.correlations)

    def evaluate(self, records: Sequence[Record]) -> list[Match]:
        """Find every match in few records; `search` is for many."""
        return list(self.search(records))

    def search(self, records: Iterable[Record]) -> Iterator[Match]:
        """Yield every match: first by record and rule, then the correlations'. Never raises, whatever is in a record.

        It keeps no record.
        """
        gatherings = [(rule, each.rule_ids, Gathering(each)) for rule, each in self.correlations]
        for index, record in enumerate(records):
            for compiled in self._candidates_of(record):
                if compiled.matches(record):
                    for _, counted, gathering in gatherings:
                        if compiled.rule.rule_id in counted:
                            gathering.add(index, compiled.rule.rule_id, record)
                    if compiled.output:
                        yield Match(compiled.rule, index)
        for rule, _, gathering in gatherings:
            for window in gathering.windows():
                yield Match(rule, window.hits[0].index, window)

    def _candidates_of(self, record: Record) -> Iterable[CompiledRule]:
        source, name = record.get("eventSource"), record.get("eventName")
        if isinstance(source, str) and isinstance(name, str):
            known = len(source) <= MAX_NAME_CHARS and len(name) <= MAX_NAME_CHARS
            candidates: Iterable[CompiledRule] = (self._candidates if known else self._candidates_for)(source, name)
            return candidates
        return self.rules

    def _candidates_for(self, source: str, name: str) -> tuple[CompiledRule, ...]:
        source, name = source.lower(), name.lower()
        return tuple(
            rule
            for rule in self.rules
            if (rule.sources is None or source in rule.sources) and (rule.names is None or name in rule.names)
        )


def load_rules(folder: Path, *, remedies: AbstractSet[str] = frozenset(), skip_bad: bool = False) -> RuleSet:
    """Load every *.yml and *.yaml file under a folder. Raises RuleError that names each faulty file, and why.

    With `skip_bad` the faulty files are in the result's `bad` instead, unless no other is there. `remedies` are the
    names that a rule's `remedy` may have.
    """
    texts, bad = _read(folder)
    while True:
        loader = _Loader(remedies, texts)
        rules = loader.result()
        bad += sorted(set(loader.bad))
        texts = {path: text for path, text in texts.items() if path not in dict(loader.bad)}
        if bad and not (skip_bad and texts):
            raise RuleError("\n".join(f"{path}: {error}" for path, error in sorted(bad)))
        if not loader.bad:
            return replace(rules, bad=sorted(bad))


def _read(folder: Path) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The texts of a folder's rule files by their paths, and why others can't be read."""
    if not folder.is_dir():
        raise RuleError(f"{folder}: not a folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix in {".yml", ".yaml"} and path.is_file())
    if not paths:
        raise RuleError(f"{folder}: no *.yml or *.yaml file in it")
    texts, bad = {}, []
    for path in paths:
        try:
            texts[str(path)] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            bad.append((str(path), _one_line(error)))
    return texts, bad


def compile_rules(texts: Mapping[str, str], *, remedies: AbstractSet[str] = frozenset()) -> RuleSet:
    """Make the rules of a folder anew from `RuleSet.texts`, whatever the folder holds by now. Raises RuleError."""
    loader = _Loader(remedies, texts)
    rules = loader.result()
    if loader.bad:
        raise RuleError("\n".join(f"{path}: {error}" for path, error in loader.bad))
    return rules


class _Loader:
    def __init__(self, remedies: AbstractSet[str], texts: Mapping[str, str]) -> None:
        self.remedies = remedies
        self.texts = texts
        self.bad: list[tuple[str, str]] = []
        self.skipped: list[tuple[str, str]] = []
        self.parsed: list[tuple[str, AnyRule]] = []
        self.aggregations: list[tuple[Rule, Correlation]] = []

    def result(self) -> RuleSet:
        for name, text in self.texts.items():
            self._parse_file(name, text)
        self._find_conflicts()
        self.bad.extend(self._resolve())
        rules = [compiled for path, rule in self.parsed if (compiled := self._compile_rule(path, rule)) is not None]
        known = {compiled.rule.rule_id for compiled in rules}
        aggregations = [(rule, each) for rule, each in self.aggregations if rule.rule_id in known]
        countable = known - {rule.rule_id for rule, _ in aggregations}
        pairs = [self._compile_correlation(path, rule, countable) for path, rule in self.parsed]
        correlations = [pair for pair in pairs if pair is not None]
        correlations = sorted(correlations + aggregations, key=lambda pair: pair[0].path)
        silenced = frozenset[str]().union(*(each.rule_ids for _, each in correlations if each.replaces))
        rules = [replace(rule, output=rule.rule.rule_id not in silenced) for rule in rules]
        return RuleSet(tuple(rules), tuple(correlations), sorted(self.skipped), texts=self.texts)

    def _parse_file(self, name: str, text: str) -> None:
        try:
            documents = documents_of(text)
            if not documents or any(not isinstance(document, dict) for document in documents):
                self.bad.append((name, "not a Sigma rule: a YAML map was expected"))
                return
            check_alias_expansion(documents)
            faults = [fault for document in documents for fault in faults_of(document)]
            self.bad.extend((name, fault) for fault in faults)
            if not faults:
                self._parse(name, [tidied(document) for document in documents])
        except (yaml.YAMLError, *FAULTY) as error:
            self.bad.append((name, _one_line(error)))
        except RecursionError:
            self.bad.append((name, "nested too deeply"))

    def _parse(self, name: str, documents: list[dict[str, Any]]) -> None:
        collection = SigmaCollection.from_dicts(
            documents, collect_errors=True, collect_filters=True, resolve_references=False
        )
        self.bad.extend((name, _one_line(error)) for error in collection.errors)
        self.skipped.extend((name, "Sigma filters are not supported") for _ in collection.filters)
        if collection.errors:
            return
        rules = [document for document in documents if "filter" not in document]
        for document, rule in zip(rules, collection.rules, strict=False):  # one for one, unless Sigma 1's `action`
            if isinstance(rule, SigmaRule):
                keep_exact(rule, document)
        self.parsed.extend((name, rule) for rule in collection.rules)

    def _find_conflicts(self) -> None:
        """Note an error for two rules with one id or name, and for a rule beside one that it makes obsolete."""
        seen: dict[str, str] = {}
        for path, rule in self.parsed:
            for kind, value in (("id", rule.id), ("name", rule.name)):
                if value is None:
                    continue
                key = f"{kind} {value}"
                if key in seen:
                    self.bad.append((path, f"{key} is used by {seen[key]} too: delete one, or write another {kind}"))
                seen.setdefault(key, path)
        for path, rule in self.parsed:
            for item in rule.related.related if rule.related else ():
                other = seen.get(f"id {item.id}")
                if item.type is SigmaRelatedType.OBSOLETE and other:
                    self.bad.append((other, f"{path} makes it obsolete, and is there too: delete it"))

    def _resolve(self) -> list[tuple[str, str]]:
        collection = SigmaCollection([rule for _, rule in self.parsed], resolve_references=False)
        errors = []
        for path, rule in self.parsed:
            if isinstance(rule, SigmaCorrelationRule):
                missing = [(path, why) for why in self._missing(rule, collection)]
                errors.extend(missing)
                if not missing:
                    rule.resolve_rule_references(collection)
                    rule.aliases.resolve_rule_references(collection)
        return errors

    def _missing(self, rule: SigmaCorrelationRule, collection: SigmaCollection) -> Iterator[str]:
        """Say of each rule that a correlation names and that isn't there how it should be named, or that it is gone."""
        named = rule.rules if rule.rules is not None else _named_in(rule.condition)
        aliased = [reference for alias in rule.aliases for reference in alias.mapping]
        for key, references in (("rules", named), ("aliases", aliased)):
            for reference in references:
                try:
                    reference.resolve(collection)
                except SigmaError:
                    titled = [(at, each.id) for at, each in self.parsed if each.title == reference.reference]
                    ways = [f"that is the title of {at}, so write {identity}" for at, identity in titled]
                    mend = "; ".join(ways) or "write the id or the name of one that is in the folder"
                    yield f"correlation.{key}: no rule has the id or name {reference.reference!r}: {mend}"

    def _compile_rule(self, path: str, rule: AnyRule) -> CompiledRule | None:
        if not isinstance(rule, SigmaRule):
            return None
        described = self._described(path, rule)
        try:
            _check_usable(rule)
            conditions = self._conditions(described, rule)
            predicates = [compile_condition(condition) for condition in conditions]
        except UnsupportedRule as reason:
            self.skipped.append((path, str(reason)))
        except FAULTY as error:
            self.bad.append((path, f"detection: {_one_line(error)}"))
        else:
            sources = [required_texts(condition, "eventSource") for condition in conditions]
            names = [required_texts(condition, "eventName") for condition in conditions]
            return CompiledRule(described, _first_of(predicates), _union(sources), _union(names))
        return None

    def _conditions(self, described: Rule, rule: SigmaRule) -> list[Any]:
        """Parse a rule's conditions. An aggregation after a pipe becomes a correlation of what stands before it."""
        texts = rule.detection.condition
        if not any("|" in text for text in texts):
            return [condition.parsed for condition in rule.detection.parsed_condition]
        if len(texts) > 1:
            raise UnsupportedRule("an aggregation (a pipe in a condition) beside other conditions is not supported")
        search, _, aggregation = texts[0].partition("|")
        parsed = SigmaCondition(search.strip(), rule.detection, rule.detection.source).parsed
        self.aggregations.append((described, compile_aggregation(rule, parsed, aggregation)))
        self._check_counts_only(described)
        return [parsed]

    def _check_counts_only(self, described: Rule) -> None:
        if described.remedy:
            self.bad.append((described.path, "a correlation can't have a remedy: it is about several records"))

    def _compile_correlation(
        self, path: str, rule: AnyRule, known: AbstractSet[str]
    ) -> tuple[Rule, Correlation] | None:
        if not isinstance(rule, SigmaCorrelationRule) or any(path == bad for bad, _ in self.bad):
            return None
        described = self._described(path, rule)
        self._check_counts_only(described)
        try:
            _check_status(rule)
            correlation = compile_correlation(rule)
        except UnsupportedRule as reason:
            self.skipped.append((path, str(reason)))
            return None
        except FAULTY as error:
            self.bad.append((path, f"correlation: {_one_line(error)}"))
            return None
        unused = ", ".join(each.reference for each in rule.referenced_rules if str(each.rule.id) not in known)
        if unused:
            self.skipped.append((path, f"correlation.rules: {unused} is not supported, or counts itself: take it out"))
            return None
        return described, correlation

    def _described(self, path: str, rule: AnyRule) -> Rule:
        remedy = rule.custom_attributes.get("remedy")
        if rule.id is None:
            self.bad.append(
                (path, "id: the rule has no id, and a finding names its rule by it: add one, as uuidgen prints")
            )
        if remedy is not None and remedy not in self.remedies:
            known = ", ".join(sorted(self.remedies)) or "none"
            self.bad.append((path, f"no such remedy: {remedy!r} (there are: {known})"))
        level = rule.level.name.lower() if rule.level else "informational"
        return Rule(str(rule.id), rule.title, level, tuple(map(str, rule.tags)), remedy, path)


def _named_in(condition: Any) -> list[SigmaRuleReference]:
    return [SigmaRuleReference(name) for name in condition.get_referenced_rules()]


def _check_usable(rule: SigmaRule) -> None:
    """Raise UnsupportedRule for a valid rule that is not for CloudTrail or asks for something unsupported."""
    _check_status(rule)
    source = rule.logsource
    for key, wanted in LOGSOURCE.items():
        given = getattr(source, key)
        if given is not None and given != wanted:
            raise UnsupportedRule(f"not for CloudTrail: its logsource {key} is {given}")
    for name, detection in rule.detection.detections.items():
        for modifiers in _modifier_names(detection):
            if "SigmaRegularExpressionModifier" in modifiers and modifiers & _ANCHORS:
                raise UnsupportedRule(f"{name}: re together with startswith or endswith is not supported; use ^ or $")


_ANCHORS: Final = {"SigmaStartswithModifier", "SigmaEndswithModifier"}


def _modifier_names(detection: Any) -> Iterable[set[str]]:
    for item in detection.detection_items:
        if hasattr(item, "detection_items"):
            yield from _modifier_names(item)
        else:
            yield {modifier.__name__ for modifier in item.modifiers}


def _check_status(rule: AnyRule) -> None:
    if rule.status in {SigmaStatus.DEPRECATED, SigmaStatus.UNSUPPORTED}:
        raise UnsupportedRule(f"its status is {rule.status.name.lower()}")


def _first_of(predicates: list[Predicate]) -> Predicate:
    """Combine a rule's conditions: any of them is enough, and the rule matches a record once."""
    return predicates[0] if len(predicates) == 1 else lambda record: any(matches(record) for matches in predicates)


def _union(parts: list[frozenset[str] | None]) -> frozenset[str] | None:
    known = [part for part in parts if part is not None]
    return frozenset().union(*known) if len(known) == len(parts) else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
