"""The security handler against a real S3 (MiniStack): what it emits, rejects, retries and reports."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cell_worker.api import Event, RejectEvent, RetryEvent
from cell_worker.handlers.security import SecurityMonitor
from cell_worker.handlers.security.settings import SHIPPED_RULES, SecuritySettingsError
from cell_worker.handlers.security.sigma import RuleError
from router.demo.attacks import RULE_IDS
from router.demo.cloudtrail import generate
from tests.support.security_world import ACCOUNT, World, a_cell, aws_environment, notification, record, run
from tests.support.servers import free_port

__all__ = ["aws_environment"]


def rejection(body: Any) -> str:
    """Process an event that must be rejected, and return the reason."""

    async def scenario(world: World) -> str:
        with pytest.raises(RejectEvent) as caught:
            await world.process(body(world) if callable(body) else body)
        return str(caught.value)

    return run(scenario)


def test_generated_logs_give_their_findings_and_receipts() -> None:
    """There are as many findings as attacks in the logs, and one receipt for each event, the last line."""

    async def scenario(world: World) -> None:
        for file in generate(files=25, accounts=3, seed=11, attack_share=0.6):
            await world.put(file.key, file.body)
            answer, cell = await world.process(notification(world.bucket, file.key))
            *findings, receipt = cell.emitted
            assert Counter(each["rule_id"] for each in findings) == file.expected
            assert {each["type"] for each in findings} <= {"finding"}
            assert receipt["type"] == "receipt"
            assert receipt["by_rule"] == dict(sorted((file.expected or {}).items()))
            assert receipt["findings"] == answer["findings"] == len(findings)
            assert receipt["records"] == answer["records"] == len(json.loads(gzip.decompress(file.body))["Records"])
            assert receipt["object"] == answer["object"] == f"s3://{world.bucket}/{file.key}"

    run(scenario)


def test_a_finding_says_who_did_what_where() -> None:
    """It has everything that a reader of the sink needs, under the documented names."""
    stop = record("cloudtrail", "StopLogging", {"name": "t"})

    async def scenario(world: World) -> list[dict[str, Any]]:
        return await world.process_log([stop])

    finding, receipt = run(scenario)
    assert re.fullmatch(r"[0-9a-f]{32}", finding.pop("id"))
    assert finding.pop("object").startswith("s3://logs-")
    assert finding.pop("event_id") == receipt["event_id"]
    assert finding == {
        "type": "finding",
        "cell_id": "cell-0007",
        "generation": 3,
        "rule_id": RULE_IDS["cloudtrail_logging_stopped"],
        "rule": "CloudTrail logging stopped or deleted",
        "level": "high",
        "tags": ["attack.defense-evasion", "attack.t1562.008"],
        "account": ACCOUNT,
        "region": "us-east-1",
        "event_name": "StopLogging",
        "event_time": "2026-01-05T12:00:00Z",
        "source_ip": "203.0.113.9",
        "actor": f"arn:aws:iam::{ACCOUNT}:user/mallory",
        "record_id": stop["eventID"],
    }


def test_a_correlation_counts_and_names_its_records() -> None:
    """The window is one finding, with its count and the ids of its records."""
    login = [
        record("signin", "ConsoleLogin", None, responseElements={"ConsoleLogin": "Failure"}, eventTime=time)
        for time in (f"2026-01-05T12:00:0{second}Z" for second in range(6))
    ]

    async def scenario(world: World) -> list[dict[str, Any]]:
        return await world.process_log(login)

    *single, burst, _ = run(scenario)
    assert len(single) == 6
    assert burst["rule_id"] == RULE_IDS["console_login_burst"]
    assert burst["count"] == 6
    assert burst["window_end"] == "2026-01-05T12:00:05Z"
    assert burst["record_ids"] == [each["eventID"] for each in login]


def test_processing_again_gives_the_same_ids() -> None:
    """A redelivered event gives the same findings; only the id of the run differs."""

    async def scenario(world: World) -> None:
        (file,) = generate(files=1, accounts=1, seed=3, attack_share=1)
        await world.put(file.key, file.body)
        body = json.dumps(notification(world.bucket, file.key)).encode()
        runs = []
        for _ in range(2):
            cell = a_cell()
            await world.monitor(Event("event-1", ACCOUNT, 1, body), cell)
            runs.append([dict(each) for each in cell.emitted])
        first, second = runs
        assert first[-1].pop("processing_id") != second[-1].pop("processing_id")
        assert first == second
        assert len({each["id"] for each in first}) == len(first)

    run(scenario)


def test_encoded_keys_and_versions_are_read() -> None:
    """The object that the notification means is read: no similar name, and no later version."""

    async def scenario(world: World) -> None:
        key = "logs/a b+c/ü.json"
        async with world.client("s3") as s3:
            await s3.put_bucket_versioning(Bucket=world.bucket, VersioningConfiguration={"Status": "Enabled"})
            first = await s3.put_object(Bucket=world.bucket, Key=key, Body=b'{"Records": [{}]}')
            await s3.put_object(Bucket=world.bucket, Key=key, Body=b'{"Records": [{}, {}]}')
        encoded = "logs/a+b%2Bc/%C3%BC.json"
        newest, _ = await world.process(notification(world.bucket, encoded))
        oldest, _ = await world.process(notification(world.bucket, encoded, versionId=first["VersionId"]))
        assert (newest["records"], oldest["records"]) == (2, 1)

    run(scenario)


def test_missing_objects_and_buckets_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the object and the error code of S3."""
    gone = rejection(lambda world: notification(world.bucket, "gone.json"))
    assert re.search(r"s3://logs-\w+/gone.json can't be read: NoSuchKey", gone)
    other = notification("no-such-bucket-here", "a")
    assert "s3://no-such-bucket-here/a lies in a bucket that CELL_SECURITY_BUCKETS doesn't name" in rejection(other)
    monkeypatch.delenv("CELL_SECURITY_BUCKETS")
    assert "s3://no-such-bucket-here/a can't be read: NoSuchBucket" in rejection(other)
    assert "not a name that S3 accepts" in rejection(notification("No Bucket!", "a"))


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, {"hello": 1}, [1]], ids=["broken", "deep", "other", "list"])
def test_bodies_of_another_shape_are_rejected(body: Any) -> None:
    """JSON events of other producers don't crash the handler."""
    assert re.search("not JSON|neither an S3 notification", rejection(body))


