"""Remedies against a real EC2, S3 and STS: what they change, what they leave alone, and what they report."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cell_worker.api import Event, RejectEvent, RetryEvent
from cell_worker.handlers.security.handler import SMALL_BYTES
from cell_worker.handlers.security.permits import MAX_AN_OBJECT
from router.demo.attacks import RULE_IDS
from tests.support.security_world import ACCOUNT, World, a_cell, aws_environment, notification, record, run
from tests.support.servers import free_port
from tests.support.shared_servers import Servers

__all__ = ["aws_environment"]

OTHER_ACCOUNT = "210987654321"
SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
WEB = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}
BLOCKED = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)


async def a_group(ec2: Any) -> str:
    """Make a group with SSH open to the world and to the office, by both IP versions, and HTTPS to the world.

    Each range is a permission of its own: MiniStack only revokes a permission as it was given, EC2 each range.
    """
    made = await ec2.create_security_group(GroupName=f"g-{uuid.uuid4().hex}", Description="test")
    group = str(made["GroupId"])
    permissions = [
        {**SSH, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
        {**SSH, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
        {**SSH, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
        {**WEB, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
    ]
    await ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions)
    return group


async def ingress(ec2: Any, group: str) -> set[tuple[int, str]]:
    """Return what the group lets in, as pairs of port and address range."""
    (described,) = (await ec2.describe_security_groups(GroupIds=[group]))["SecurityGroups"]
    return {
        (permission["FromPort"], part.get("CidrIp") or part.get("CidrIpv6"))
        for permission in described["IpPermissions"]
        for part in (*permission.get("IpRanges", []), *permission.get("Ipv6Ranges", []))
    }


def opened(group: str, **more: Any) -> dict[str, Any]:
    """The record of a call that opened SSH to the world."""
    permission = {
        "ipProtocol": "tcp",
        "fromPort": 22,
        "toPort": 22,
        "ipRanges": {"items": [{"cidrIp": "0.0.0.0/0"}, {"cidrIp": "10.0.0.0/8"}]},
        "ipv6Ranges": {"items": [{"cidrIpv6": "::/0"}]},
    }
    request = {"groupId": group, "ipPermissions": {"items": [permission]}}
    return fresh(record("ec2", "AuthorizeSecurityGroupIngress", request, **more))


def fresh(log_record: dict[str, Any]) -> dict[str, Any]:
    """The record as of now, since remedies don't act on old ones."""
    return {**log_record, "eventTime": datetime.now(UTC).isoformat()}  # noqa: TID251 - the worker's clock is the real one


async def remedy(world: World, log_record: dict[str, Any], *, side_effects: bool = True, **how: Any) -> dict[str, Any]:
    """Process a record, and return the remedy's status from its finding."""
    finding, _ = await world.process_log([log_record], side_effects=side_effects, **how)
    return dict(finding["remedy"])


def test_world_open_ingress_is_revoked_and_no_more() -> None:
    """Only what the record opened to the world is closed. A second run changes nothing."""

    async def scenario(world: World) -> None:
        async with world.client("ec2") as ec2:
            group = await a_group(ec2)
            first = await remedy(world, opened(group))
            assert first["status"] == "done"
            assert first["name"] == "ec2-revoke-ingress"
            assert "0.0.0.0/0" in first["detail"]
            assert "::/0" in first["detail"]
            assert await ingress(ec2, group) == {(22, "10.0.0.0/8"), (443, "0.0.0.0/0")}
            again = await remedy(world, opened(group))
            assert again == {"name": "ec2-revoke-ingress", "status": "done", "detail": f"{group} has it no more"}
            assert await ingress(ec2, group) == {(22, "10.0.0.0/8"), (443, "0.0.0.0/0")}

    run(scenario)


def test_the_short_form_and_the_response_are_understood() -> None:
    """The API's form for one permission works, and a group whose id only the response has."""

    async def scenario(world: World) -> None:
        async with world.client("ec2") as ec2:
            group = await a_group(ec2)
            request = {"groupName": "g", "ipProtocol": "6", "fromPort": 22, "toPort": 22, "cidrIp": "0.0.0.0/0"}
            response = {"_return": True, "securityGroupRuleSet": {"items": [{"groupId": group}]}}
            short = fresh(record("ec2", "AuthorizeSecurityGroupIngress", request, responseElements=response))
            assert (await remedy(world, short))["status"] == "done"
            assert await ingress(ec2, group) == {(22, "10.0.0.0/8"), (22, "::/0"), (443, "0.0.0.0/0")}

    run(scenario)


