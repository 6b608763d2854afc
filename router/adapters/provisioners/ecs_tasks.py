"""A worker's task: the request that runs it, and how ECS' answers are read. Makes no calls.

What a task is stands in `startedBy` (environment, cell, generation) and in its group (the installation): both stay as
they are for as long as ECS knows the task. Its tags say the same for people and bills; ECS deletes them at StopTask.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from router.adapters.provisioners.ecs_failures import Trouble, described, trouble
from router.core.addresses import host_of
from router.core.models import InstanceView
from router.core.release import MAX_IMAGE_CHARS

PORT: Final = 8080
ON_DEMAND: Final = "FARGATE"
CONTAINER: Final = "cell"  # the worker's container in the cell's task definition
_MAX_REASON_CHARS: Final = 1024  # of StopTask
_OUR_STOP: Final = "cellrouter ends"  # begins the reason of our own StopTask
_STOPPED: Final = "STOPPED"
_LABEL: Final = "cellrouter:"
_IPV4: Final = "privateIPv4Address"  # the detail of a task's network interface that has its address
_STARTED_BY: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,39})/([a-z0-9][a-z0-9-]{0,39})/([1-9][0-9]{0,14})")
_SIGNAL_BASE: Final = 128

Key = tuple[str, int]  # cell, generation


@dataclass(frozen=True, slots=True)
class EcsConfig:
    """Where workers' tasks run."""

    prefix: str  # of this installation's names; tasks with another one are left alone
    environment: str  # live, stress, …
    cluster: str
    subnets: Sequence[str]
    security_groups: Sequence[str]
    capacity_provider: str  # FARGATE or FARGATE_SPOT

    @property
    def group(self) -> str:
        """Return the group that all tasks of this installation are in, and no other task."""
        return f"cellrouter-{self.prefix}-{self.environment}"

    def started_by(self, key: Key) -> str:
        """Return what `startedBy` says of an instance's task."""
        return f"{self.environment}/{key[0]}/{key[1]}"

    def run_task(self, key: Key, task_definition: str) -> dict[str, Any]:
        """Return the request that runs one instance; the same one again starts no second task."""
        return {
            "cluster": self.cluster,
            "taskDefinition": task_definition,
            "count": 1,
            **self._capacity(),
            "networkConfiguration": {
                "awsvpcConfiguration": {
                    "subnets": list(self.subnets),
                    "securityGroups": list(self.security_groups),
                    "assignPublicIp": "DISABLED",
                }
            },
            # DescribeTasks shows what is here, so no secret is.
            "overrides": {
                "containerOverrides": [
                    {"name": CONTAINER, "environment": [{"name": "CELL_GENERATION", "value": str(key[1])}]}
                ]
            },
            "group": self.group,
            "startedBy": self.started_by(key),
            "clientToken": self.client_token(key),
            "propagateTags": "TASK_DEFINITION",
            "tags": [
                {"key": f"{_LABEL}{name}", "value": value}
                for name, value in (
                    ("prefix", self.prefix),
                    ("environment", self.environment),
                    ("cell", key[0]),
                    ("generation", str(key[1])),
                )
            ],
        }

    def _capacity(self) -> dict[str, Any]:
        """Say where Fargate takes the machine from; on demand needs no capacity provider in the cluster."""
        if self.capacity_provider == ON_DEMAND:
            return {"launchType": ON_DEMAND}
        return {"capacityProviderStrategy": [{"capacityProvider": self.capacity_provider, "weight": 1}]}

    def client_token(self, key: Key) -> str:
        """Return the token by which ECS knows that two requests are one, whichever controller sends them."""
        return hashlib.sha256(f"{self.group}/{self.started_by(key)}".encode()).hexdigest()

    def stop_task(self, task: EcsTask) -> dict[str, Any]:
        """Return the request that ends one instance, with a reason that says who asked."""
        reason = f"{_OUR_STOP} generation {task.key[1]} of {task.key[0]}"[:_MAX_REASON_CHARS]
        return {"cluster": self.cluster, "task": task.arn, "reason": reason}


