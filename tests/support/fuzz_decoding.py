"""The modules that call a decoder themselves, and which of the fuzzed readers run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

DECODING: Final[Mapping[str, Sequence[str]]] = {
    "cell_worker/contract/strict_reader.py": ("result line",),
    "cell_worker/api/__init__.py": ("body of an event", "shop's event"),
    "cell_worker/store/table_items.py": ("lines of a chunk",),
    "cell_worker/handlers/security/logs.py": ("CloudTrail log",),
    "cell_worker/handlers/security/evaluation/pool.py": ("evaluator's answer",),
    "cell_worker/handlers/security/documents.py": ("rule file",),
    "cell_worker/handlers/security/sigma.py": ("rule file",),
    "router/settings.py": ("settings file",),
    "router/adapters/aws/sqs_client.py": ("answer of SQS", "refusal of SQS"),
    "router/adapters/provisioners/docker_containers.py": ("container",),
    "router/adapters/provisioners/ecs_tasks.py": ("task of ECS",),
    "router/adapters/aws/sqs.py": ("answer to a queue",),
    "router/shop/core/items.py": ("shop item",),
    "router/shop/core/sales.py": ("shop sale",),
    "router/core/intake/checkup.py": ("policy of a queue",),
    "router/core/intake/queue_policy.py": ("policy of a queue",),
    "router/core/messages/dead_letter.py": ("dead letter",),
    "router/core/messages/origin.py": ("what came beside a held event", "packed message"),
    "router/core/messages/parser.py": ("message", "message by path", "held message"),
    "router/core/messages/parts.py": ("part of a dead letter",),
    "router/core/messages/s3_events.py": ("message",),
    "router/core/messages/strict_json.py": ("message", "S3 pointer"),
    "router/core/messages/wrapping.py": ("message",),
}
"""The modules that call a decoder themselves, with the entries of `FUZZED` that run them."""