def test_a_group_that_is_gone_is_done() -> None:
    """Nothing is left to revoke, so the remedy is done."""

    async def scenario(world: World) -> None:
        status = await remedy(world, opened("sg-00000000000000abc"))
        assert status["status"] == "done"
        assert status["detail"] == "sg-00000000000000abc is gone"

    run(scenario)


def test_without_side_effects_nothing_changes() -> None:
    """The finding says which remedy was skipped."""

    async def scenario(world: World) -> None:
        async with world.client("ec2") as ec2:
            group = await a_group(ec2)
            before = await ingress(ec2, group)
            status = await remedy(world, opened(group), side_effects=False)
            assert status == {"name": "ec2-revoke-ingress", "status": "skipped", "reason": "side effects are off"}
            assert await ingress(ec2, group) == before

    run(scenario)


def test_public_buckets_are_blocked() -> None:
    """All four blocks are on afterwards, a second run changes nothing, and a bucket that is gone is done."""

    async def scenario(world: World) -> None:
        bucket = f"public-{uuid.uuid4().hex}"
        acl = fresh(record("s3", "PutBucketAcl", {"bucketName": bucket, "x-amz-acl": "public-read"}))
        async with world.client("s3") as s3:
            await s3.create_bucket(Bucket=bucket)
            await s3.delete_public_access_block(Bucket=bucket)  # LocalStack's new buckets have one, as AWS' do
            with pytest.raises(ClientError, match="NoSuchPublicAccessBlockConfiguration"):
                await s3.get_public_access_block(Bucket=bucket)
            assert (await remedy(world, acl))["detail"] == f"blocked public access to {bucket}"
            reply = await s3.get_public_access_block(Bucket=bucket)
            assert reply["PublicAccessBlockConfiguration"] == BLOCKED
            assert (await remedy(world, acl))["detail"] == f"{bucket} is blocked already"
            partly = BLOCKED | {"BlockPublicPolicy": False}
            await s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=partly)
            assert (await remedy(world, acl))["detail"] == f"blocked public access to {bucket}"
            await s3.delete_bucket(Bucket=bucket)
        gone = await remedy(world, acl)
        assert (gone["status"], gone["detail"]) == ("done", f"{bucket} is gone")

    run(scenario)


def test_another_account_needs_a_role() -> None:
    """Without a role the remedy fails and says so, although the resource does not exist here. The event is ok."""

    async def scenario(world: World) -> None:
        finding, receipt = await world.process_log(
            [opened("sg-1", recipientAccountId=OTHER_ACCOUNT)], side_effects=True, account=OTHER_ACCOUNT
        )
        assert finding["remedy"]["status"] == "failed"
        assert "CELL_SECURITY_REMEDY_ROLE" in finding["remedy"]["reason"]
        assert receipt["by_rule"] == {RULE_IDS["security_group_opened"]: 1}

    run(scenario)


def test_a_role_is_assumed_in_the_other_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a role, the group in the other account is closed with credentials from STS."""

    async def scenario(world: World) -> None:
        trust = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}'
        async with world.client("iam", OTHER_ACCOUNT) as iam, world.client("ec2", OTHER_ACCOUNT) as ec2:
            await iam.create_role(RoleName="remedy", AssumeRolePolicyDocument=trust)
            group = await a_group(ec2)
            status = await remedy(world, opened(group, recipientAccountId=OTHER_ACCOUNT), account=OTHER_ACCOUNT)
            assert status["detail"].startswith(f"revoked from {group}")
            assert await ingress(ec2, group) == {(22, "10.0.0.0/8"), (443, "0.0.0.0/0")}

    monkeypatch.setenv("CELL_SECURITY_REMEDY_ROLE", "remedy")
    run(scenario)


def test_a_refusal_is_recorded(servers: Servers) -> None:
    """EC2's refusal is a failed remedy with its reason; the event is ok. LocalStack takes a malformed id as gone."""

    async def scenario(world: World) -> None:
        finding, receipt = await world.process_log([opened("sg-1")], side_effects=True)
        if servers.aws_name == "LocalStack":
            assert (finding["remedy"]["status"], finding["remedy"]["detail"]) == ("done", "sg-1 is gone")
        else:
            assert finding["remedy"]["status"] == "failed"
            assert "InvalidGroupId.Malformed" in finding["remedy"]["reason"]
        assert receipt["findings"] == 1

    run(scenario)


