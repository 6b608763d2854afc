"""Runs what reads ECS' answers, a cell's template and table, and a queue's policy on whatever bytes: for fuzzing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from router.adapters.aws.cell_contents import MOST_CHUNKS, chunks_noted
from router.adapters.provisioners.ecs_tasks import EcsConfig, read_task
from router.core.errors import ProvisionError
from router.core.intake.checkup import why_bad_redrive
from router.core.intake.queue_policy import LeftAlone, policy_text, read_policy, statement, with_ours, without_ours
from router.settings_ecs import read_template

_CONFIG = EcsConfig("cellrouter", "live", "cells", ["subnet-1"], ["sg-1"], "FARGATE")


def described_task(raw: bytes) -> object:
    """Read a task as ECS describes it: the whole of it these bytes as JSON, and its parts these bytes as text."""
    text = raw.decode("utf-8", "replace")
    ours = {"taskArn": "a/b", "startedBy": "live/cell-0000/1", "group": _CONFIG.group}
    parts = {"lastStatus": text, "desiredStatus": text, "stoppedReason": text, "containers": [{"name": text}]}
    details = {"attachments": [{"details": [{"name": "privateIPv4Address", "value": text}]}]}
    read_task(ours | parts | details, _CONFIG)
    read_task(ours | {"startedBy": text, "lastStatus": "RUNNING", "desiredStatus": "RUNNING"}, _CONFIG)
    with suppress(ValueError, RecursionError):  # as botocore, which decodes ECS' answer
        found = json.loads(raw)
        return read_task(found if isinstance(found, dict) else ours | {"containers": found}, _CONFIG)
    return None


def marks_of_an_outbox(raw: bytes) -> object:
    """Read how far an outbox is delivered, of items whose numbers are these bytes as text and as JSON."""
    values: list[object] = [{"N": raw.decode("utf-8", "replace")}, {"NS": [raw.decode("utf-8", "replace")]}]
    with suppress(ValueError, RecursionError):  # as botocore, which decodes DynamoDB's answer
        values.append(json.loads(raw))
    for value in values:
        for fence, outbox in (({"tail": value}, {}), ({}, {"head": value}), ({}, {"kept": value})):
            with suppress(ProvisionError):
                assert all(chunk >= 0 for chunk in islice(chunks_noted(fence, outbox), MOST_CHUNKS + 1))
    return None


def cell_template(raw: bytes) -> object:
    """Read a template of cells from a file with this content."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "cell.yaml")
        file.write_bytes(raw)
        with suppress(ValueError):
            return read_template(file)
    return None


def policy_of_a_queue(raw: bytes) -> object:
    """Read a queue's policy, and put our statement into it and out again; judge it as a redrive policy too."""
    assert why_bad_redrive(raw.decode("utf-8", "replace"), "dead") is not None
    found = read_policy(raw.decode("utf-8", "replace"))
    if isinstance(found, LeftAlone):
        return found
    after = with_ours(found, statement("arn:aws:sqs:us-east-1:123456789012:q", "arn:aws:s3:::b", "123456789012"))
    return after if isinstance(after, LeftAlone) else policy_text(without_ours(after))


OF_ECS: Final[Mapping[str, Callable[[bytes], object]]] = {
    "task of ECS": described_task,
    "template of a cell": cell_template,
    "policy of a queue": policy_of_a_queue,
    "marks of an outbox": marks_of_an_outbox,
}
