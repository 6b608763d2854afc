"""The archive on a real S3: whole processes write it, and `cellrouter init` makes its bucket."""

from __future__ import annotations

import shutil
import signal
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from router.adapters.aws.intake import Intake
from router.adapters.aws.resources import ResourceNames
from router.adapters.aws.s3_archive import S3ArchiveStore
from router.adapters.aws.s3_payloads import open_payload_client
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.clock import SystemClock
from router.core.errors import SourceMissingError, SourceUnavailableError
from router.core.intake.plan import Part
from tests.support.aio import run
from tests.support.archives import labels_of, read_lines
from tests.support.system import System


async def objects_in(client: Any, bucket: str) -> dict[str, bytes]:
    """Read all objects of a bucket."""
    found = await client.list_objects_v2(Bucket=bucket)
    return {
        each["Key"]: await (await client.get_object(Bucket=bucket, Key=each["Key"]))["Body"].read()
        for each in found.get("Contents", ())
    }


@pytest.mark.one_kind
def test_a_router_that_is_stopped_has_archived_every_event(
    on_system: Callable[..., System], aws_endpoint: str, tmp_path: Path
) -> None:
    """Real processes, a real bucket that `init` made: done events and a dead letter, read by the zstd program too."""
    archived: dict[str, bytes] = {}

    async def story(system: System) -> None:
        router = await system.router()
        await system.send([{"key": f"k{i % 9}"} for i in range(200)] + [{"key": "bad", "do": "reject"}])
        await system.done(set(system.sent[:-1]))
        await system.emptied(system.source)
        code, _ = await router.signalled(signal.SIGTERM)
        assert code == 0, router.log.read_text()
        async with AsyncExitStack() as stack:
            client = await open_payload_client(stack, AwsConfig("us-east-1", aws_endpoint))
            archived.update(await objects_in(client, f"cellrouter-{system.name}-archive"))

    system = on_system(story, archive_enabled="true")
    lines = [line for body in archived.values() for line in read_lines(body)]
    assert Counter(line["event_id"] for line in lines) == Counter(system.sent)
    assert Counter(line["outcome"] for line in lines) == {"ok": 200, "rejected": 1}
    deeds = {deed["event"]: deed for deed in system.deeds()}
    for line in lines:
        assert line["partition_key"] == system.key_of[line["event_id"]]
        if line["outcome"] == "ok":
            assert (line["cell"], line["generation"]) == tuple(
                deeds[line["event_id"]][k] for k in ("cell", "generation")
            )
    for key, body in archived.items():
        assert labels_of(key)["environment"] == system.name
        if (zstd := shutil.which("zstd")) is not None:
            file = tmp_path / "object.zst"
            file.write_bytes(body)
            done = subprocess.run([zstd, "-dc", str(file)], capture_output=True, check=True)
            assert done.stdout.count(b"\n") == len(read_lines(body))


def test_a_bucket_that_is_not_there_or_does_not_answer_is_told_as_such(aws_endpoint: str) -> None:
    """What may pass is an error of its own kind; nothing else comes out."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            client = await open_payload_client(stack, AwsConfig("us-east-1", aws_endpoint or "http://127.0.0.1:1"))
            nowhere = await open_payload_client(stack, AwsConfig("us-east-1", "http://127.0.0.1:1"))
            if aws_endpoint:
                with pytest.raises(SourceMissingError):
                    await S3ArchiveStore(client, f"none-{uuid.uuid4().hex[:8]}").put("archive/v1/x", b"x")
            with pytest.raises(SourceUnavailableError):
                await S3ArchiveStore(nowhere, "any").put("archive/v1/x", b"x")

    run(story())


def test_init_makes_the_archives_bucket_once_and_changes_none_that_is_there(aws_endpoint: str) -> None:
    """With its rule, also when the first run ended between the two; somebody else's bucket stays as it is."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            aws = AwsConfig("us-east-1", aws_endpoint)
            sqs, s3, sts = [await open_client(stack, aws, service) for service in ("sqs", "s3", "sts")]

            def intake(name: str) -> Intake:
                names = ResourceNames(name, "live", f"{name}-events", f"{name}-dead", f"{name}-quarantine", 7)
                return Intake(names, sqs, s3, sts, region="us-east-1", clock=SystemClock())

            ours, theirs = (f"a{uuid.uuid4().hex[:8]}" for _ in range(2))
            await intake(ours).carry_out(await intake(ours).plan())
            rules = (await s3.get_bucket_lifecycle_configuration(Bucket=f"{ours}-live-archive"))["Rules"]
            assert [(rule["Status"], rule["Expiration"]["Days"]) for rule in rules] == [("Enabled", 7)]
            assert not (await intake(ours).plan()).steps
            await s3.delete_bucket_lifecycle(Bucket=f"{ours}-live-archive")
            (step,) = (await intake(ours).plan()).steps
            assert (step.part, step.name) == (Part.RETENTION, f"{ours}-live-archive")

            await s3.create_bucket(Bucket=f"{theirs}-live-archive")
            plan = await intake(theirs).plan()
            assert f"{theirs}-live-archive" not in {step.name for step in plan.steps}

    run(story())
