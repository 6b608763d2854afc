"""What `doctor` judges: each thing is well, or it is said what is wrong and how to mend it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from router.cli.setup.doctor import OK, WRONG, of_registry
from router.core.intake.checkup import why_bad_redrive
from router.core.models import RouterReport, RouterView
from tests.support.aio import run
from tests.support.command_line import CommandLine, Operated

GOOD = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 1000}


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (json.dumps(GOOD), None),
        ("", "no redrive policy"),
        (json.dumps(GOOD | {"maxReceiveCount": "3"}), "gives up after 3 receives"),
        (json.dumps(GOOD | {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:old"}), "leads to arn:"),
        ("{", "can't be read"),
        ("[]", "can't be read"),
        (json.dumps(GOOD | {"maxReceiveCount": None}), "can't be read"),
    ],
)
def test_a_redrive_policy_is_judged(policy: str, why: str | None) -> None:
    """SQS must not give up on a message before routers do, and where it puts it must be where people look."""
    found = why_bad_redrive(policy, "dead")
    assert found is why is None or (why is not None and why in str(found))


def test_what_the_registry_says_is_judged() -> None:
    """The clock, the leader, the routers and the cells; whatever is wrong has a way to mend it."""
    snapshot = run(Operated(2).snapshot())
    live = replace(snapshot, routers=(RouterView(RouterReport("r0", 1, quiet=True), live=True),))
    assert {finding.what: finding.state for finding in of_registry(live, live.now_ms + 500)} == dict.fromkeys(
        ("clock", "leader", "routers", "cells"), OK
    )
    alone = replace(snapshot, leader="", leases=snapshot.leases[:1])
    found = list(of_registry(alone, alone.now_ms - 12_000))
    assert [(finding.what, finding.state) for finding in found] == [
        (what, WRONG) for what in ("clock", "leader", "routers", "cells")
    ]
    assert found[0].said == "12.0 s behind Redis' clock"
    assert found[3].said == "1 of 2 serve"
    assert all(finding.mend for finding in found)


def test_versions_are_said_for_people_and_for_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of cellrouter, Python and the packages that matter."""
    cli = CommandLine(monkeypatch)
    text, found = cli("version"), json.loads(cli("version", "--json"))
    assert text.splitlines() == [f"{name} {value}" for name, value in found.items()]
    assert {"cellrouter", "python", "redis", "aiobotocore"} <= set(found)