def test_sizes_are_bounded_as_stored_and_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a huge object, nor a small one with a huge log inside, gets into memory."""
    monkeypatch.setenv("CELL_SECURITY_MAX_OBJECT_BYTES", "10000")
    monkeypatch.setenv("CELL_SECURITY_MAX_LOG_BYTES", "100000")

    async def scenario(world: World) -> None:
        await world.put("huge.json", b" " * 10_001)
        await world.put("bomb.json.gz", gzip.compress(b" " * 5_000_000))
        reasons = {"huge.json": "more than 10000 bytes as stored", "bomb.json.gz": "100000 bytes decompressed"}
        for key, reason in reasons.items():
            with pytest.raises(RejectEvent, match=f"{key} is too large: .*{reason}"):
                await world.process(notification(world.bucket, key))

    run(scenario)


def test_digests_are_no_logs() -> None:
    """An event about one of CloudTrail's integrity files is done with a receipt, and the file is not read."""

    async def scenario(world: World) -> None:
        key = f"AWSLogs/{ACCOUNT}/CloudTrail-Digest/us-east-1/2026/01/05/x.json.gz"
        answer, cell = await world.process(notification(world.bucket, key))
        assert answer["records"] == 0
        assert [each["type"] for each in cell.emitted] == ["receipt"]

    run(scenario)


def test_an_unreachable_s3_is_retried_and_shows(monkeypatch: pytest.MonkeyPatch, aws_endpoint: str) -> None:
    """The event is not to blame. The component is unhealthy until its restart finds an S3 that answers."""

    async def scenario() -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("CELL_SECURITY_BUCKETS", "other-bucket, some-bucket")
        monitor = SecurityMonitor()
        s3, _ = await monitor.start(a_cell())
        try:
            assert await s3.check() == "no object read yet"
            here = World(monitor, {}, "", lambda service: None)
            with pytest.raises(RetryEvent, match="reading s3://some-bucket/a: EndpointConnectionError"):
                await here.process(notification("some-bucket", "a"))
            with pytest.raises(RuntimeError, match="reading s3://some-bucket/a"):
                await s3.check()
            monkeypatch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
            await s3.restart()
            assert await s3.check() == "S3 answers again"
            with pytest.raises(RejectEvent, match="NoSuchBucket"):
                await here.process(notification("some-bucket", "a"))
            assert await s3.check() == "reads log objects"
        finally:
            await monitor.stop()

    asyncio.run(scenario())


