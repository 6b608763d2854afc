"""Benign calls for the demo: everyday work, and calls so close to attacks that a careless rule would report them."""

from __future__ import annotations

import random  # noqa: TID251 - only as the type of a generator that the caller has seeded
from dataclasses import dataclass
from typing import Final

from router.demo.attacks import ApiCall


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, and the random generator that the call's contents come from."""

    rng: random.Random
    account: str
    person: str

    def resource(self, prefix: str) -> str:
        """Make up the id of a resource, such as i-0123456789abcdef0."""
        return f"{prefix}-{self.rng.getrandbits(68):017x}"


def _assume_role(caller: Caller) -> ApiCall:
    request = {
        "roleArn": f"arn:aws:iam::{caller.account}:role/deploy",
        "roleSessionName": caller.person,
        "durationSeconds": 3600,
    }
    return ApiCall("sts", "AssumeRole", request)


def _describe_instance(caller: Caller) -> ApiCall:
    return ApiCall(
        "ec2", "DescribeInstanceAttribute", {"instanceId": caller.resource("i"), "attribute": "instanceType"}
    )


def _run_instances(caller: Caller) -> ApiCall:
    return ApiCall("ec2", "RunInstances", {"instanceType": caller.rng.choice(("t3.micro", "m7g.large", "c7i.2xlarge"))})


def _private_ingress(caller: Caller) -> ApiCall:
    permission = {
        "ipProtocol": "tcp",
        "fromPort": 443,
        "toPort": 443,
        "ipRanges": {"items": [{"cidrIp": f"10.{caller.rng.randint(0, 255)}.0.0/16"}]},
        "ipv6Ranges": {},
    }
    request = {"groupId": caller.resource("sg"), "ipPermissions": {"items": [permission]}}
    return ApiCall("ec2", "AuthorizeSecurityGroupIngress", request, {"_return": True})


def _strict_policy(caller: Caller) -> ApiCall:
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    allow = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{caller.account}:role/app"},
        "Action": "s3:GetObject",
        "Resource": "*",
    }
    policy = {"Version": "2012-10-17", "Statement": [deny, allow]}
    return ApiCall("s3", "PutBucketPolicy", {"bucketName": "app-assets", "bucketPolicy": policy})


def _own_key(caller: Caller) -> ApiCall:
    return ApiCall("iam", "CreateAccessKey", {"userName": caller.person})


def _own_trust(caller: Caller) -> ApiCall:
    statement = (
        f'{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{caller.account}:root"}},"Action":"sts:AssumeRole"}}'
    )
    return ApiCall(
        "iam", "UpdateAssumeRolePolicy", {"roleName": "app", "policyDocument": f'{{"Statement":[{statement}]}}'}
    )


def _secret(caller: Caller) -> ApiCall:
    """Each person has only two secrets, so that reading them often is not mass reading."""
    return ApiCall(
        "secretsmanager", "GetSecretValue", {"secretId": f"{caller.person}/{caller.rng.choice(('database', 'api'))}"}
    )


_READ_ONLY: Final = '{"Statement":[{"Effect":"Allow","Action":["s3:Get*"],"Resource":"*"}]}'

FIXED: Final = (
    ApiCall("ec2", "DescribeInstances", {"instancesSet": {}, "filterSet": {}}),
    ApiCall("ec2", "DescribeSecurityGroups", {"securityGroupSet": {}, "filterSet": {}}),
    ApiCall("ec2", "DescribeSubnets", {"subnetSet": {}, "filterSet": {}}),
    ApiCall("ec2", "DescribeVolumes", {"volumeSet": {}, "filterSet": {}}),
    ApiCall("s3", "ListBuckets", {"Host": "s3.amazonaws.com"}),
    ApiCall("s3", "GetBucketAcl", {"bucketName": "app-assets", "acl": ""}),
    ApiCall("s3", "GetBucketLocation", {"bucketName": "app-assets", "location": ""}),
    ApiCall("iam", "ListRoles"),
    ApiCall("iam", "GetUser"),
    ApiCall("iam", "GetRole", {"roleName": "app"}),
    ApiCall("sts", "GetCallerIdentity"),
    ApiCall("kms", "Decrypt", {"encryptionAlgorithm": "SYMMETRIC_DEFAULT"}),
    ApiCall("logs", "DescribeLogGroups", {"limit": 50}),
    ApiCall("cloudtrail", "DescribeTrails", {"trailNameList": []}),
    ApiCall("cloudtrail", "LookupEvents", {"maxResults": 50}),
    ApiCall("guardduty", "ListDetectors"),
    ApiCall("rds", "DescribeDBInstances"),
    ApiCall("lambda", "ListFunctions20150331"),
    ApiCall("ssm", "GetParameter", {"name": "/aws/service/ami", "withDecryption": False}),
    ApiCall("s3", "GetBucketPolicy", {"bucketName": "customer-exports"}, error="AccessDenied"),
    ApiCall("iam", "PutRolePolicy", {"roleName": "app", "policyName": "read", "policyDocument": _READ_ONLY}),
    ApiCall(
        "signin",
        "ConsoleLogin",
        None,
        {"ConsoleLogin": "Success"},
        extra={"additionalEventData": {"MFAUsed": "Yes", "MobileVersion": "No"}},
    ),
)
"""Calls that are the same, whoever makes them."""

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


def benign_call(caller: Caller) -> ApiCall:
    """Choose one of the benign calls at random, all with the same probability."""
    chosen = caller.rng.choice((*FIXED, *PERSONAL))
    return chosen if isinstance(chosen, ApiCall) else chosen(caller)
