"""Remedies: what a rule may have done about a match. It asks for one by `remedy: NAME`.

Each remedy calls AWS and changes no more than what the record made insecure, and only what belongs to the account that
it acts in. It is idempotent: when the insecure thing is gone already, the remedy is done. A fault of AWS or of the
network raises RetryEvent, so that the whole event is tried again. A refusal, such as AccessDenied, is recorded in the
finding as a failed remedy.

Whether a remedy may act at all is decided before, in permits.py. All names in a record are anybody's: they are checked
for their form before the SDK sees them, which would make other hosts of some.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiobotocore.session import AioSession
from botocore.exceptions import ClientError, UnknownRegionError

from cell_worker.handlers.security.aws import FAULTY_REQUESTS, client_config, error_code, retry_when_transient
from cell_worker.handlers.security.matching import Record

Status = dict[str, str]
"""What a finding says of its remedy: name, status (done, failed, refused or skipped), and detail or reason."""
Remedy = Callable[[Any, Record, str], Awaitable[str]]
"""Takes the service's client, the record and the account, and returns what it did. Raises ClientError, CannotRemedy."""

WORLD: Final = frozenset({"0.0.0.0/0", "::/0"})
"""The address ranges that mean everybody."""
PROTOCOLS: Final = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}
"""The names that EC2 gives to IP protocol numbers."""
GROUP_ID: Final = re.compile(r"sg-[0-9a-f]{1,17}")
BUCKET: Final = re.compile(r"(?!.*(--x-s3|--ol-s3|--table-s3|-s3alias|\.mrap)$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""The name of a bucket. S3 reserves some endings for other things, which have hosts of their own."""
MAX_RANGES: Final = 100
"""How many ranges a remedy closes at most; a security group has 60 rules unless its account has asked for more."""
ALL_BLOCKED: Final = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


class CannotRemedy(Exception):
    """A remedy can't be applied to this record; the text says why."""


class Remediator:
    """Runs remedies, each with a client for one account and the region of the record."""

    def __init__(self, session: AioSession, role: str | None, session_name: str) -> None:
        """`role` is assumed in the account. Without a role, remedies only act in the cell's own account."""
        self._session = session
        self._role = role
        self._session_name = re.sub(r"[^\w+=,.@-]", "-", session_name)[:64]

    async def run(self, name: str, record: Record, account: str) -> Status:
        """Apply the named remedy in the account, and return its status for the finding. Raises RetryEvent."""
        service, remedy = REMEDIES[name]
        try:
            home, partition = self._home()
            region = await self._region(record, service, partition)
            with retry_when_transient(f"remedy {name}"):
                credentials = await self._credentials(account, home, partition)
            with retry_when_transient(f"remedy {name}", credentials_proven=True):
                async with self._client(service, region, **credentials) as client:
                    return {"name": name, "status": "done", "detail": await remedy(client, record, account)}
        except (ClientError, CannotRemedy, *FAULTY_REQUESTS) as error:
            return {"name": name, "status": "failed", "reason": f"{error!s:.1000}"}

    def _home(self) -> tuple[str, str]:
        """The region that the cell itself works in, and its partition: aws, aws-cn, aws-us-gov."""
        region = self._session.get_config_variable("region")
        try:
            return region, self._session.get_partition_for_region(region)
        except (UnknownRegionError, TypeError) as error:
            raise CannotRemedy(f"the cell's own region is {region!r}: set AWS_DEFAULT_REGION") from error

    async def _region(self, record: Record, service: str, partition: str) -> str:
        """The record's region. One that doesn't exist has no hosts, which would look like a fault of the network."""
        region = record.get("awsRegion")
        if not isinstance(region, str) or region not in await self._session.get_available_regions(service, partition):
            raise CannotRemedy(f"the record's region is {region!r:.80}, none that this worker knows of {partition}")
        return region

    def _client(self, service: str, region: str, **credentials: str) -> Any:
        return self._session.create_client(service, region_name=region, config=client_config(), **credentials)

    async def _credentials(self, account: str, home: str, partition: str) -> dict[str, str]:
        """Credentials for the account, of the STS in the cell's own region: that of another one may be turned off."""
        async with self._client("sts", home) as sts:
            if self._role:
                return await self._assumed(sts, f"arn:{partition}:iam::{account}:role/{self._role.lstrip('/')}")
            own = (await sts.get_caller_identity())["Account"]
        if own != account:
            # In the wrong account the resource would not be found, which would look as if it were gone already.
            raise CannotRemedy(
                f"the record is of account {account} and this cell acts in {own}: set CELL_SECURITY_REMEDY_ROLE"
            )
        return {}

    async def _assumed(self, sts: Any, arn: str) -> dict[str, str]:
        reply = await sts.assume_role(RoleArn=arn, RoleSessionName=self._session_name)
        given = reply["Credentials"]
        return {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }


async def revoke_world_open_ingress(ec2: Any, record: Record, account: str) -> str:
    """Revoke the access from everywhere that the record has opened, as far as the security group still has it."""
    group, opened = _group_id(record), _opened(record)
    if not opened:
        raise CannotRemedy("the record opens nothing to the world")
    try:
        present = await _present(ec2, group, opened, account)
        if len(present) > MAX_RANGES:
            raise CannotRemedy(f"{group} has {len(present)} of the record's ranges, more than the {MAX_RANGES} at once")
        for kind, cidr in present:
            await _revoke(ec2, group, kind, cidr)
        # In a default VPC, EC2 answers with success even when it has revoked nothing. Only the group itself tells.
        if present and (left := await _present(ec2, group, opened, account)):
            raise CannotRemedy(f"{group} still has {_listed(left)}")
    except ClientError as error:
        if error_code(error) != "InvalidGroup.NotFound":
            raise
        return f"{group} is gone"
    return f"revoked from {group}: {_listed(present)}" if present else f"{group} has it no more"


async def block_public_access(s3: Any, record: Record, account: str) -> str:
    """Turn on all four blocks of public access for the bucket that the record names, if the account owns it."""
    bucket = _request(record).get("bucketName")
    if not isinstance(bucket, str) or not BUCKET.fullmatch(bucket):
        raise CannotRemedy(f"the record names no bucket: bucketName is {bucket!r:.80}")
    owned = {"Bucket": bucket, "ExpectedBucketOwner": account}
    try:
        if await _blocks(s3, owned) == ALL_BLOCKED:
            return f"{bucket} is blocked already"
        await s3.put_public_access_block(**owned, PublicAccessBlockConfiguration=ALL_BLOCKED)
    except ClientError as error:
        if error_code(error) == "NoSuchBucket":
            return f"{bucket} is gone"
        raise
    return f"blocked public access to {bucket}"


REMEDIES: Final[dict[str, tuple[str, Remedy]]] = {
    "ec2-revoke-ingress": ("ec2", revoke_world_open_ingress),
    "s3-block-public-access": ("s3", block_public_access),
}
"""Each remedy by its name: the AWS service whose client it needs, and its function."""

Kind = tuple[str, int, int]
"""The protocol as EC2 names it, the first port and the last one; -1 for no port."""


async def _present(ec2: Any, group: str, opened: set[tuple[Kind, str]], account: str) -> list[tuple[Kind, str]]:
    """The part of `opened` that the account's security group lets in now."""
    groups = (await ec2.describe_security_groups(GroupIds=[group]))["SecurityGroups"]
    if foreign := {each.get("OwnerId", account) for each in groups} - {account}:  # one that is shared with the account
        raise CannotRemedy(f"{group} belongs to account {foreign.pop()}, and the record is of {account}")
    permissions = [permission for each in groups for permission in each.get("IpPermissions", [])]
    return sorted(found for permission in permissions for found in _world_ranges(permission) if found in opened)


async def _revoke(ec2: Any, group: str, kind: Kind, cidr: str) -> None:
    """Revoke one range. EC2 would revoke none of several when one of them is missing."""
    try:
        await ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[_permission(kind, cidr)])
    except ClientError as error:
        if error_code(error) != "InvalidPermission.NotFound":
            raise