def test_restarting_the_client_breaks_no_read() -> None:
    """A read finishes with the client that it began with, however often it is replaced. Later reads use the new one."""

    async def scenario(world: World) -> None:
        await world.put("a.json", b'{"Records": []}')
        s3 = world.monitor._s3
        async with s3._reading(world.bucket) as before:
            await s3.restart()
            await s3.restart()
            async with (await before.get_object(Bucket=world.bucket, Key="a.json"))["Body"] as body:
                assert await body.read() == b'{"Records": []}'
            async with s3._reading(world.bucket) as after:
                assert after is not before
        answer, _ = await world.process(notification(world.bucket, "a.json"))
        assert answer["records"] == 0

    run(scenario)


def copied_rules(folder: Path) -> Path:
    """Copy two shipped rules into a folder of their own."""
    for name in ("cloudtrail_logging_stopped.yml", "root_used.yml"):
        (folder / name).write_text((SHIPPED_RULES / name).read_text())
    return folder


def test_rules_are_reloaded_and_bad_ones_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A restart of the component loads new rules. With a bad file it raises and keeps the old rules."""
    monkeypatch.setenv("CELL_SECURITY_RULES", str(copied_rules(tmp_path)))

    async def scenario(world: World) -> None:
        rules = world.components["rules"]
        assert await rules.check() == "2 rules"
        foreign = (SHIPPED_RULES / "kms_key_lost.yml").read_text().replace("product: aws", "product: gcp")
        (tmp_path / "foreign.yml").write_text(foreign)
        await rules.restart()
        expected = "2 rules, 1 not supported: foreign.yml (not for CloudTrail: its logsource product is gcp)"
        assert await rules.check() == expected
        (tmp_path / "bad.yml").write_text("title: only")
        (tmp_path / "root_used.yml").unlink()
        with pytest.raises(RuleError, match=r"bad\.yml"):
            await rules.restart()
        assert await rules.check() == expected
        finding, _ = await world.process_log([record("cloudtrail", "StopLogging", {})])
        assert finding["rule_id"] == RULE_IDS["cloudtrail_logging_stopped"]

    run(scenario)


def test_a_bad_rule_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the file and what is wrong with it."""
    (copied_rules(tmp_path) / "bad.yml").write_text("title: only")
    monkeypatch.setenv("CELL_SECURITY_RULES", str(tmp_path))
    with pytest.raises(RuleError, match=r"bad\.yml: .*log source"):
        asyncio.run(SecurityMonitor().start(a_cell()))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MAX_LOG_BYTES", "lots", "CELL_SECURITY_MAX_LOG_BYTES: Input should be a valid integer"),
        ("MAX_OBJECT_BYTES", "0", "CELL_SECURITY_MAX_OBJECT_BYTES: Input should be greater than or equal to 1024"),
        ("REMEDY_ROLE", "a role!", "CELL_SECURITY_REMEDY_ROLE: String should match pattern"),
    ],
)
def test_bad_settings_stop_the_start(name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and what is wrong with it, in one line."""
    monkeypatch.setenv(f"CELL_SECURITY_{name}", value)
    with pytest.raises(SecuritySettingsError) as caught:
        asyncio.run(SecurityMonitor().start(a_cell()))
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


def test_events_of_one_batch_run_side_by_side() -> None:
    """Events that are processed at the same time each get their own findings and receipt."""

    async def scenario(world: World) -> None:
        files = list(generate(files=30, accounts=5, seed=uuid.uuid4().int, attack_share=0.5))
        await asyncio.gather(*(world.put(file.key, file.body) for file in files))
        results = await asyncio.gather(*(world.process(notification(world.bucket, file.key)) for file in files))
        for file, (_, cell) in zip(files, results, strict=True):
            assert cell.emitted[-1]["by_rule"] == dict(file.expected or {})

    run(scenario)