def test_a_group_that_is_still_open_fails_the_remedy(servers: Servers) -> None:
    """EC2 may report success and revoke nothing, as MiniStack does for ranges that were given together."""

    async def scenario(world: World) -> None:
        async with world.client("ec2") as ec2:
            made = await ec2.create_security_group(GroupName=f"g-{uuid.uuid4().hex}", Description="test")
            together = {**SSH, "IpRanges": [{"CidrIp": "0.0.0.0/0"}, {"CidrIp": "10.0.0.0/8"}]}
            await ec2.authorize_security_group_ingress(GroupId=made["GroupId"], IpPermissions=[together])
            status = await remedy(world, opened(made["GroupId"]))
            left = await ingress(ec2, made["GroupId"])
        if servers.aws_name == "LocalStack":
            assert (left, status["status"]) == ({(22, "10.0.0.0/8")}, "done")
        else:
            assert (left, status["status"]) == ({(22, "0.0.0.0/0"), (22, "10.0.0.0/8")}, "failed")
            assert status["reason"] == f"{made['GroupId']} still has tcp 22-22 0.0.0.0/0"

    run(scenario)


def test_an_unreachable_service_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No finding is written without its remedy: the whole event is tried again."""

    async def scenario(world: World) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(RetryEvent, match="remedy ec2-revoke-ingress: EndpointConnectionError"):
            await remedy(world, opened("sg-00000000000000abc"))

    run(scenario)


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"recipientAccountId": None}, "refused", "claims to be of None"),
        ({"recipientAccountId": OTHER_ACCOUNT}, "refused", f"claims to be of '{OTHER_ACCOUNT}'"),
        ({"recipientAccountId": [ACCOUNT]}, "refused", "claims to be of"),
        ({"eventTime": "2026-01-05T12:00:00Z"}, "refused", "older than CELL_SECURITY_REMEDY_MAX_AGE_S"),
        ({"eventTime": "2926-01-05T12:00:00Z"}, "refused", "lies in the future"),
        ({"eventTime": "yesterday"}, "refused", "no readable time"),
        ({"eventTime": 5}, "refused", "no readable time"),
        ({"awsRegion": None}, "failed", "region is None"),
        ({"awsRegion": ["us-east-1"]}, "failed", "region is"),
        ({"awsRegion": "bad region!"}, "failed", "region is 'bad region!'"),
        ({"awsRegion": "us-east-99"}, "failed", "region is 'us-east-99'"),
        ({"awsRegion": "cn-north-1"}, "failed", "none that this worker knows of aws"),
        ({"awsRegion": "us-east-1.evil.example/"}, "failed", "region is"),
        ({"requestParameters": {"ipPermissions": {}, "cidrIp": "0.0.0.0/0"}}, "failed", "names no security group"),
        ({"requestParameters": {"groupId": "g" * 10**6, "cidrIp": "0.0.0.0/0"}}, "failed", "names no security group"),
    ],
)
def test_a_record_that_can_not_be_acted_on_has_its_answer_at_once(
    changes: dict[str, Any], status: str, reason: str
) -> None:
    """Whatever a record claims, its event ends: nothing in it counts as a fault of AWS that is tried again for ever."""

    async def scenario(world: World) -> None:
        async with world.client("ec2") as ec2:
            group = await a_group(ec2)
            found = await remedy(world, opened(group) | changes)
            assert (found["status"], reason in found["reason"]) == (status, True)
            assert len(await ingress(ec2, group)) == 4

    run(scenario)


@pytest.mark.parametrize(
    "name",
    [
        "no such bucket",
        ["a-bucket"],
        "arn:aws:s3::210987654321:accesspoint/evil.mrap",
        "arn:aws:s3-outposts:us-east-1:210987654321:outpost/op-1/accesspoint/x",
        "evil--zzz9-az9--x-s3",
        "x" * 10**6,
    ],
)
def test_a_bucket_of_another_form_is_never_asked_for(name: Any) -> None:
    """The SDK would make other hosts of such names, which may not exist: a fault of the network, for ever."""

    async def scenario(world: World) -> None:
        found = await remedy(
            world, fresh(record("s3", "PutBucketAcl", {"bucketName": name, "x-amz-acl": "public-read"}))
        )
        assert (found["status"], "names no bucket" in found["reason"]) == ("failed", True)

    run(scenario)


def test_no_log_makes_a_remedy_act_on_another_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """A confused deputy: whoever writes under one account's prefix, or in any bucket, reaches no other account."""
    monkeypatch.setenv("CELL_SECURITY_REMEDY_ROLE", "deputy")

    async def scenario(world: World) -> None:
        trust = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}'
        async with world.client("iam", OTHER_ACCOUNT) as iam, world.client("ec2", OTHER_ACCOUNT) as ec2:
            await iam.create_role(RoleName="deputy", AssumeRolePolicyDocument=trust)
            group = await a_group(ec2)
        forged = opened(group, recipientAccountId=OTHER_ACCOUNT)
        finding, _ = await world.process_log([forged], side_effects=True)
        assert (finding["account"], finding["claimed_account"]) == (ACCOUNT, OTHER_ACCOUNT)
        assert finding["remedy"]["status"] == "refused"
        with pytest.raises(RejectEvent, match="CELL_SECURITY_BUCKETS doesn't name"):
            await world.process_log(
                [forged], side_effects=True, account=OTHER_ACCOUNT, bucket=f"theirs-{uuid.uuid4().hex}"
            )
        key = f"AWSLogs/{ACCOUNT}/CloudTrail/AWSLogs/{OTHER_ACCOUNT}/CloudTrail/x.json"
        await world.put(key, json.dumps({"Records": [forged]}).encode())
        _, cell = await world.process(notification(world.bucket, key), side_effects=True, partition_key=OTHER_ACCOUNT)
        assert cell.emitted[0]["remedy"]["reason"].startswith("the object's key names no account")
        key = f"AWSLogs/{OTHER_ACCOUNT}/CloudTrail/x.json"
        await world.put(key, json.dumps({"Records": [forged]}).encode())
        _, cell = await world.process(notification(world.bucket, key), side_effects=True)
        assert cell.emitted[0]["remedy"]["reason"].endswith(f"its event has the key {ACCOUNT}")
        async with world.client("ec2", OTHER_ACCOUNT) as ec2:
            assert len(await ingress(ec2, group)) == 4

    run(scenario)


