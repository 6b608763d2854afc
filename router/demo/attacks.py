"""Attack patterns for the demo: what an attacker calls, and which rules have to find it.

They are data. The expected findings are written down beside the calls, not computed from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Actor = Literal["user", "root", "instance"]

RULE_IDS: Final = {
    "cloudtrail_logging_stopped": "fc558787-c260-455c-9a6d-7f35ad60aeab",
    "cloudtrail_trail_narrowed": "24d5b1b6-cdae-48ab-8f24-c738e53f905b",
    "console_login_burst": "1bac0103-2589-44f3-a3e7-5dfea5e251be",
    "console_login_failed": "c70e7d94-682b-42a8-9e83-4bbed77ac699",
    "console_login_without_mfa": "63b0d659-23ad-458b-b476-bf3d88ba19c0",
    "detector_disabled": "a55b3732-86d5-44fe-934e-972483850a21",
    "flow_logs_deleted": "f00152ce-56da-4413-b4a3-7ca529164e00",
    "gpu_instances_started": "9fb7055a-470e-4984-83ca-db63d93a8731",
    "iam_access_key_for_another": "d25519aa-c369-4022-9766-aced7c9e4a95",
    "iam_admin_granted": "c5104fdc-3998-4be8-a64b-39f5ee61309b",
    "iam_login_profile_changed": "1e038b3f-77f1-48bc-9c66-62e81a05ed68",
    "iam_role_trusts_outsider": "e67748cf-a8e3-4c8b-b16b-67cf903e9102",
    "iam_user_created": "d628c76a-9b77-4101-a49b-ae1076754f9b",
    "image_shared": "fbb5edea-5e55-473f-b973-9614aa82f472",
    "imdsv1_allowed": "986bb8c3-1954-48aa-b2f1-76d73ad82341",
    "instance_credentials_outside": "2b104f37-b447-4411-9cac-0d3d972d4442",
    "kms_key_lost": "dd0da3e0-a371-4083-ae6d-2e761f34714b",
    "lambda_open_to_all": "a4722d43-1c8a-4cea-ad04-61f7bbf46f1f",
    "log_group_deleted": "43f90ff2-1716-4ca4-b584-813480a294bc",
    "organization_left": "321bcd01-8006-4122-b148-635a8dafbe61",
    "parameters_mass_read": "c0a7c76a-b18a-47a0-9a9c-02016e38d45e",
    "roles_anywhere_trust": "4b391b45-c10e-4c91-9598-3ed7764c1c61",
    "root_used": "fd21e0f7-1c07-4678-9f6e-15df5f385822",
    "s3_acl_public": "53548670-5034-4c06-bd59-c899f2d13dc6",
    "s3_objects_expire_soon": "901c2076-2c4e-4741-91c0-03b5baa39218",
    "s3_policy_public": "928792bb-33dd-4149-b3b6-57ef30f1e344",
    "s3_public_access_block_removed": "4e73d12b-4668-45ab-8235-5a37adc1acc3",
    "secrets_batch_read": "03f9f3e4-7eb4-4c37-9796-0af11b5384fc",
    "secrets_mass_read": "d279eb20-d6cd-44eb-941c-d13e0feed2aa",
    "security_group_opened": "f6690490-e101-4c05-b3c1-f92382108db1",
    "snapshot_shared": "8e3d3f32-a195-47af-b412-ef0e7230f9da",
    "ssm_shell_command": "a6899af8-ddbd-44ee-8591-a12c2c60cdeb",
    "user_data_changed": "59e94973-6dcb-42e3-91a5-4ef9eeb88e82",
    "user_data_mass_read": "84374278-51f8-4411-bb81-a51c6427548c",
    "windows_password_read": "22b18504-fad3-42b4-9100-41aaba45aabd",
}
"""Maps the name of a shipped rule to its id, which findings carry."""


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One call of an AWS API, as CloudTrail will record it."""

    service: str
    name: str
    request: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None
    error: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attack:
    """Calls that one actor makes from one address, some seconds apart, and the findings that they must lead to."""

    name: str
    finds: Mapping[str, int]  # name of a rule → how many findings
    calls: tuple[ApiCall, ...]
    actor: Actor = "user"


def _one(rule: str, call: ApiCall, *, variant: str = "", actor: Actor = "user") -> Attack:
    return Attack(f"{rule}{variant}", {rule: 1}, (call,), actor)


def _opens(variant: str, ranges: str, cidr: dict[str, str]) -> Attack:
    permission = {"ipProtocol": "tcp", "fromPort": 22, "toPort": 22, ranges: {"items": [cidr]}}
    request = {"groupId": "sg-0a1b2c3d4e5f60718", "ipPermissions": {"items": [permission]}}
    call = ApiCall("ec2", "AuthorizeSecurityGroupIngress", request, {"_return": True})
    return _one("security_group_opened", call, variant=variant)


