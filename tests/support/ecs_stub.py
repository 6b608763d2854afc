"""ECS in memory: strict about requests, with all that MiniStack only stubs.

Each request is checked against botocore's model, and against what the model only says in words: a client token starts
one task, a list by `startedBy` takes no other filter, StopTask deletes the tags, `stopTimeout` ends in SIGKILL.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router.ports import Clock
from tests.support.aws_models import check_answer, check_request, refusal

ACCOUNT = "123456789012"
CONTAINER = "cell"
NOWHERE = ":of-nowhere"
SPOT = ("SpotInterruption", "Your Spot Task was interrupted.")
RETIREMENT = (
    "TerminationNotice",
    "ECS is performing maintenance on the underlying infrastructure hosting the task.",
)


@dataclass
class StubTask:
    """One task and its only container."""

    arn: str
    request: dict[str, Any]
    number: int
    seen_from: float
    image: str = ""
    status: str = "PROVISIONING"
    desired: str = "RUNNING"
    exit_code: int | None = None
    stop_code: str = ""
    reason: str = ""
    container_reason: str = ""
    hung: bool = False  # does not react to SIGTERM
    tags: list[dict[str, str]] = field(default_factory=list)

    @property
    def generation(self) -> int:
        return int(self.request["startedBy"].rpartition("/")[2])

    @property
    def address(self) -> str:
        return f"10.0.{self.number // 250}.{self.number % 250 + 1}"


class EcsStub:
    """An ECS client, and the cluster behind it."""

    def __init__(self, clock: Clock, cluster: str = "cells") -> None:
        self.clock = clock
        self.cluster = cluster
        self.tasks: dict[str, StubTask] = {}
        self.calls: Counter[str] = Counter()
        self.run_at: list[float] = []  # when RunTask was called
        self.images: dict[str, str] = {}  # of task definitions, by ARN; a name of nowhere can't be pulled
        self.provision_s = self.drain_s = 0.0
        self.stop_timeout_s = 120.0
        self.answers_after_s = 0.0
        self.unseen_s = 0.0  # how long a new task is in no answer: ECS is eventually consistent
        self.refused: dict[str, list[BaseException]] = {}  # by call: what it raises the next times
        self.failures: list[dict[str, str]] = []  # what RunTask answers the next times, instead of a task
        self.lost_answers = 0  # how many RunTasks start a task, and the caller never hears of it
        self.on_start: Callable[[StubTask], None] = lambda _task: None
        self.on_end: Callable[[StubTask], None] = lambda _task: None
        self._tokens: dict[str, tuple[dict[str, Any], StubTask]] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)

    async def run_task(self, **request: Any) -> Any:
        self._called("RunTask", request)
        self.run_at.append(self.clock.monotonic())
        _check_run(request)
        if self.failures:
            failure = {"arn": f"arn:aws:ecs:us-east-1:{ACCOUNT}:container-instance/x"} | self.failures.pop(0)
            return check_answer("ecs", "RunTask", {"tasks": [], "failures": [failure]})
        before, task = self._tokens.get(request["clientToken"], (request, None))
        if task is not None and before != request:
            raise refusal("ConflictException", "the token is in use", resourceIds=[task.arn])
        if task is None:
            task = self._started(request)
        if self.lost_answers:
            self.lost_answers -= 1
            raise TimeoutError
        return check_answer("ecs", "RunTask", {"tasks": [_described(task)], "failures": []})

    async def stop_task(self, **request: Any) -> Any:
        await self.clock.sleep(self.answers_after_s)
        self._called("StopTask", request)
        task = self.tasks.get(request["task"])
        if task is None:
            raise refusal("InvalidParameterException", "The referenced task was not found.")
        task.tags = []
        if task.desired != "STOPPED":
            self.end(task, "UserInitiated", request.get("reason", "Task stopped by user"))
        return check_answer("ecs", "StopTask", {"task": _described(task)})

    async def list_tasks(self, **request: Any) -> Any:
        self._called("ListTasks", request)
        await self.clock.sleep(self.answers_after_s)
        filters = request.keys() - {"cluster", "maxResults", "nextToken"}
        if "startedBy" in filters and filters != {"startedBy"}:
            raise refusal("InvalidParameterException", "startedBy must be the only filter")
        wanted, who = request.get("desiredStatus", "RUNNING"), request.get("startedBy")
        size, first = request.get("maxResults", 100), int(request.get("nextToken", 0))
        if not 1 <= size <= 100 or wanted == "PENDING":
            raise refusal("InvalidParameterException", "maxResults is 1 to 100, and ECS wants no task to be PENDING")
        seen = [task for task in self._seen() if task.desired == wanted]
        arns = [task.arn for task in seen if who is None or task.request.get("startedBy") == who]
        more = {"nextToken": str(first + size)} if first + size < len(arns) else {}
        return check_answer("ecs", "ListTasks", {"taskArns": arns[first : first + size], **more})

    async def describe_tasks(self, **request: Any) -> Any:
        self._called("DescribeTasks", request)
        if not 1 <= len(request["tasks"]) <= 100:
            raise refusal("InvalidParameterException", "Tasks can have 1 to 100 elements.")
        seen = {task.arn: task for task in self._seen()}
        found = [_described(seen[arn]) for arn in request["tasks"] if arn in seen]
        missing = [{"arn": arn, "reason": "MISSING"} for arn in request["tasks"] if arn not in seen]
        return check_answer("ecs", "DescribeTasks", {"tasks": found, "failures": missing})

    def running(self) -> list[StubTask]:
        """List the tasks that have not stopped."""
        return [task for task in self.tasks.values() if task.status != "STOPPED"]

    def task(self, cell_id: str, generation: int) -> StubTask:
        """Return the only task of an instance."""
        who = f"/{cell_id}/{generation}"
        [found] = [task for task in self.tasks.values() if str(task.request.get("startedBy", "")).endswith(who)]
        return found

    def foreign(self, **request: Any) -> StubTask:
        """Have somebody else run a task in the cluster."""
        return self._started({"startedBy": "ecs-svc/0123456789", "group": "service:router", **request})

    def end(self, task: StubTask, code: str, reason: str) -> None:
        """Have ECS send SIGTERM, and SIGKILL after `stop_timeout_s`."""
        task.desired, task.stop_code, task.reason = "STOPPED", code, reason
        self._spawn(self._ends(task))

    def exit(self, task: StubTask, code: int, reason: str = "", container_reason: str = "") -> None:
        """Have a task's container end by itself, or never start."""
        task.desired = "STOPPED"
        task.stop_code = task.stop_code or ("TaskFailedToStart" if code < 0 else "EssentialContainerExited")
        task.reason = task.reason or reason or "Essential container in task exited"
        task.container_reason, task.exit_code = container_reason, None if code < 0 else code
        task.status = "STOPPED"
        self.on_end(task)

    def forget(self) -> None:
        """Forget the tasks that have stopped, as ECS does after an hour."""
        self.tasks = {task.arn: task for task in self.running()}

    def close(self) -> None:
        """End what goes on in the cluster."""
        for life in self._lives:
            life.cancel()

    def _called(self, operation: str, request: dict[str, Any]) -> None:
        check_request("ecs", operation, request)
        self.calls[operation] += 1
        if self.refused.get(operation):
            raise self.refused[operation].pop(0)
        if request.get("cluster") != self.cluster:
            raise refusal("ClusterNotFoundException", "Cluster not found.")

    def _seen(self) -> list[StubTask]:
        return [task for task in self.tasks.values() if task.seen_from <= self.clock.monotonic()]

    def _started(self, request: dict[str, Any]) -> StubTask:
        number = next(self._numbers)
        arn = f"arn:aws:ecs:us-east-1:{ACCOUNT}:task/{self.cluster}/{number:032x}"
        task = StubTask(arn, request, number, self.clock.monotonic() + self.unseen_s, tags=request.get("tags", []))
        task.image = self.images.get(request.get("taskDefinition", ""), "")
        self.tasks[arn] = task
        if "clientToken" in request:
            self._tokens[request["clientToken"]] = (request, task)
        self._spawn(self._begins(task))
        return task

    def _spawn(self, life: Any) -> None:
        task = asyncio.create_task(life)
        self._lives.add(task)
        task.add_done_callback(self._lives.discard)

    async def _begins(self, task: StubTask) -> None:
        await self.clock.sleep(self.provision_s)
        if task.desired == "RUNNING" and task.image.endswith(NOWHERE):
            self.exit(task, -1, f"CannotPullContainerError: pull image manifest: {task.image}: not found")
        elif task.desired == "RUNNING":
            task.status = "RUNNING"
            self.on_start(task)

    async def _ends(self, task: StubTask) -> None:
        await self.clock.sleep(self.stop_timeout_s if task.hung else self.drain_s)
        if task.status != "STOPPED":
            self.exit(task, 137 if task.hung else 0)


