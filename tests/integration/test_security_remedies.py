"""Remedies against a real EC2, S3 and STS: what they change, what they leave alone, and what they report."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cell_worker.api import RetryEvent
from router.demo.attacks import RULE_IDS
from tests.support.security_world import World, aws_environment, record, run
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
    return record("ec2", "AuthorizeSecurityGroupIngress", request, **more)


async def remedy(world: World, log_record: dict[str, Any], *, side_effects: bool = True) -> dict[str, Any]:
    """Process a record, and return the remedy's status from its finding."""
    finding, _ = await world.process_log([log_record], side_effects=side_effects)
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
            short = record("ec2", "AuthorizeSecurityGroupIngress", request, responseElements=response)
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
        acl = record("s3", "PutBucketAcl", {"bucketName": bucket, "x-amz-acl": "public-read"})
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
            [opened("sg-1", recipientAccountId=OTHER_ACCOUNT)], side_effects=True
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
            status = await remedy(world, opened(group, recipientAccountId=OTHER_ACCOUNT))
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
    ("changes", "reason"),
    [
        ({"recipientAccountId": None}, "names no account"),
        ({"recipientAccountId": "../../x"}, "names no account"),
        ({"awsRegion": None}, "names no region"),
        ({"requestParameters": {"ipPermissions": {}, "cidrIp": "0.0.0.0/0"}}, "names no security group"),
    ],
)
def test_records_with_missing_names_fail_the_remedy(changes: dict[str, Any], reason: str) -> None:
    """A log record with missing or invented values fails the remedy and nothing else."""

    async def scenario(world: World) -> None:
        status = await remedy(world, opened("sg-1") | changes)
        assert (status["status"], reason in status["reason"]) == ("failed", True)

    run(scenario)
