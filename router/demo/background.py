"""Benign calls for the demo: everyday work, with the near misses that a careless rule would report."""

from __future__ import annotations

import random  # noqa: TID251 - only as the type of a generator that the caller has seeded
from dataclasses import dataclass
from typing import Final

from router.demo.attacks import Call


@dataclass(frozen=True, slots=True)
class Someone:
    """Who makes a call, and the generator for what the call says."""

    rng: random.Random
    account: str
    person: str

    def resource(self, prefix: str) -> str:
        """A resource's id, such as i-0123456789abcdef0."""
        return f"{prefix}-{self.rng.getrandbits(68):017x}"


def _assume_role(who: Someone) -> Call:
    request = {
        "roleArn": f"arn:aws:iam::{who.account}:role/deploy",
        "roleSessionName": who.person,
        "durationSeconds": 3600,
    }
    return Call("sts", "AssumeRole", request)


def _describe_instance(who: Someone) -> Call:
    return Call("ec2", "DescribeInstanceAttribute", {"instanceId": who.resource("i"), "attribute": "instanceType"})


def _run_instances(who: Someone) -> Call:
    return Call("ec2", "RunInstances", {"instanceType": who.rng.choice(("t3.micro", "m7g.large", "c7i.2xlarge"))})


def _private_ingress(who: Someone) -> Call:
    permission = {
        "ipProtocol": "tcp",
        "fromPort": 443,
        "toPort": 443,
        "ipRanges": {"items": [{"cidrIp": f"10.{who.rng.randint(0, 255)}.0.0/16"}]},
        "ipv6Ranges": {},
    }
    request = {"groupId": who.resource("sg"), "ipPermissions": {"items": [permission]}}
    return Call("ec2", "AuthorizeSecurityGroupIngress", request, {"_return": True})


def _strict_policy(who: Someone) -> Call:
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    allow = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{who.account}:role/app"},
        "Action": "s3:GetObject",
        "Resource": "*",
    }
    policy = {"Version": "2012-10-17", "Statement": [deny, allow]}
    return Call("s3", "PutBucketPolicy", {"bucketName": "app-assets", "bucketPolicy": policy})


def _own_key(who: Someone) -> Call:
    return Call("iam", "CreateAccessKey", {"userName": who.person})


def _own_trust(who: Someone) -> Call:
    statement = (
        f'{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{who.account}:root"}},"Action":"sts:AssumeRole"}}'
    )
    return Call(
        "iam", "UpdateAssumeRolePolicy", {"roleName": "app", "policyDocument": f'{{"Statement":[{statement}]}}'}
    )


def _secret(who: Someone) -> Call:
    """Each person has two secrets of their own: however often they are read, that is no mass reading."""
    return Call("secretsmanager", "GetSecretValue", {"secretId": f"{who.person}/{who.rng.choice(('database', 'api'))}"})


_READ_ONLY: Final = '{"Statement":[{"Effect":"Allow","Action":["s3:Get*"],"Resource":"*"}]}'

FIXED: Final = (
    Call("ec2", "DescribeInstances", {"instancesSet": {}, "filterSet": {}}),
    Call("ec2", "DescribeSecurityGroups", {"securityGroupSet": {}, "filterSet": {}}),
    Call("ec2", "DescribeSubnets", {"subnetSet": {}, "filterSet": {}}),
    Call("ec2", "DescribeVolumes", {"volumeSet": {}, "filterSet": {}}),
    Call("s3", "ListBuckets", {"Host": "s3.amazonaws.com"}),
    Call("s3", "GetBucketAcl", {"bucketName": "app-assets", "acl": ""}),
    Call("s3", "GetBucketLocation", {"bucketName": "app-assets", "location": ""}),
    Call("iam", "ListRoles"),
    Call("iam", "GetUser"),
    Call("iam", "GetRole", {"roleName": "app"}),
    Call("sts", "GetCallerIdentity"),
    Call("kms", "Decrypt", {"encryptionAlgorithm": "SYMMETRIC_DEFAULT"}),
    Call("logs", "DescribeLogGroups", {"limit": 50}),
    Call("cloudtrail", "DescribeTrails", {"trailNameList": []}),
    Call("cloudtrail", "LookupEvents", {"maxResults": 50}),
    Call("guardduty", "ListDetectors"),
    Call("rds", "DescribeDBInstances"),
    Call("lambda", "ListFunctions20150331"),
    Call("ssm", "GetParameter", {"name": "/aws/service/ami", "withDecryption": False}),
    Call("s3", "GetBucketPolicy", {"bucketName": "customer-exports"}, error="AccessDenied"),
    Call("iam", "PutRolePolicy", {"roleName": "app", "policyName": "read", "policyDocument": _READ_ONLY}),
    Call(
        "signin",
        "ConsoleLogin",
        None,
        {"ConsoleLogin": "Success"},
        extra={"additionalEventData": {"MFAUsed": "Yes", "MobileVersion": "No"}},
    ),
)
"""Calls that are the same whoever makes them."""

PERSONAL: Final = (
    _assume_role,
    _describe_instance,
    _run_instances,
    _private_ingress,
    _strict_policy,
    _own_key,
    _own_trust,
    _secret,
)
"""Calls that depend on who makes them."""


def benign_call(who: Someone) -> Call:
    """Any of them."""
    chosen = who.rng.choice((*FIXED, *PERSONAL))
    return chosen if isinstance(chosen, Call) else chosen(who)
