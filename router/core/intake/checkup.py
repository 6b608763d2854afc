"""Judges what `doctor` finds of the source queue's own settings. Pure."""

from __future__ import annotations

import json
from typing import Final

from router.core.models import Reason

LEAST_RECEIVES: Final = 100
"""A message is received again whenever it is held back, so SQS must count far before it gives up on one by itself."""


def why_bad_redrive(policy: str, dead_letters: str) -> Reason | None:
    """Say what is wrong with a source queue's redrive policy, as SQS gives it (empty: none); None when it is good."""
    try:
        found = json.loads(policy or "{}")
        target, receives = str(found.get("deadLetterTargetArn", "")), int(found.get("maxReceiveCount", 0))
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return f"its redrive policy can't be read: {policy:.200}"
    if not target:
        return (
            "it has no redrive policy, so what no router can settle comes again until it is too old, and is gone then"
        )
    if target.rpartition(":")[2] != dead_letters:
        return f"its redrive policy leads to {target}, and routers and cellrouter dlq use {dead_letters}"
    if receives < LEAST_RECEIVES:
        return (
            f"its redrive policy gives up after {receives} receives, while routers may still try: let it be "
            f"{LEAST_RECEIVES} at least"
        )
    return None
