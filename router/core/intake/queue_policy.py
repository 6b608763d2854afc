"""The source queue's policy: ours is one statement, known by its Sid; all others stay as somebody has written them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from router.core.intake.sameness import same
from router.core.models import Reason

SID: Final = "CellrouterNotifications"  # as in deploy/cloudformation/platform.yaml
MAX_POLICY_BYTES: Final = 8192
MAX_STATEMENTS: Final = 20
"""Both are SQS's own limits of a policy."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """What AWS has is left as it is, since it can't be changed without harm or AWS would refuse it."""

    why: Reason


def statement(queue_arn: str, bucket_arn: str, account: str) -> Document:
    """Return what lets S3 tell a queue of the objects of one bucket of one account."""
    return {
        "Sid": SID,
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnLike": {"aws:SourceArn": bucket_arn}, "StringEquals": {"aws:SourceAccount": account}},
    }


def policy_text(document: Mapping[str, Any]) -> str:
    """Return a policy as it is written, without a byte that isn't needed; an empty one removes what there is."""
    if not document:
        return ""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def read_policy(text: str) -> Document | LeftAlone | None:
    """Return a policy that SQS has given; None where it has none."""
    if not text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return LeftAlone(f"it can't be read ({error!s:.100})")
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in _statements(found)):
        return LeftAlone("it is none that can be read: an object with statements was expected")
    return found


def with_ours(before: Document | None, ours: Mapping[str, Any]) -> Document | LeftAlone:
    """Return a policy with our statement in it: in the place of the one with its Sid, or as the last."""
    found = _statements(before or {})
    mine = [at for at, each in enumerate(found) if each.get("Sid") == ours["Sid"]]
    if before is not None and len(mine) == 1 and same(found[mine[0]], ours):
        return before
    at = mine[0] if mine else len(found)
    after = [each for each in found[:at] if each.get("Sid") != ours["Sid"]]
    after += [dict(ours), *(each for each in found[at:] if each.get("Sid") != ours["Sid"])]
    merged = {"Version": "2012-10-17", **(before or {}), "Statement": after}
    size = len(policy_text(merged).encode())
    if size > MAX_POLICY_BYTES or len(after) > MAX_STATEMENTS:
        return LeftAlone(
            f"with the statement {SID} it would have {len(after)} statements and {size} bytes, and SQS takes "
            f"{MAX_STATEMENTS} and {MAX_POLICY_BYTES}: join or remove some of them first"
        )
    return merged


def without_ours(before: Document) -> Document:
    """Return a policy without our statement; an empty one, which is none, where no other is left."""
    left = [each for each in _statements(before) if each.get("Sid") != SID]
    return {**before, "Statement": left} if left else {}


def _statements(document: Mapping[str, Any]) -> list[Any]:
    """List the statements of a policy, which may be one without a list."""
    found = document.get("Statement", [])
    return found if isinstance(found, list) else [found]
