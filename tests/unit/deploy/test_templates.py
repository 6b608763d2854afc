"""What every template keeps to, as rules: encryption, no public way in, rights with reasons, no secret in sight."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from docs.cloudformation import NAMES, Statement, items, read, resources, statements
from router.adapters.aws.templates import MAX_BODY_BYTES, template
from tests.support.paths import REPOSITORY

ENCRYPTED: Final = {
    "AWS::SQS::Queue": ["KmsMasterKeyId"],
    "AWS::S3::Bucket": ["BucketEncryption"],
    "AWS::DynamoDB::Table": ["SSESpecification", "KMSMasterKeyId"],
    "AWS::KinesisFirehose::DeliveryStream": ["DeliveryStreamEncryptionConfigurationInput", "KeyARN"],
    "AWS::SecretsManager::Secret": ["KmsKeyId"],
    "AWS::Logs::LogGroup": ["KmsKeyId"],
    "AWS::ElastiCache::ReplicationGroup": ["KmsKeyId"],
}
"""The types that keep anything, each with the way to what names its key."""
STATEFUL: Final = {*ENCRYPTED, "AWS::KMS::Key"}
WITH_POLICY: Final = {"AWS::SQS::Queue": "AWS::SQS::QueuePolicy", "AWS::S3::Bucket": "AWS::S3::BucketPolicy"}
EVERYWHERE: Final = "0.0.0.0/0"
SECRET_WORDS: Final = ("SECRET", "PASSWORD", "TOKEN")
RUNBOOKS: Final = REPOSITORY / "docs" / "how-to" / "runbooks"
by_name = pytest.mark.parametrize("name", NAMES)


def of_type(name: str, *types: str) -> Iterator[tuple[str, Any]]:
    """List the resources of these types, with their properties."""
    for logical_id, resource in resources(name).items():
        if resource["Type"] in types:
            yield logical_id, resource["Properties"]


def containers(name: str) -> Iterator[tuple[str, Any]]:
    """List the containers of all task definitions."""
    for logical_id, task in of_type(name, "AWS::ECS::TaskDefinition"):
        for container in task["ContainerDefinitions"]:
            yield logical_id, container


def allowed(name: str) -> list[Statement]:
    """List the statements that allow something."""
    return [said for said in statements(name) if said.effect == "Allow"]


@by_name
def test_whatever_keeps_data_is_encrypted_with_our_key(name: str) -> None:
    """Also the log, and on its way to Redis."""
    for kind, way in ENCRYPTED.items():
        for logical_id, properties in of_type(name, kind):
            found = properties
            for step in way:
                assert step in found, f"{logical_id} has no {step}"
                found = found[step]
    for logical_id, bucket in of_type(name, "AWS::S3::Bucket"):
        rule = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms", logical_id
    for logical_id, group in of_type(name, "AWS::ElastiCache::ReplicationGroup"):
        assert group["TransitEncryptionEnabled"], logical_id
        assert group["AtRestEncryptionEnabled"], logical_id
        assert group["TransitEncryptionMode"] == "required", logical_id


@by_name
def test_whatever_keeps_data_says_what_becomes_of_it(name: str) -> None:
    """When its stack is deleted, and when it is replaced by another."""
    for logical_id, resource in resources(name).items():
        if resource["Type"] in STATEFUL:
            assert resource.keys() >= {"DeletionPolicy", "UpdateReplacePolicy"}, logical_id
    for logical_id, table in of_type(name, "AWS::DynamoDB::Table"):
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}, logical_id


@by_name
def test_queues_and_buckets_are_reached_by_tls_alone(name: str) -> None:
    """Each has a policy that denies everything else to everybody."""
    for kind, policy_kind in WITH_POLICY.items():
        protected = set()
        for _, policy in of_type(name, policy_kind):
            said = [each for each in items(policy["PolicyDocument"]["Statement"]) if each["Effect"] == "Deny"]
            assert [each["Condition"] for each in said] == [{"Bool": {"aws:SecureTransport": "false"}}]
            assert said[0]["Principal"] == "*"
            assert said[0]["Action"] in ("sqs:*", "s3:*")
            protected |= {each["Ref"] for each in policy.get("Queues", [policy.get("Bucket")])}
        assert protected == {logical_id for logical_id, _ in of_type(name, kind)}


@by_name
def test_nothing_is_public(name: str) -> None:
    """No bucket can be made so, nobody unknown is allowed anything, and no task has an address in the internet."""
    for logical_id, bucket in of_type(name, "AWS::S3::Bucket"):
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}, logical_id
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4, logical_id
    for logical_id, policy in of_type(name, *WITH_POLICY.values()):
        for said in items(policy["PolicyDocument"]["Statement"]):
            assert said["Effect"] == "Deny" or "*" not in str(said["Principal"]), logical_id
            assert said["Effect"] == "Deny" or "Condition" in said, f"{logical_id}: any bucket of anybody"
    for logical_id, service in of_type(name, "AWS::ECS::Service"):
        assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "DISABLED", logical_id


@by_name
def test_every_rule_of_a_security_group_is_bounded(name: str) -> None:
    """In: from a group on one port. Out: on one port, and everywhere only to AWS. Each says what it is for."""
    for logical_id, group in of_type(name, "AWS::EC2::SecurityGroup"):
        rules_in, rules_out = items(group["SecurityGroupIngress"]), items(group["SecurityGroupEgress"])
        assert rules_out, f"{logical_id}: without a rule everything is allowed out"
        for rule in rules_in:
            assert rule["IpProtocol"] == "tcp", logical_id
            assert rule["FromPort"] == rule["ToPort"], logical_id
            assert rule.keys() >= {"Description", "SourceSecurityGroupId"}, logical_id
        for rule in rules_out:
            assert "Description" in rule, logical_id
            assert rule["IpProtocol"] == "icmp" or rule["FromPort"] == rule["ToPort"], logical_id
            assert rule["CidrIp"] != EVERYWHERE or rule["FromPort"] == 443, logical_id


def test_only_routers_controllers_and_prometheus_reach_a_cell() -> None:
    """On the worker's one port."""
    rules = items(resources("platform")["CellAccess"]["Properties"]["SecurityGroupIngress"])
    sources = [rule["SourceSecurityGroupId"] for rule in rules]
    assert sources == [
        {"Fn::GetAtt": ["RouterAccess", "GroupId"]},
        {"Fn::GetAtt": ["ControllerAccess", "GroupId"]},
        {"Ref": "PrometheusGroupId"},
    ]
    assert {rule["FromPort"] for rule in rules} == {8080}