@dataclass(frozen=True, slots=True)
class EcsTask:
    """One of our tasks, as ECS described it."""

    arn: str
    key: Key
    view: InstanceView


class _Interface(msgspec.Struct, rename="camel"):
    """A container's end in the task's network."""

    ipv6_address: str = ""


class _TaskContainer(msgspec.Struct, rename="camel"):
    """What is read of a task's container."""

    name: str = ""
    image: str = ""
    exit_code: int | None = None
    reason: str = ""
    network_interfaces: list[_Interface] = []


class _Detail(msgspec.Struct, rename="camel"):
    """One thing that is said of an attachment."""

    name: str = ""
    value: str = ""


class _Attachment(msgspec.Struct, rename="camel"):
    """Something that ECS has attached to a task: its network interface."""

    details: list[_Detail] = []


class _DescribedTask(msgspec.Struct, rename="camel"):
    """What is read of a task."""

    task_arn: str
    last_status: str
    desired_status: str
    started_by: str = ""
    group: str = ""
    stop_code: str = ""
    stopped_reason: str = ""
    availability_zone: str = ""
    containers: list[_TaskContainer] = []
    attachments: list[_Attachment] = []


def read_task(found: Mapping[str, Any], config: EcsConfig) -> EcsTask | None:
    """Read a described task; None for one that is not ours, or that can't be read."""
    try:
        task = msgspec.convert(_without_nulls(found), _DescribedTask)
    except (ValueError, RecursionError):
        return None
    who = _STARTED_BY.fullmatch(task.started_by)
    if who is None or who[1] != config.environment or task.group != config.group:
        return None
    key, worker = (who[2], int(who[3])), _worker(task)
    if task.last_status == _STOPPED or worker.exit_code is not None:
        view = InstanceView(*key, running=False, detail=_how_it_ended(task, worker))
    else:
        view = InstanceView(
            *key,
            running=True,
            detail=f"{_name(task)}, {task.last_status.lower()}",
            address=_address(task),
            ending=described(task.stop_code, task.stopped_reason) if task.desired_status == _STOPPED else None,
            image=worker.image[:MAX_IMAGE_CHARS],
        )
    return EcsTask(task.task_arn, key, view)


def _without_nulls(found: Any) -> Any:
    """Leave out what ECS says is null: that is as good as not said."""
    if isinstance(found, Mapping):
        return {name: _without_nulls(value) for name, value in found.items() if value is not None}
    return [_without_nulls(each) for each in found] if isinstance(found, list) else found


def _name(task: _DescribedTask) -> str:
    zone = f" in {task.availability_zone}" if task.availability_zone else ""
    return f"task {task.task_arn.rpartition('/')[2]}{zone}"


def _address(task: _DescribedTask) -> str:
    """The host:port of a task; empty while it has no address, or none that an instance may have."""
    said = [detail.value for attached in task.attachments for detail in attached.details if detail.name == _IPV4]
    ends = [f"{ip}:{PORT}" for ip in said]
    ends += [f"[{end.ipv6_address}]:{PORT}" for each in task.containers for end in each.network_interfaces]
    return next((address for address in ends if host_of(address) is not None), "")


def _worker(task: _DescribedTask) -> _TaskContainer:
    return next((each for each in task.containers if each.name == CONTAINER), _TaskContainer())


def _how_it_ended(task: _DescribedTask, worker: _TaskContainer) -> str:
    """Say how a task ended: the worker's exit, what that means, and ECS' own words."""
    words = "; ".join(dict.fromkeys(filter(None, [task.stopped_reason, worker.reason])))
    code = worker.exit_code
    if code is None:
        exit_code = "no exit code"
    else:
        exit_code = f"killed by signal {code - _SIGNAL_BASE}" if code > _SIGNAL_BASE else f"exit code {code}"
    ours = trouble(task.stop_code, words) is Trouble.ASKED and task.stopped_reason.startswith(_OUR_STOP)
    why = "the controller asked for it" if ours else described(task.stop_code, words)
    return f"{exit_code}; {why}; {_name(task)}"