def _listed(opened: list[tuple[Kind, str]]) -> str:
    return ", ".join(f"{protocol} {first}-{last} {cidr}" for (protocol, first, last), cidr in opened)


async def _blocks(s3: Any, owned: Mapping[str, str]) -> dict[str, bool]:
    try:
        reply = await s3.get_public_access_block(**owned)
    except ClientError as error:
        if error_code(error) == "NoSuchPublicAccessBlockConfiguration":
            return {}
        raise
    return dict(reply["PublicAccessBlockConfiguration"])


def _group_id(record: Record) -> str:
    """The security group's id: from the request or, if that has only a name, from the response."""
    candidates = [_request(record).get("groupId")]
    response = record.get("responseElements")
    created = _items(response.get("securityGroupRuleSet")) if isinstance(response, dict) else []
    candidates += [item.get("groupId") for item in created]
    for candidate in candidates:
        if isinstance(candidate, str) and GROUP_ID.fullmatch(candidate):
            return candidate
    raise CannotRemedy("the record names no security group")


def _opened(record: Record) -> set[tuple[Kind, str]]:
    request = _request(record)
    opened = {
        (_kind(item, "ipProtocol", "fromPort", "toPort"), cidr)
        for item in _items(request.get("ipPermissions"))
        for ranges, key in (("ipRanges", "cidrIp"), ("ipv6Ranges", "cidrIpv6"))
        for part in _items(item.get(ranges))
        if (cidr := part.get(key)) in WORLD
    }
    for key in ("cidrIp", "cidrIpv6"):  # the API's short form: one permission, directly in the request
        if request.get(key) in WORLD:
            opened.add((_kind(request, "ipProtocol", "fromPort", "toPort"), str(request[key])))
    return opened


def _world_ranges(permission: Mapping[str, Any]) -> list[tuple[Kind, str]]:
    kind = _kind(permission, "IpProtocol", "FromPort", "ToPort")
    ranges = [part.get("CidrIp") for part in permission.get("IpRanges", [])]
    ranges += [part.get("CidrIpv6") for part in permission.get("Ipv6Ranges", [])]
    return [(kind, cidr) for cidr in ranges if cidr in WORLD]


def _permission(kind: Kind, cidr: str) -> dict[str, Any]:
    protocol, first, last = kind
    ranges = {"Ipv6Ranges": [{"CidrIpv6": cidr}]} if ":" in cidr else {"IpRanges": [{"CidrIp": cidr}]}
    ports = {} if protocol == "-1" else {"FromPort": first, "ToPort": last}
    return {"IpProtocol": protocol, **ports, **ranges}


def _kind(item: Mapping[str, Any], protocol: str, first: str, last: str) -> Kind:
    name = str(item.get(protocol, "-1")).lower()
    name = PROTOCOLS.get(name, name)
    return (name, -1, -1) if name == "-1" else (name, _port(item.get(first)), _port(item.get(last)))


def _port(value: Any) -> int:
    return int(value) if isinstance(value, int | str) and re.fullmatch(r"-?\d{1,5}", str(value)) else -1


def _request(record: Record) -> Mapping[str, Any]:
    request = record.get("requestParameters")
    return request if isinstance(request, dict) else {}


def _items(value: Any) -> list[dict[str, Any]]:
    """The maps of a list, which CloudTrail writes for EC2 as {"items": […]}."""
    items = value.get("items") if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