def _check_run(request: dict[str, Any]) -> None:
    """Check what the model says in words alone."""
    assert re.fullmatch(r"[A-Za-z0-9/_-]{1,128}", request["startedBy"]), request["startedBy"]
    assert re.fullmatch(r"[!-~]{1,64}", request["clientToken"]), request["clientToken"]
    assert ("launchType" in request) != ("capacityProviderStrategy" in request), "one of the two"
    network = request["networkConfiguration"]["awsvpcConfiguration"]
    assert 1 <= len(network["subnets"]) <= 16
    assert 1 <= len(network["securityGroups"]) <= 5
    [override] = request["overrides"]["containerOverrides"]
    assert override["name"] == CONTAINER
    assert not [pair for pair in override["environment"] if "SECRET" in pair["name"]], "DescribeTasks shows it"


def _described(task: StubTask) -> dict[str, Any]:
    zone = "us-east-1a"
    detail = {"name": "privateIPv4Address", "value": task.address}
    attachment = {"id": "eni", "type": "ElasticNetworkInterface", "status": "ATTACHED", "details": [detail]}
    container: dict[str, Any] = {"name": CONTAINER, "lastStatus": task.status, "reason": task.container_reason}
    if task.image:
        container["image"] = task.image
    if task.exit_code is not None:
        container["exitCode"] = task.exit_code
    return {
        "taskArn": task.arn,
        "lastStatus": task.status,
        "desiredStatus": task.desired,
        "startedBy": task.request.get("startedBy", ""),
        "group": task.request.get("group", ""),
        "availabilityZone": zone,
        "containers": [container],
        "attachments": [attachment] if task.status != "PROVISIONING" else [],
        **({"stopCode": task.stop_code} if task.stop_code else {}),
        **({"stoppedReason": task.reason} if task.reason else {}),
    }
