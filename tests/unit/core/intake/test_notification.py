"""Our rule among those of others: whom a bucket tells of new objects."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.intake.notification import EVENTS, RULE, why_partly, with_our_rule
from router.core.intake.queue_policy import LeftAlone

QUEUE: Final = "arn:aws:sqs:us-east-1:1:events"
OTHER: Final = "arn:aws:sqs:us-east-1:1:other"
OURS: Final = {"Id": RULE, "QueueArn": QUEUE, "Events": list(EVENTS)}
KINDS: Final = {
    "QueueConfigurations": "QueueArn",
    "TopicConfigurations": "TopicArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}


def filtered(prefix: str = "", suffix: str = "") -> dict[str, Any]:
    """Return the filter of a rule, as S3 gives it back."""
    return {
        "Filter": {"Key": {"FilterRules": [{"Name": "Prefix", "Value": prefix}, {"Name": "Suffix", "Value": suffix}]}}
    }


def rules(kind: str, *events: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rules of somebody else for such events."""
    one = st.fixed_dictionaries(
        {
            "Id": st.text("abc", min_size=1),
            KINDS[kind]: st.just(OTHER),
            "Events": st.lists(st.sampled_from(events), min_size=1),
        },
        optional={"Filter": st.text("ab/").map(lambda text: filtered(text)["Filter"])},
    )
    return st.lists(one, max_size=3)


def configurations(*events: str) -> st.SearchStrategy[dict[str, Any]]:
    """Configurations of somebody else, of all kinds that S3 has."""
    every = {kind: rules(kind, *events) for kind in KINDS}
    return st.fixed_dictionaries({}, optional={**every, "EventBridgeConfiguration": st.just({})})


@given(configurations("s3:ObjectRemoved:*", "s3:ObjectTagging:Put", "s3:TestEvent", "s3:LifecycleExpiration:*"))
def test_all_that_others_made_stays(before: dict[str, Any]) -> None:
    """Of every kind, in its order; our rule comes last, and a second time nothing is changed."""
    was = deepcopy(before)
    after = with_our_rule(before, QUEUE)
    assert isinstance(after, dict)
    assert before == was
    assert after == {**was, "QueueConfigurations": [*was.get("QueueConfigurations", ()), OURS]}
    assert with_our_rule(after, QUEUE) is after


@given(configurations("s3:ObjectRemoved:*", "s3:ObjectCreated:Put", "s3:ObjectCreated:*"))
def test_what_s3_would_refuse_is_refused_before(before: dict[str, Any]) -> None:
    """Ours is for all new objects, so any other rule for new ones is in the way, and is named."""
    found = [each for kind in KINDS for each in before.get(kind, ())]
    against = [each for each in found if any("Created" in event for event in each["Events"])]
    after = with_our_rule(before, QUEUE)
    assert isinstance(after, LeftAlone) == bool(against)
    if isinstance(after, LeftAlone):
        assert all(f"rule {each['Id']} (" in after.why for each in against)
        assert "SNS topic" in after.why
        assert "EventBridge" in after.why


@pytest.mark.parametrize(
    "rule",
    [
        {**OURS, "Id": "of a template"},
        {**OURS, **filtered("AWSLogs/")},
        {**OURS, "Id": "mine", **filtered(suffix=".gz")},
        {**OURS, "Events": ["s3:ObjectCreated:Put", "s3:ObjectRemoved:*"]},
    ],
)
def test_a_rule_for_our_queue_stays_as_it_is(rule: dict[str, Any]) -> None:
    """Whoever has made or narrowed it; that it is narrowed is said."""
    before = {"QueueConfigurations": [rule]}
    assert with_our_rule(before, QUEUE) is before
    told = why_partly(before, QUEUE)
    assert (told is None) == (rule["Id"] == "of a template")
    assert told is None or "that stays so" in told


def test_our_rule_is_led_to_another_queue() -> None:
    """When the source queue has another name now: its filter and events stay, and so does its place."""
    theirs = {"Id": "a", "QueueArn": OTHER, "Events": ["s3:ObjectRemoved:*"]}
    ours = {**OURS, "QueueArn": OTHER, **filtered("AWSLogs/")}
    after = with_our_rule({"QueueConfigurations": [ours, theirs]}, QUEUE)
    assert after == {"QueueConfigurations": [{**ours, "QueueArn": QUEUE}, theirs]}


def test_what_our_rule_tells_besides_stays() -> None:
    """Somebody has given it other events: the one that we need is added."""
    after = with_our_rule({"QueueConfigurations": [{**OURS, "Events": ["s3:ObjectRemoved:*"]}]}, QUEUE)
    assert after == {"QueueConfigurations": [{**OURS, "Events": ["s3:ObjectRemoved:*", *EVENTS]}]}


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        (filtered("a/"), filtered("b/"), False),
        (filtered("a/"), filtered("a/b/"), True),
        (filtered("a/", ".gz"), filtered("a/", ".json"), False),
        (filtered("a/", ".gz"), filtered("", "n.gz"), True),
        (filtered("a/", ".gz"), filtered("b/", ".gz"), False),
        (filtered("a/"), filtered(suffix=".gz"), True),
        (filtered("a/"), {}, True),
    ],
)
def test_overlaps_are_those_of_s3(one: dict[str, Any], other: dict[str, Any], *, refused: bool) -> None:
    """Both prefixes and suffixes must overlap; S3 asks no more."""
    ours = {**OURS, "QueueArn": OTHER, **one}
    theirs = {"Id": "t", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Events": ["s3:ObjectCreated:Copy"], **other}
    after = with_our_rule({"QueueConfigurations": [ours], "TopicConfigurations": [theirs]}, QUEUE)
    assert isinstance(after, LeftAlone) == refused


def test_an_id_that_is_taken_is_told() -> None:
    """S3 takes an id once among all kinds of rules."""
    theirs = {"Id": RULE, "TopicArn": "arn:aws:sns:us-east-1:1:t", "Events": ["s3:ObjectRemoved:*"]}
    refused = with_our_rule({"TopicConfigurations": [theirs]}, QUEUE)
    assert isinstance(refused, LeftAlone)
    assert f"has the id {RULE}" in refused.why
