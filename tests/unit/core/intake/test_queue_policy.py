"""Our statement in a queue's policy: it is known by its Sid alone, and what others have written stays."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.intake.queue_policy import (
    MAX_POLICY_BYTES,
    MAX_STATEMENTS,
    SID,
    LeftAlone,
    policy_text,
    read_policy,
    statement,
    with_ours,
)
from router.core.intake.sameness import same

OURS: Final = statement("arn:aws:sqs:us-east-1:1:events", "arn:aws:s3:::acme-live-source", "1")
FOREIGN: Final[dict[str, Any]] = {
    "Sid": "Theirs",
    "Effect": "Deny",
    "Principal": "*",
    "Action": ["sqs:*"],
    "Resource": "arn:aws:sqs:us-east-1:1:events",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}
STATEMENTS: Final = st.lists(
    st.fixed_dictionaries(
        {"Effect": st.sampled_from(["Allow", "Deny"]), "Action": st.text(max_size=9) | st.lists(st.text(max_size=9))},
        optional={"Sid": st.sampled_from([SID, SID.lower(), "a", ""]), "NotPrincipal": st.text(max_size=9)},
    ),
    max_size=6,
)
POLICIES: Final = st.builds(
    lambda found, more: {**more, "Statement": found},
    STATEMENTS,
    st.fixed_dictionaries({}, optional={"Version": st.just("2008-10-17"), "Id": st.text(max_size=9)}),
)


def theirs(document: dict[str, Any]) -> list[Any]:
    """Return the statements that aren't ours, in their order."""
    return [each for each in document["Statement"] if each.get("Sid") != SID]


@given(POLICIES)
def test_all_that_others_wrote_stays(before: dict[str, Any]) -> None:
    """Order, version and id too. Ours is there once, whatever had its Sid; a second time changes nothing."""
    after = with_ours(before, OURS)
    assert not isinstance(after, LeftAlone)
    assert theirs(after) == theirs(before)
    assert [each for each in after["Statement"] if each.get("Sid") == SID] == [OURS]
    kept = {key: value for key, value in before.items() if key != "Statement"}
    assert {key: value for key, value in after.items() if key != "Statement"} == {"Version": "2012-10-17"} | kept
    again = read_policy(policy_text(after))
    assert isinstance(again, dict)
    assert with_ours(again, OURS) is again


def test_ours_is_replaced_where_it_stands() -> None:
    """An older one of another bucket, between two of others."""
    before = {"Statement": [FOREIGN, {**OURS, "Resource": "other"}, {**FOREIGN, "Sid": "Last"}]}
    after = with_ours(before, OURS)
    assert isinstance(after, dict)
    assert after["Statement"] == [FOREIGN, OURS, {**FOREIGN, "Sid": "Last"}]


def test_a_statement_without_a_list_stays() -> None:
    """SQS takes a policy whose only statement is an object."""
    after = with_ours({"Statement": FOREIGN}, OURS)
    assert isinstance(after, dict)
    assert after["Statement"] == [FOREIGN, OURS]


@pytest.mark.parametrize("given_back", [{"Action": "SQS:SendMessage"}, {"Action": ["sqs:SendMessage"]}])
def test_a_form_that_aws_gives_back_is_no_change(given_back: dict[str, Any]) -> None:
    """Else every `init` would write."""
    before = {"Statement": [FOREIGN, {**OURS, **given_back}]}
    assert with_ours(before, OURS) is before


@pytest.mark.parametrize("part", ["Effect", "Principal", "Action", "Resource", "Condition"])
def test_whatever_else_is_different_is_a_change(part: str) -> None:
    """Ours is put right, in each of its parts."""
    assert with_ours({"Statement": [{**OURS, part: "x"}]}, OURS) == {"Version": "2012-10-17", "Statement": [OURS]}


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"Statement": ["x"]}', '{"Statement": 7}', "[" * 100_000])
def test_what_cant_be_read_is_refused(text: str) -> None:
    """It is somebody's, and would be lost."""
    found = read_policy(text)
    assert isinstance(found, LeftAlone)
    assert found.why.startswith("it ")


def test_a_policy_that_sqs_would_refuse_is_refused_before() -> None:
    """By bytes, counted as UTF-8, and by statements; the sentence has both numbers. What just fits is taken."""
    room = MAX_POLICY_BYTES - len(policy_text({"Version": "2012-10-17", "Statement": [{"Sid": ""}, OURS]}))
    assert isinstance(with_ours({"Statement": [{"Sid": "x" * room}]}, OURS), dict)
    for sid in ("x" * (room + 1), "é" * (room // 2 + 1)):
        refused = with_ours({"Statement": [{"Sid": sid}]}, OURS)
        assert isinstance(refused, LeftAlone)
        assert f"{MAX_POLICY_BYTES + 1} bytes" in refused.why or f"{MAX_POLICY_BYTES + 2} bytes" in refused.why
    many = [{"Sid": str(at)} for at in range(MAX_STATEMENTS)]
    assert isinstance(with_ours({"Statement": many[1:]}, OURS), dict)
    refused = with_ours({"Statement": many}, OURS)
    assert isinstance(refused, LeftAlone)
    assert f"{MAX_STATEMENTS + 1} statements" in refused.why


def test_sameness_knows_what_matters() -> None:
    """Order in lists does not, values do, and that EventBridge is on does though nothing is said of it."""
    assert same({"a": [1, {"b": 2}]}, {"a": [{"b": [2]}, 1]})
    assert not same({"a": "X"}, {"a": "x"})
    assert not same({"EventBridgeConfiguration": {}}, {})
    assert same({"Filter": {"Key": {"FilterRules": []}}}, json.loads("{}"))