def test_without_a_list_of_buckets_no_remedy_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of all buckets are read then, and nobody vouches for any. The finding says so."""
    monkeypatch.delenv("CELL_SECURITY_BUCKETS")

    async def scenario(world: World) -> None:
        async with world.client("ec2") as ec2:
            group = await a_group(ec2)
            found = await remedy(world, opened(group))
            assert (found["status"], "CELL_SECURITY_BUCKETS" in found["reason"]) == ("skipped", True)
            assert len(await ingress(ec2, group)) == 4

    run(scenario)


def test_remedies_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """By object, and by account and hour; the findings say which bound it was."""
    monkeypatch.setenv("CELL_SECURITY_REMEDIES_PER_ACCOUNT", str(MAX_AN_OBJECT + 2))

    async def scenario(world: World) -> None:
        flood = [opened("sg-00000000000000abc") for _ in range(MAX_AN_OBJECT + 3)]
        *first, _ = await world.process_log(flood, side_effects=True)
        *second, _ = await world.process_log(flood, side_effects=True)
        statuses = [[each["remedy"]["status"] for each in findings] for findings in (first, second)]
        assert statuses[0] == ["done"] * MAX_AN_OBJECT + ["skipped"] * 3
        assert statuses[1] == ["done"] * 2 + ["skipped"] * (MAX_AN_OBJECT + 1)
        assert first[-1]["remedy"]["reason"] == f"this object had its {MAX_AN_OBJECT} remedies already"
        assert "CELL_SECURITY_REMEDIES_PER_ACCOUNT" in second[-1]["remedy"]["reason"]

    run(scenario)


def test_a_rehearsal_never_acts() -> None:
    """Whatever cell it is given, a copy of a log that a remedy acts on changes nothing, and nothing is reported."""

    async def story(world: World) -> tuple[set[tuple[int, str]], set[tuple[int, str]], list[str], int]:
        async with world.client("ec2") as ec2, world.client("s3") as s3:
            group = await a_group(ec2)
            before = await ingress(ec2, group)
            key = f"AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/{uuid.uuid4().hex}.json"
            await world.put(key, json.dumps({"Records": [opened(group)]}).encode())
            cell = a_cell(side_effects=True)
            event = Event("event", ACCOUNT, 1, json.dumps(notification(world.bucket, key)).encode())
            await world.monitor.rehearse(event, cell)
            listed = await s3.list_objects_v2(Bucket=world.bucket)
            return before, await ingress(ec2, group), [each["Key"] for each in listed["Contents"]], len(cell.emitted)

    before, after, keys, emitted = run(story)
    assert after == before
    assert (len(keys), emitted) == (1, 0)


def test_a_large_log_is_not_rehearsed() -> None:
    """It would wait for the places that the instance's events have, and its twin's are free: that proves nothing."""

    async def story(world: World) -> None:
        key = f"AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/large.json"
        await world.put(key, json.dumps({"Records": ["x" * SMALL_BYTES]}).encode())
        for size in (SMALL_BYTES + 1, 1):
            event = Event("event", ACCOUNT, 1, json.dumps(notification(world.bucket, key, size=size)).encode())
            with pytest.raises(RejectEvent):
                await world.monitor.rehearse(event, a_cell())

    run(story)
