"""Whom a bucket tells of new objects. S3 knows only all rules at once, so ours is put among those of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from router.core.intake.queue_policy import LeftAlone
from router.core.models import Reason

RULE: Final = "cellrouter"
"""The id of our rule."""
EVENTS: Final = ("s3:ObjectCreated:*",)
_QUEUES: Final = "QueueConfigurations"
_TARGETS: Final = {  # every kind of rule that S3 has, and where it names who is told; EventBridge has no rules here
    _QUEUES: "QueueArn",
    "TopicConfigurations": "TopicArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}

Configuration = Mapping[str, Any]
Rule = Mapping[str, Any]


def with_our_rule(before: Configuration, queue_arn: str) -> Configuration | LeftAlone:
    """Return a bucket's configuration in which the queue is told of new objects; the same one where it is already.

    A rule for our queue stays as somebody has made or narrowed it. Ours for a queue that was ours before is led here.
    """
    if any(_ours(before, queue_arn)):
        return before
    rules = list(before.get(_QUEUES, ()))
    at = next((at for at, each in enumerate(rules) if each.get("Id") == RULE), len(rules))
    old = rules[at] if at < len(rules) else {}
    events = old["Events"] if _creates(old) else [*old.get("Events", ()), *EVENTS]
    rule = {**old, "Id": RULE, "QueueArn": queue_arn, "Events": events}
    after = {**before, _QUEUES: [*rules[:at], rule, *rules[at + 1 :]]}
    against = [_words(each, kind) for each, kind in _others(after, rule) if _creates(each) and _overlap(each, rule)]
    if against:
        return LeftAlone(_in_the_way(against, queue_arn))
    if any(each.get("Id") == RULE for each, _ in _others(after, rule)):
        return LeftAlone(f"a topic's or function's rule has the id {RULE}, and S3 takes an id once: give it another")
    return after


def without_our_rule(before: Configuration) -> Configuration:
    """Return a bucket's configuration without the rule that has our id."""
    left = [each for each in before.get(_QUEUES, ()) if each.get("Id") != RULE]
    others = {kind: rules for kind, rules in before.items() if kind != _QUEUES}
    return {**others, _QUEUES: left} if left else others


def why_partly(configuration: Configuration, queue_arn: str) -> Reason | None:
    """Say of which objects alone the queue is told; None when it is of all, or of none."""
    ours = list(_ours(configuration, queue_arn))
    if not ours or any(_filter(each) == ("", "") and set(EVENTS) <= set(each["Events"]) for each in ours):
        return None
    return f"it is told only of {', and of '.join(_which(each) for each in ours)}; that stays so"


def _ours(configuration: Configuration, queue_arn: str) -> Iterator[Rule]:
    for rule in configuration.get(_QUEUES, ()):
        if rule.get("QueueArn") == queue_arn and _creates(rule):
            yield rule


def _others(configuration: Configuration, rule: Rule) -> Iterator[tuple[Rule, str]]:
    for kind in _TARGETS:
        yield from ((each, kind) for each in configuration.get(kind, ()) if each is not rule)


def _creates(rule: Rule) -> bool:
    return any(event.startswith("s3:ObjectCreated:") or event == "s3:*" for event in rule.get("Events", ()))


def _filter(rule: Rule) -> tuple[str, str]:
    """Return how the names of a rule's objects begin and end."""
    rules = ((rule.get("Filter") or {}).get("Key") or {}).get("FilterRules") or ()
    found = {each.get("Name", "").lower(): each.get("Value", "") for each in rules}
    return found.get("prefix", ""), found.get("suffix", "")


def _overlap(one: Rule, other: Rule) -> bool:
    """Say whether S3 would refuse both: it does so when prefixes and suffixes overlap, though no object need do."""
    (begins, ends), (begins_2, ends_2) = _filter(one), _filter(other)
    prefixes = begins.startswith(begins_2) or begins_2.startswith(begins)
    return prefixes and (ends.endswith(ends_2) or ends_2.endswith(ends))


def _which(rule: Rule) -> str:
    begins, ends = _filter(rule)
    return f"{', '.join(rule['Events'])} of {begins}*{ends}"


def _words(rule: Rule, kind: str) -> str:
    return f"rule {rule.get('Id', 'without an id')} ({_which(rule)} to {rule.get(_TARGETS[kind])})"


def _in_the_way(against: list[str], queue_arn: str) -> Reason:
    return (
        f"{' and '.join(against)} overlap{'s' if len(against) == 1 else ''} with the rule for {queue_arn}, and S3 "
        "takes no two rules for the same objects. Change one thing: let that rule tell an SNS topic which tells that "
        "queue too; or turn EventBridge on for the bucket, with a rule that sends to that queue; or give the queue a "
        "rule by hand for objects that no other rule is for: it stays as you make it"
    )