@by_name
def test_logs_end(name: str) -> None:
    """No log group keeps everything for ever."""
    for logical_id, group in of_type(name, "AWS::Logs::LogGroup"):
        assert group["RetentionInDays"] == {"Ref": "LogDays"}, logical_id


@by_name
def test_every_right_has_a_reason_and_every_reason_a_right(name: str) -> None:
    """So the IAM page can't drift from what is given."""
    given = {(said.owner, said.sid) for said in statements(name)}
    reasons = {
        (owner, sid)
        for owner, resource in resources(name).items()
        for sid in resource.get("Metadata", {}).get("Reasons", {})
    }
    assert given == reasons


@by_name
def test_no_right_has_a_wildcard_without_a_reason(name: str) -> None:
    """No action has one but the account's own right to the key; a resource that is everything says why."""
    for said in allowed(name):
        if said.owner == "Key":
            assert said.sid == "Account" or not any("*" in action for action in said.actions)
            continue  # in a key's policy, * is the key
        assert [action for action in said.actions if "*" in action] == [], said
        for resource in said.resources:
            unbounded = resource == "*" or ":*:" in resource
            assert not unbounded or "wildcard: " in said.reason or said.sid == "Remedies", said


@by_name
def test_roles_are_passed_only_to_whom_they_are_for(name: str) -> None:
    """`iam:PassRole` names the service, and never every role."""
    for said in allowed(name):
        if "iam:PassRole" in said.actions:
            assert "iam:PassedToService" in said.condition["StringEquals"], said
            assert all(resource != "*" for resource in said.resources), said


def test_a_controller_can_make_no_role_that_may_more_than_a_cell() -> None:
    """It makes stacks as one role alone, and that makes roles only with the boundary, which it can't take off."""
    by_action = {action: said for said in allowed("platform") for action in said.actions}
    for action in ("cloudformation:CreateStack", "cloudformation:UpdateStack"):
        assert by_action[action].condition == {
            "ArnEquals": {"cloudformation:RoleArn": {"Fn::GetAtt": ["CellStackRole", "Arn"]}}
        }
    for action in ("iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"):
        assert by_action[action].owner == "CellStackRole"
        assert by_action[action].condition == {"StringEquals": {"iam:PermissionsBoundary": {"Ref": "CellBoundary"}}}
    assert not {"iam:DeleteRolePermissionsBoundary", "iam:AttachRolePolicy", "iam:CreatePolicy"} & by_action.keys()
    for _, role in of_type("cell", "AWS::IAM::Role"):
        assert role["PermissionsBoundary"] == {"Ref": "BoundaryArn"}


def test_a_cell_has_no_right_that_its_boundary_takes_away() -> None:
    """Whatever cell.yaml gives its roles is within the most that a cell's role may do."""
    within = {action for said in allowed("platform") if said.owner == "CellBoundary" for action in said.actions}
    assert {action for said in allowed("cell") for action in said.actions} == within


@by_name
def test_no_secret_is_in_sight(name: str) -> None:
    """Not in a parameter that CloudFormation shows, nor in a container's environment, which ECS shows."""
    for parameter, found in read(name)["Parameters"].items():
        if any(word in parameter.upper() for word in SECRET_WORDS) and not parameter.endswith("Arn"):
            assert found.get("NoEcho") is True, parameter
            assert "Default" not in found, parameter
    for logical_id, container in containers(name):
        for variable in items(container["Environment"]):
            secret = any(word in variable["Name"] for word in SECRET_WORDS)
            assert not secret or variable["Name"].endswith("_PASSWORD_FROM"), (logical_id, variable["Name"])
    for logical_id, secret in of_type(name, "AWS::SecretsManager::Secret"):
        told = secret.get("SecretString", {"Ref": ""})
        assert told == {"Ref": ""} or read(name)["Parameters"][told["Ref"]]["NoEcho"], logical_id