def _bucket(name: str, **request: Any) -> ApiCall:
    return ApiCall("s3", name, {"bucketName": "customer-exports", **request})


def _login(outcome: str, mfa: str) -> ApiCall:
    return ApiCall(
        "signin", "ConsoleLogin", None, {"ConsoleLogin": outcome}, extra={"additionalEventData": {"MFAUsed": mfa}}
    )


def _policy(principal: Any) -> dict[str, Any]:
    allow = {
        "Effect": "Allow",
        "Principal": principal,
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::customer-exports/*",
    }
    return {"Version": "2012-10-17", "Statement": [allow]}


_OUTSIDER: Final = (
    '{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::999988887777:root"},"Action":"sts:AssumeRole"}]}'
)
_EVERYTHING: Final = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
_ALL_USERS: Final = "http://acs.amazonaws.com/groups/global/AllUsers"

ATTACKS: Final = (
    _one("cloudtrail_logging_stopped", ApiCall("cloudtrail", "StopLogging", {"name": "org-trail"})),
    _one(
        "cloudtrail_logging_stopped",
        ApiCall("cloudtrail", "DeleteTrail", {"name": "org-trail"}, error="TrailNotFoundException"),
        variant=" (attempt)",
    ),
    _one(
        "cloudtrail_trail_narrowed",
        ApiCall(
            "cloudtrail",
            "PutEventSelectors",
            {"trailName": "org-trail", "eventSelectors": [{"readWriteType": "All", "includeManagementEvents": False}]},
        ),
    ),
    _one(
        "cloudtrail_trail_narrowed",
        ApiCall("cloudtrail", "UpdateTrail", {"name": "org-trail", "isMultiRegionTrail": False}),
        variant=" (one region)",
    ),
    _one(
        "s3_objects_expire_soon",
        _bucket(
            "PutBucketLifecycle",
            LifecycleConfiguration={
                "Rule": {"Status": "Enabled", "Filter": "", "Expiration": {"Days": 1}, "ID": "tidy"}
            },
        ),
    ),
    _one(
        "detector_disabled", ApiCall("guardduty", "DeleteDetector", {"detectorId": "12abc34d567e8fa901bc2d34e56789f0"})
    ),
    _one(
        "detector_disabled",
        ApiCall("guardduty", "UpdateDetector", {"detectorId": "12abc34d567e8fa901bc2d34e56789f0", "enable": False}),
        variant=" (switched off)",
    ),
    _one(
        "detector_disabled",
        ApiCall("config", "StopConfigurationRecorder", {"configurationRecorderName": "default"}),
        variant=" (config)",
    ),
    _one("root_used", ApiCall("iam", "ListUsers"), actor="root"),
    _one("console_login_without_mfa", _login("Success", "No")),
    _one("console_login_failed", _login("Failure", "No")),
    Attack("password guessing", {"console_login_failed": 7, "console_login_burst": 1}, (_login("Failure", "No"),) * 7),
    _opens(" (IPv4)", "ipRanges", {"cidrIp": "0.0.0.0/0"}),
    _opens(" (IPv6)", "ipv6Ranges", {"cidrIpv6": "::/0"}),
    _one("s3_policy_public", _bucket("PutBucketPolicy", bucketPolicy=_policy("*"))),
    _one("s3_policy_public", _bucket("PutBucketPolicy", bucketPolicy=_policy({"AWS": "*"})), variant=" (any account)"),
    _one("s3_acl_public", _bucket("PutBucketAcl", **{"x-amz-acl": "public-read"})),
    _one(
        "s3_acl_public",
        _bucket(
            "PutBucketAcl",
            AccessControlPolicy={
                "AccessControlList": {"Grant": [{"Grantee": {"URI": _ALL_USERS}, "Permission": "READ"}]}
            },
        ),
        variant=" (grant)",
    ),
    _one("s3_public_access_block_removed", _bucket("DeleteBucketPublicAccessBlock")),
    _one(
        "s3_public_access_block_removed",
        _bucket("PutBucketPublicAccessBlock", PublicAccessBlockConfiguration={"BlockPublicPolicy": False}),
        variant=" (turned off)",
    ),
    _one("iam_access_key_for_another", ApiCall("iam", "CreateAccessKey", {"userName": "break-glass"})),
    _one("iam_login_profile_changed", ApiCall("iam", "UpdateLoginProfile", {"userName": "break-glass"})),
    _one("iam_user_created", ApiCall("iam", "CreateUser", {"userName": "support-2"})),
    _one(
        "iam_admin_granted",
        ApiCall(
            "iam",
            "AttachUserPolicy",
            {"userName": "support-2", "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
        ),
    ),
    _one(
        "iam_admin_granted",
        ApiCall("iam", "PutRolePolicy", {"roleName": "app", "policyName": "inline", "policyDocument": _EVERYTHING}),
        variant=" (inline)",
    ),
    _one(
        "iam_role_trusts_outsider",
        ApiCall("iam", "UpdateAssumeRolePolicy", {"roleName": "app", "policyDocument": _OUTSIDER}),
    ),
    _one(
        "snapshot_shared",
        ApiCall(
            "ec2",
            "ModifySnapshotAttribute",
            {
                "snapshotId": "snap-0123456789abcdef0",
                "createVolumePermission": {"add": {"items": [{"userId": "999988887777"}]}},
                "attributeType": "CREATE_VOLUME_PERMISSION",
            },
        ),
    ),
    _one(
        "snapshot_shared",
        ApiCall(
            "rds",
            "ModifyDBSnapshotAttribute",
            {"dBSnapshotIdentifier": "nightly", "attributeName": "restore", "valuesToAdd": ["all"]},
        ),
        variant=" (database)",
    ),
    _one(
        "image_shared",
        ApiCall(
            "ec2",
            "ModifyImageAttribute",
            {"imageId": "ami-0123456789abcdef0", "launchPermission": {"add": {"items": [{"group": "all"}]}}},
        ),
    ),
    Attack(
        "secrets_mass_read",
        {"secrets_mass_read": 1},
        tuple(
            ApiCall("secretsmanager", "GetSecretValue", {"secretId": f"prod/service-{number}"}) for number in range(9)
        ),
    ),
    _one(
        "secrets_batch_read",
        ApiCall("secretsmanager", "BatchGetSecretValue", {"filters": [{"key": "tag-key", "values": ["env"]}]}),
    ),
    Attack(
        "parameters_mass_read",
        {"parameters_mass_read": 1},
        tuple(
            ApiCall("ssm", "GetParameter", {"name": f"/prod/key-{number}", "withDecryption": True})
            for number in range(12)
        ),
    ),
    _one("instance_credentials_outside", ApiCall("s3", "ListBuckets"), actor="instance"),
    _one("windows_password_read", ApiCall("ec2", "GetPasswordData", {"instanceId": "i-0fedcba9876543210"})),
    _one(
        "flow_logs_deleted",
        ApiCall(
            "ec2",
            "DeleteFlowLogs",
            {"DeleteFlowLogsRequest": {"FlowLogId": {"content": "fl-0123456789abcdef0"}}},
        ),
    ),
    _one("log_group_deleted", ApiCall("logs", "DeleteLogGroup", {"logGroupName": "/app/audit"})),
    _one(
        "kms_key_lost",
        ApiCall(
            "kms", "ScheduleKeyDeletion", {"keyId": "1234abcd-12ab-34cd-56ef-1234567890ab", "pendingWindowInDays": 7}
        ),
    ),
    _one(
        "user_data_changed",
        ApiCall(
            "ec2",
            "ModifyInstanceAttribute",
            {"instanceId": "i-0fedcba9876543210", "userData": "<removed>"},
        ),
    ),
    Attack(
        "user_data_mass_read",
        {"user_data_mass_read": 1},
        tuple(
            ApiCall("ec2", "DescribeInstanceAttribute", {"instanceId": f"i-{number:017x}", "attribute": "userData"})
            for number in range(8)
        ),
    ),
    _one(
        "imdsv1_allowed",
        ApiCall(
            "ec2",
            "ModifyInstanceMetadataOptions",
            {"ModifyInstanceMetadataOptionsRequest": {"InstanceId": "i-0fedcba9876543210", "HttpTokens": "optional"}},
        ),
    ),
    _one("organization_left", ApiCall("organizations", "LeaveOrganization", error="AccessDenied")),
    _one(
        "lambda_open_to_all",
        ApiCall(
            "lambda",
            "AddPermission20150331v2",
            {"functionName": "export", "statementId": "web", "action": "lambda:InvokeFunction", "principal": "*"},
        ),
    ),
    _one("roles_anywhere_trust", ApiCall("rolesanywhere", "CreateTrustAnchor", {"name": "build", "enabled": True})),
    _one(
        "ssm_shell_command",
        ApiCall("ssm", "SendCommand", {"instanceIds": ["i-0fedcba9876543210"], "documentName": "AWS-RunShellScript"}),
    ),
    _one(
        "gpu_instances_started",
        ApiCall(
            "ec2",
            "RunInstances",
            {"instanceType": "p3.16xlarge", "instancesSet": {"items": [{"minCount": 1, "maxCount": 10}]}},
            error="Client.VcpuLimitExceeded",
        ),
    ),
)
"""At least one attack for every rule, but for those that are only counted by other rules."""
