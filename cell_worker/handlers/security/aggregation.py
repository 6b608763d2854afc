"""Translates Sigma's old aggregation syntax, `search | count(field) by group > n`, into a correlation of today.

`count()` counts records, and `count(field)` counts the field's different values. They are counted within the rule's
`timeframe`. A rule without one counts over all that it sees, which here is one log object.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule

from cell_worker.handlers.security.correlation import NO_MORE_THAN, Correlation, compile_correlation
from cell_worker.handlers.security.matching import required_texts
from cell_worker.handlers.security.values import UnsupportedRule

SHAPE: Final = re.compile(
    r"count\(\s*(?P<field>[^\s()]*)\s*\)\s*(?:by\s+(?P<groups>[^<>=]+?)\s*)?(?P<operator>[<>]=?|==?)\s*(?P<count>\d{1,9})"
)
OPERATORS: Final = {">": "gt", ">=": "gte"}


def compile_aggregation(rule: SigmaRule, search: Any, aggregation: str) -> Correlation:
    """Make a correlation of a rule's own matches. `search` is the parsed condition before the pipe.

    Raises UnsupportedRule, and SigmaError for what Sigma itself does not allow.
    """
    shape = SHAPE.fullmatch(aggregation.strip())
    if shape is None:
        raise UnsupportedRule(f"detection.condition: {_why_not_counted(aggregation.strip())}")
    if shape["operator"] not in OPERATORS:
        raise UnsupportedRule(f"detection.condition: {shape['operator']} is not supported: {NO_MORE_THAN} count() >= 5")
    field, timeframe = shape["field"], rule.custom_attributes.get("timeframe")
    condition: dict[str, Any] = {OPERATORS[shape["operator"]]: int(shape["count"])}
    counting = {
        "type": "value_count" if field else "event_count",
        "rules": [str(rule.id)],
        "group-by": [group.strip() for group in (shape["groups"] or "").split(",") if group.strip()],
        "timespan": "1s" if timeframe is None else timeframe,
        "condition": condition | ({"field": field} if field else {}),
    }
    counted = SigmaCorrelationRule.from_dict({"title": rule.title, "correlation": counting})
    counted.resolve_rule_references(SigmaCollection([rule], resolve_references=False))
    correlation = compile_correlation(counted)
    values = required_texts(search, field) if field else None
    if values is not None and len(values) < correlation.enough:
        raise UnsupportedRule(
            f"detection.condition: it could never match: its search allows {len(values)} values of {field} and it asks "
            f"for {correlation.enough} different ones"
        )
    return correlation if timeframe is not None else replace(correlation, timespan=timedelta.max)


def _why_not_counted(aggregation: str) -> str:
    why = f"the aggregation '| {aggregation}' is not supported"
    lower = re.sub(r"\b(COUNT|BY)\b", lambda word: word[0].lower(), aggregation, flags=re.IGNORECASE)
    if lower != aggregation and SHAPE.fullmatch(lower):
        return f"{why}: Sigma's words are lower-case: write '| {lower}'"
    if aggregation.startswith("near"):
        return f"{why}: write a correlation rule of type temporal instead"
    return f"{why}: only count is, as in '| count(field) by group > 5'"