@by_name
def test_containers_may_little(name: str) -> None:
    """As with Docker: no user's rights, a read-only disk, no capability; and all the time to end that there is."""
    for logical_id, container in containers(name):
        assert container["User"] == "10001:10001", logical_id
        assert container["ReadonlyRootFilesystem"] is True, logical_id
        assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}, logical_id
        assert container["StopTimeout"] == 120, logical_id
        assert "Privileged" not in container, logical_id
        assert container["LogConfiguration"]["LogDriver"] == "awslogs", logical_id
        assert [port["ContainerPort"] for port in container["PortMappings"]] == [8080], logical_id


@by_name
def test_containers_are_asked_as_the_image_asks_itself(name: str) -> None:
    """Fargate does not heed the image's own check; a router that waits for its first map is well all the same."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    check = json.loads(next(line for line in dockerfile.splitlines() if "CMD" in line and "import socket" in line)[8:])
    for logical_id, container in containers(name):
        path = "healthz" if logical_id == "RouterTask" else "readyz"
        assert container["HealthCheck"]["Command"] == ["CMD", *check[:-1], check[-1].replace("readyz", path)]


@by_name
def test_every_alarm_pages_says_what_it_means_and_has_a_page(name: str) -> None:
    """The page is named in the alarm, in words of its own name, and says what to look at and what to do."""
    for logical_id, alarm in of_type(name, "AWS::CloudWatch::Alarm"):
        page = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in logical_id)[1:]
        assert alarm["AlarmDescription"].endswith(f" See docs/how-to/runbooks/{page}.md."), logical_id
        assert_is_runbook(page, logical_id)
        assert alarm["AlarmActions"]["Fn::If"][0] == "HasTopic", logical_id
        assert alarm["TreatMissingData"] in ("breaching", "notBreaching"), logical_id


def assert_is_runbook(page: str, name: str) -> None:
    """A page is of this alarm or alert, and says what it means, what to look at and what to do."""
    text = (RUNBOOKS / f"{page}.md").read_text()
    assert text.startswith(f"# {name}\n")
    for heading in ("## It means", "## Look", "## Do"):
        assert f"\n{heading}\n" in text, page


def alerts() -> list[dict[str, Any]]:
    """Every alert of Prometheus."""
    rules = yaml.safe_load((REPOSITORY / "deploy" / "prometheus" / "rules.yml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def test_every_alert_of_prometheus_names_its_page() -> None:
    """Where an alarm of CloudWatch tells the same, they have one name and one page."""
    for alert in alerts():
        page = alert["annotations"]["runbook"].removeprefix("docs/how-to/runbooks/").removesuffix(".md")
        assert_is_runbook(page, alert["alert"])
        assert alert["annotations"]["summary"], alert["alert"]


def test_every_runbook_is_of_an_alarm() -> None:
    """Nobody reads a page of an alarm that is gone."""
    alarms = {logical_id for name in NAMES for logical_id, _ in of_type(name, "AWS::CloudWatch::Alarm")}
    named = alarms | {alert["alert"] for alert in alerts()}
    assert {page.read_text().splitlines()[0].removeprefix("# ") for page in RUNBOOKS.glob("*.md")} == named


def test_the_cells_template_can_be_sent_in_a_call() -> None:
    """The controller sends its text; a longer one would need a bucket."""
    assert len(template("cell").encode()) <= MAX_BODY_BYTES


def test_the_redis_users_have_the_rights_that_users_acl_gives_them() -> None:
    """No more and no less: the same words, but for the environment's name and the password."""
    lines = (REPOSITORY / "deploy" / "redis" / "users.acl").read_text().splitlines()
    rights = {line.split()[1]: line.partition(">change-me ")[2] for line in lines if ">change-me" in line}
    users = {
        user["UserId"]["Fn::Sub"].replace("${Prefix}-${Environment}", "cellrouter"): user["AccessString"]["Fn::Sub"]
        for _, user in of_type("platform", "AWS::ElastiCache::User")
    }
    assert users == {name: f"on {said}".replace("{live}", "{${Environment}}") for name, said in rights.items()}


def test_what_metric_filters_look_for_is_logged() -> None:
    """A log line that is worded anew would silence the alarm that counts it."""
    told = "".join(
        (REPOSITORY / path).read_text() for path in ("router/adapters/logs.py", "router/core/control/records.py")
    )
    quoted = [part for part in told.split('"') if part]
    for logical_id, found in of_type("platform", "AWS::Logs::MetricFilter"):
        event = found["FilterPattern"].partition('$.event = "')[2].partition('"')[0]
        assert fnmatch.filter(quoted, event), f"{logical_id}: nobody logs {event!r}"
