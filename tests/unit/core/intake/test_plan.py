"""What `cellrouter init` plans from what it has found, and how it tells that."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from router.core.intake.plan import (
    FoundArchive,
    FoundIntake,
    FoundQueue,
    IntakePlan,
    Part,
    WantedIntake,
    plan_farewell,
    plan_intake,
)
from router.core.intake.queue_policy import policy_text

WANTED: Final = WantedIntake(
    "acme-dead",
    "acme-quarantine",
    "acme-events",
    "acme-live-source",
    {"cellrouter": "acme-live"},
    "aws",
    "eu-west-1",
    "1",
)
NOTHING: Final = FoundIntake({}, None)
OVERLAP: Final = {
    "TopicConfigurations": [{"Id": "theirs", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Events": ["s3:ObjectCreated:*"]}]
}


def done(plan: IntakePlan, found: FoundIntake) -> FoundIntake:
    """Return what there is once the plan has been carried out."""
    queues, notification = dict(found.queues), found.notification
    for step in plan.steps:
        if step.part is Part.QUEUE:
            queues[step.name] = FoundQueue(WANTED.queue_arn(step.name))
        elif step.part is Part.POLICY:
            queues[step.name] = replace(queues[step.name], policy=policy_text(step.after))
        else:
            notification = {} if step.part is Part.BUCKET else step.after
    return FoundIntake(queues, notification)


def parts(plan: IntakePlan) -> list[tuple[str, str]]:
    """Return what the plan makes or changes, in its order."""
    return [(step.part, step.name) for step in plan.steps]


def test_the_archives_bucket_is_made_with_its_rule_and_otherwise_left_alone() -> None:
    """The rule is made up for in a bucket of ours that lacks it; what somebody else has set stays."""
    wanted = replace(WANTED, archive="acme-live-archive", archive_days=7)
    whole = done(plan_intake(WANTED, NOTHING), NOTHING)

    def steps(found: FoundArchive | None) -> list[tuple[str, str]]:
        return parts(plan_intake(wanted, replace(whole, archive=found)))

    rule = (Part.RETENTION, "acme-live-archive")
    assert steps(None) == [(Part.BUCKET, "acme-live-archive"), rule]
    assert steps(FoundArchive(ours=True, has_rules=False)) == [rule]
    assert steps(FoundArchive(ours=True, has_rules=True)) == []
    assert steps(FoundArchive(ours=False, has_rules=False)) == []


def test_an_empty_account_gets_all_of_it_and_then_nothing_more() -> None:
    """Dead letters before the queue that names them, and the policy before the rule that S3 checks against it."""
    plan = plan_intake(WANTED, NOTHING)
    assert parts(plan) == [
        ("queue", "acme-dead"),
        ("queue", "acme-quarantine"),
        ("queue", "acme-events"),
        ("bucket", "acme-live-source"),
        ("policy of queue", "acme-events"),
        ("notifications of bucket", "acme-live-source"),
    ]
    assert all(not step.before for step in plan.steps)
    assert plan_intake(WANTED, done(plan, NOTHING)) == IntakePlan(())


def test_what_is_there_is_not_touched() -> None:
    """No queue's attributes and no bucket: a foreign redrive policy, retention or tag is not even looked at."""
    there = FoundIntake(
        {name: FoundQueue(f"arn:aws:sqs:us-east-1:2:{name}") for name in ("acme-dead", "acme-events")}, {}
    )
    plan = plan_intake(replace(WANTED, quarantine=""), there)
    assert parts(plan) == [("policy of queue", "acme-events"), ("notifications of bucket", "acme-live-source")]
    assert all("arn:aws:sqs:us-east-1:2:acme-events" in json.dumps(step.after) for step in plan.steps)


def test_a_new_source_queue_leads_to_the_dead_letters_that_there_are() -> None:
    """By their own ARN, or by the one that they get."""

    def target(found: FoundIntake) -> str:
        [source] = [
            step for step in plan_intake(WANTED, found).steps if step.name == WANTED.source and not step.before
        ][:1]
        redrive: dict[str, Any] = json.loads(source.after["Attributes"]["RedrivePolicy"])
        return str(redrive["deadLetterTargetArn"])

    assert target(NOTHING) == "arn:aws:sqs:eu-west-1:1:acme-dead"
    assert target(FoundIntake({"acme-dead": FoundQueue("arn:of:it")}, None)) == "arn:of:it"


def test_a_fifo_source_has_queues_alone() -> None:
    """S3 can't tell it, and its dead letters would have to be a FIFO queue too."""
    plan = plan_intake(replace(WANTED, source="acme-events.fifo", bucket=""), NOTHING)
    assert {part for part, _ in parts(plan)} == {"queue"}
    attributes = plan.steps[-1].after["Attributes"]
    assert attributes["FifoQueue"] == "true"
    assert "RedrivePolicy" not in attributes


def test_what_is_refused_leaves_policy_and_notification_and_not_the_rest() -> None:
    """A queue that somebody has deleted is made, whatever is wrong with the bucket. Each reason names its part."""
    for found, why in (
        (
            FoundIntake({WANTED.source: FoundQueue("arn")}, OVERLAP),
            "the notifications of bucket acme-live-source: ",
        ),
        (FoundIntake({WANTED.source: FoundQueue("arn", "{")}, {}), "the policy of queue acme-events: it can't be read"),
    ):
        plan = plan_intake(WANTED, found)
        assert parts(plan) == [("queue", "acme-dead"), ("queue", "acme-quarantine")]
        [refusal] = plan.refusals
        assert refusal.startswith(why)


def test_a_farewell_takes_back_what_was_added_and_no_more() -> None:
    """Of policy and rules that others have, too; where there is nothing of ours, there is nothing to do."""
    foreign = {"Version": "2008-10-17", "Statement": [{"Sid": "Theirs", "Effect": "Deny"}]}
    told = {"QueueConfigurations": [{"Id": "t", "QueueArn": "arn:2", "Events": ["s3:ObjectRemoved:*"]}]}
    for policy, notification in ((policy_text(foreign), told), ("", {}), ("", {"EventBridgeConfiguration": {}})):
        queues = {name: FoundQueue(name, policy) for name in (WANTED.dead_letters, WANTED.quarantine, WANTED.source)}
        before = FoundIntake(queues, notification)
        after = done(plan_intake(WANTED, before), before)
        assert after != before
        assert done(plan_farewell(WANTED.source, WANTED.bucket, after), after) == before
        assert plan_farewell(WANTED.source, WANTED.bucket, before) == IntakePlan(())
    assert plan_farewell(WANTED.source, WANTED.bucket, NOTHING) == IntakePlan(())


def test_each_step_tells_before_and_after() -> None:
    """In JSON, as AWS has it."""
    foreign = {"Version": "2008-10-17", "Statement": [{"Sid": "Theirs", "Effect": "Deny"}]}
    found = FoundIntake({WANTED.source: FoundQueue("arn", policy_text(foreign))}, None)
    steps = {step.part: step for step in plan_intake(WANTED, found).steps}
    told = steps[Part.POLICY].lines()
    assert told[0] == "change the policy of queue acme-events"
    assert json.loads(told[1].removeprefix("  before: ")) == foreign
    assert json.loads(told[2].removeprefix("  after:  "))["Statement"][0] == foreign["Statement"][0]
    assert steps[Part.BUCKET].lines() == [
        "make the bucket acme-live-source",
        "  before: none",
        '  after:  {"Region": "eu-west-1", "Tags": {"cellrouter": "acme-live"}}',
    ]
