"""cellrouter as it is deployed on ECS: MiniStack's ECS runs each router, controller and cell as a real container.

What MiniStack can't do is done here, and nowhere else: docs/localstack.md lists it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import botocore.exceptions
import botocore.session

from docs import cloudformation
from tests.support.compose_world import until
from tests.support.deployed_images import HANDLER
from tests.support.docker import docker
from tests.support.paths import REPOSITORY

PREFIX, ENVIRONMENT, REGION = "shop", "live", "us-east-1"
STACK: Final = f"{PREFIX}-{ENVIRONMENT}-platform"
ACL: Final = REPOSITORY / "deploy/redis/users.acl"
MENDED: Final = REPOSITORY / "tests/support/ministack"
PASSWORD: Final = "of-these-tests-alone"
AWS_PORT: Final = 4566
CELLS: Final = 3
ROLES: Final = ("Router", "Controller", "Cell")
TEMPLATES: Final = "templates"
BATCH: Final = 10  # messages that SQS takes at once
DEPLOY_S: Final = 240.0


@dataclass(frozen=True, slots=True)
class Account:
    """The account that a test deploys into: MiniStack in a network with a Redis, reached from this host."""

    network: str
    endpoint: str
    gateway: str  # the network's addresses

    def client(self, service: str) -> Any:
        """Return a client of one of its services."""
        session = botocore.session.get_session()
        session.set_credentials("test", "test")
        return session.create_client(service, region_name=REGION, endpoint_url=self.endpoint)


@contextmanager
def account() -> Iterator[Account]:
    """Open an empty account. At the end nothing is left of it, not even tasks that MiniStack leaves behind."""
    name = f"cellrouter-test-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        acl = folder / "users.acl"
        acl.write_text(ACL.read_text().replace("change-me", PASSWORD))
        acl.chmod(0o644)
        docker("network", "create", name)
        stack.callback(docker, "network", "rm", name, check=False)
        stack.callback(_remove_containers, name)
        run = ("run", "--detach", "--network", name)
        docker(
            *(*run, "--name", f"{name}-redis", "--network-alias", "redis", "--volume", f"{acl}:/users.acl:ro"),
            *("redis:7-alpine", "redis-server", "--save", "", "--aclfile", "/users.acl"),
        )
        docker(
            *(*run, "--name", f"{name}-aws", "--network-alias", "aws", "--publish", f"127.0.0.1:0:{AWS_PORT}"),
            *("--volume", "/var/run/docker.sock:/var/run/docker.sock"),
            *("--volume", f"{MENDED}:/mended:ro", "--env", "PYTHONPATH=/mended", "ministackorg/ministack:1.5.33"),
        )
        endpoint = f"http://{docker('port', f'{name}-aws', str(AWS_PORT)).split()[0]}"
        until(lambda: _answers(f"{endpoint}/_ministack/ready"), "MiniStack answers")
        subnet = json.loads(docker("network", "inspect", name))[0]["IPAM"]["Config"][0]["Subnet"]
        yield Account(name, endpoint, subnet)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _remove_containers(network: str) -> None:
    found = docker("ps", "--all", "--quiet", "--filter", f"network={network}", check=False).split()
    if found:
        docker("rm", "--force", "--volumes", *found, check=False)


class Deployed:
    """One deployment in an account, as an operator has it in hand."""

    def __init__(self, where: Account, image: str) -> None:
        self.account = where
        self.image = image
        self.cloudformation, self.ecs, self.sqs, self.s3, self.secrets, self.ec2 = [
            where.client(name) for name in ("cloudformation", "ecs", "sqs", "s3", "secretsmanager", "ec2")
        ]
        self.sent: list[str] = []
        self._read: dict[tuple[str, str], Sequence[str]] = {}  # the events of each object, by bucket and key
        self._cluster = f"{PREFIX}-{ENVIRONMENT}"

    def deploy(self) -> None:
        """Make all that docs/how-to/deploy-on-ecs.md makes: network, secrets, and the platform's stack."""
        vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"][
                "SubnetId"
            ]
            for n, zone in enumerate("ab")
        ]
        secret = self.secrets.create_secret(Name="redis", SecretString=PASSWORD)["ARN"]
        parameters = {
            "Prefix": PREFIX,
            "Environment": ENVIRONMENT,
            "Image": self.image,
            "CellImage": self.image,
            "VpcId": vpc,
            "VpcCidr": self.account.gateway,
            "Subnets": ",".join(subnets),
            "Cells": str(CELLS),
            "Handler": HANDLER,
            "Autoscaling": "false",
            **{f"{role}RedisUrl": f"redis://cellrouter-{role.lower()}@redis:6379/0" for role in ROLES},
            **{f"{role}RedisSecretArn": secret for role in ROLES},
        }
        self.s3.create_bucket(Bucket=TEMPLATES)  # CloudFormation takes large templates only from S3
        self.s3.put_object(Bucket=TEMPLATES, Key=STACK, Body=_template())
        self.cloudformation.create_stack(
            StackName=STACK,
            TemplateURL=f"{self.account.endpoint}/{TEMPLATES}/{STACK}",
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        until(lambda: self.stack_status(STACK) == "CREATE_COMPLETE", "the platform's stack is complete", DEPLOY_S)

    def stack_status(self, name: str) -> str:
        """Return how far a stack is; empty when there is none. Fail the test when it has failed."""
        try:
            [stack] = self.cloudformation.describe_stacks(StackName=name)["Stacks"]
        except botocore.exceptions.ClientError:
            return ""
        status = str(stack["StackStatus"])
        if "FAILED" in status or "ROLLBACK" in status:
            events = self.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
            failed = [e for e in events if "FAILED" in e["ResourceStatus"]]
            raise AssertionError(f"stack {name}: {status}: {json.dumps(failed[-3:], default=str)}")
        return status

    def tasks(self, **which: str) -> list[dict[str, Any]]:
        """Describe the cluster's tasks that run or shall run: of a service, a family, or all."""
        arns = self.ecs.list_tasks(cluster=self._cluster, **which)["taskArns"]
        return self.ecs.describe_tasks(cluster=self._cluster, tasks=arns, include=["TAGS"])["tasks"] if arns else []

    def addresses(self, service: str) -> list[str]:
        """Return the addresses of a service's running tasks: `router` or `controller`."""
        return [a for t in self.tasks(serviceName=f"{self._cluster}-{service}") if (a := address(t))]

    def asked(self, service: str, path: str) -> list[Any]:
        """Return what each task of a service answers, as JSON; passes over those that don't."""
        found = []
        for each in self.addresses(service):
            with suppress(OSError, ValueError), urllib.request.urlopen(f"http://{each}:8080{path}", timeout=5) as reply:
                found.append(json.loads(reply.read()))
        return found

    def generations(self) -> dict[str, int]:
        """Return the generation of each cell that two routers reach; empty while they disagree or one is missing."""
        seen = [
            {lane["cell_id"]: lane["generation"] for lane in lanes if lane["state"] == "serving"}
            for lanes in self.asked("router", "/cells")
        ]
        return seen[0] if len(seen) > 1 and all(each == seen[0] for each in seen) else {}

    def serving(self, cells: int = CELLS) -> dict[str, int]:
        """Wait until all routers reach so many cells and no other, and return their generations."""
        until(lambda: len(self.generations()) == cells, f"all routers reach {cells} cells", DEPLOY_S)
        return self.generations()

    def audit(self) -> list[dict[str, Any]]:
        """Return the controllers' newest audit entries, oldest first."""
        return next(iter(self.asked("controller", "/audit?limit=1000")), [])

    def cli(self, *arguments: str, check: bool = True) -> str:
        """Run a command of cellrouter as the operator, in the image; returns all that it says."""
        settings = {
            "CELLROUTER_ENVIRONMENT": ENVIRONMENT,
            "CELLROUTER_AWS_PREFIX": PREFIX,
            "CELLROUTER_AWS_REGION": REGION,
            "CELLROUTER_AWS_ENDPOINT_URL": f"http://aws:{AWS_PORT}",
            "CELLROUTER_SOURCE_QUEUE": f"{self._cluster}-events",
            "CELLROUTER_SOURCE_DEAD_LETTER_QUEUE": f"{self._cluster}-dead-letters",
            "CELLROUTER_SOURCE_QUARANTINE_QUEUE": f"{self._cluster}-quarantine",
            "CELLROUTER_REDIS_URL": f"redis://cellrouter-operator:{PASSWORD}@redis:6379/0",
            "CELLROUTER_SECRET": self.secrets.get_secret_value(SecretId=f"{self._cluster}-environment")["SecretString"],
        }
        options = [part for key, value in settings.items() for part in ("--env", f"{key}={value}")]
        where = ("run", "--rm", "--network", self.account.network, *options, self.image)
        return docker(*where, "cellrouter", *arguments, check=check, both=True)

    def all_tasks(self) -> list[dict[str, Any]]:
        """Describe the cluster's tasks, those that have ended lately too."""
        return [each for status in ("RUNNING", "STOPPED") for each in self.tasks(desiredStatus=status)]

    def cell_tasks(self, cell_id: str) -> list[dict[str, Any]]:
        """Describe the tasks of a cell that run or shall run."""
        return [t for t in self.tasks() if t.get("startedBy", "").startswith(f"{ENVIRONMENT}/{cell_id}/")]

    def stop_cell(self, cell_id: str) -> None:
        """Stop the tasks of a cell as ECS may at any time, or a person in its console."""
        for task in self.cell_tasks(cell_id):
            self.ecs.stop_task(cluster=self._cluster, task=task["taskArn"], reason="stopped by a person")

    def launched(self, cell_id: str) -> int:
        """Return the highest generation of a cell that a task was started for; 0 for none."""
        started = [t.get("startedBy", "") for t in self.all_tasks()]
        return max((int(by.rpartition("/")[2]) for by in started if f"/{cell_id}/" in by), default=0)

    def images(self) -> dict[str, str]:
        """Return the image that each cell's task runs."""
        cells = [t for t in self.tasks() if t.get("startedBy", "").startswith(f"{ENVIRONMENT}/cell-")]
        return {t["startedBy"]: t["containers"][0]["image"] for t in cells}

    def cell_stacks(self) -> list[str]:
        """List the stacks of cells."""
        found = self.cloudformation.describe_stacks()["Stacks"]
        names = [each["StackName"] for each in found if "DELETE" not in each["StackStatus"]]
        return sorted(name for name in names if name.startswith(f"{self._cluster}-cell-"))

    def kill_leader(self) -> None:
        """Kill the controller that leads, as an out-of-memory killer would."""
        for task in self.tasks(serviceName=f"{self._cluster}-controller"):
            if self._leads(address(task)):
                short = task["taskArn"].rpartition("/")[2][:8]
                docker("kill", *docker("ps", "--quiet", "--filter", f"name=ministack-ecs-{short}").split())

    def _leads(self, where: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{where}:8080/metrics", timeout=5) as reply:
                return b"\ncellrouter_controller_leads 1.0" in reply.read()
        except OSError:
            return False

    @contextmanager
    def load(self, a_second: int = 10) -> Iterator[None]:
        """Send so many events a second while the block runs."""
        ends = threading.Event()

        def sending() -> None:
            while not ends.wait(1):
                self.send(a_second)

        thread = threading.Thread(target=sending)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()

    def send_dead_letter(self) -> str:
        """Put something into the dead-letter queue, and return the queue's URL."""
        url = str(self.sqs.get_queue_url(QueueName=f"{self._cluster}-dead-letters")["QueueUrl"])
        self.sqs.send_message(QueueUrl=url, MessageBody="{}")
        return url

    def task_definitions(self) -> list[str]:
        """List what could still be run of the environment."""
        found = self.ecs.list_task_definitions(familyPrefix=self._cluster, status="ACTIVE")
        return list(found["taskDefinitionArns"])

    def told(self) -> str:
        """Return what is known after a failure: tasks, audit, and the ends of all logs."""
        lines = [f"{t.get('startedBy')} {t['lastStatus']} {t.get('stoppedReason', '')}" for t in self.all_tasks()]
        lines += [json.dumps(entry) for entry in self.audit()[-30:]]
        for name in docker(
            "ps", "--all", "--format", "{{.Names}}", "--filter", f"network={self.account.network}"
        ).split():
            lines += [f"--- {name}", docker("logs", "--tail", "15", name, check=False, both=True)]
        return "\n".join(lines)

    def send(self, count: int, tenants: int = 40) -> list[str]:
        """Send so many events of so many tenants to the source queue, and return their ids."""
        url = self.sqs.get_queue_url(QueueName=f"{self._cluster}-events")["QueueUrl"]
        ids = [f"event-{len(self.sent) + n:06}" for n in range(count)]
        for start in range(0, count, BATCH):
            entries = [
                {
                    "Id": str(n),
                    "MessageBody": json.dumps({"tenant": f"tenant-{(len(self.sent) + n) % tenants}"}),
                    "MessageAttributes": {"event_id": {"DataType": "String", "StringValue": ids[n]}},
                }
                for n in range(start, min(start + BATCH, count))
            ]
            assert len(self.sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == len(entries)
        self.sent += ids
        return ids

    def effects(self) -> Counter[str]:
        """Count how often each event's line is in the cells' buckets. No object is read twice."""
        for bucket in self.s3.list_buckets()["Buckets"]:
            if not re.fullmatch(rf"{self._cluster}-cell-\d+", bucket["Name"]):
                continue
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
                for each in page.get("Contents", ()):
                    where = (bucket["Name"], each["Key"])
                    if where not in self._read:
                        body = self.s3.get_object(Bucket=where[0], Key=where[1])["Body"].read()
                        self._read[where] = _event_ids(body)
        return Counter(event for events in self._read.values() for event in events)

    def accounted(self, limit_s: float = 180) -> Counter[str]:
        """Wait until every event sent has its effect, and return how often; fail the test when one has none."""
        until(lambda: not set(self.sent) - self.effects().keys(), f"all {len(self.sent)} events are done", limit_s)
        return self.effects()


def _template() -> str:
    """Return platform.yaml without what MiniStack's CloudFormation can't do."""
    template = cloudformation.read("platform")
    resources = template["Resources"]
    for name in [name for name, each in resources.items() if "Metrics" in each.get("Properties", {})]:
        del resources[name]  # alarms on a formula of metrics
    routers = resources["RouterService"]["Properties"]  # it can't count with a number that comes from a parameter
    routers |= {"DesiredCount": 2, "CapacityProviderStrategy": [{"CapacityProvider": "FARGATE", "Weight": 1}]}
    secret = resources["EnvironmentSecret"]["Properties"]  # it generates punctuation where none is wanted
    del secret["GenerateSecretString"]
    secret["SecretString"] = os.urandom(32).hex()
    return json.dumps(template)


def address(task: dict[str, Any]) -> str:
    """Return a task's private address; empty until it has one."""
    details = [d for a in task.get("attachments", ()) for d in a.get("details", ())]
    return next((d["value"] for d in details if d["name"] == "privateIPv4Address"), "")


def _event_ids(body: bytes) -> Sequence[str]:
    lines = (json.loads(line) for line in body.splitlines() if line.startswith(b"{"))
    return [line["event"] for line in lines if isinstance(line.get("event"), str)]
