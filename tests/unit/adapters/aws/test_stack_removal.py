"""What `destroy` ends on ECS beyond a first page of answers: no AWS that runs here has so many tasks at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.adapters.aws.resources import ResourceNames
from router.adapters.aws.stack_removal import StackRemoval
from tests.support.aws_models import check_answer, check_request
from tests.support.fake_clock import FakeClock, play

NAMES = ResourceNames("shop", "live", "events", "dead")
PAGE = 100
TASKS = [f"arn:aws:ecs:us-east-1:123456789012:task/shop-live/{number:032}" for number in range(250)]
FAMILIES = ["shop-live-cell-0000", "shop-live-cell-0000-of-theirs", "shop-live-router"]


class Ecs:
    """An ECS that answers in pages, and what it was told to end."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def list_tasks(self, **request: Any) -> Any:
        """List the tasks that run."""
        return _page("ListTasks", request, "taskArns", TASKS)

    async def list_task_definition_families(self, **request: Any) -> Any:
        """List the families, those of others too."""
        found = [family for family in FAMILIES if family.startswith(request["familyPrefix"])]
        return _page("ListTaskDefinitionFamilies", request, "families", found)

    async def list_task_definitions(self, **request: Any) -> Any:
        """List a family's revisions that releases have left."""
        found = [_definition(request["familyPrefix"], revision) for revision in range(1, PAGE + 2)]
        return _page("ListTaskDefinitions", request, "taskDefinitionArns", found)

    async def stop_task(self, **request: Any) -> Any:
        """End a task."""
        check_request("ecs", "StopTask", request)
        self.ended.append(request["task"])
        return {}

    async def deregister_task_definition(self, **request: Any) -> Any:
        """Deregister a revision."""
        check_request("ecs", "DeregisterTaskDefinition", request)
        self.ended.append(request["taskDefinition"])
        return {}


class Stacks:
    """A CloudFormation that has the platform's stack, until it is deleted."""

    def __init__(self) -> None:
        self.status = "CREATE_COMPLETE"

    async def describe_stacks(self, **_: Any) -> Any:
        """Describe the stack."""
        outputs = [{"OutputKey": "ClusterName", "OutputValue": "shop-live"}]
        return {"Stacks": [{"StackName": "shop-live-platform", "StackStatus": self.status, "Outputs": outputs}]}

    async def delete_stack(self, **_: Any) -> Any:
        """Delete it at once."""
        self.status = "DELETE_COMPLETE"


def _definition(family: str, revision: int) -> str:
    return f"arn:aws:ecs:us-east-1:123456789012:task-definition/{family}:{revision}"


def _page(operation: str, request: Mapping[str, Any], member: str, found: list[str]) -> Any:
    check_request("ecs", operation, request)
    start = int(request.get("nextToken", 0))
    more = {"nextToken": str(start + PAGE)} if len(found) > start + PAGE else {}
    return check_answer("ecs", operation, {member: found[start : start + PAGE], **more})


def test_every_task_ends_and_every_revision_is_deregistered() -> None:
    """Of our own families alone: another's may begin as a cell's does."""
    ecs, clock = Ecs(), FakeClock()
    removal = StackRemoval("shop-live-platform", NAMES, Stacks(), ecs, None, clock)

    async def story() -> None:
        assert await removal.remove(lambda _: None) == []

    play(clock, story())
    revisions = range(1, PAGE + 2)
    ours = [
        _definition(family, revision)
        for family in ("shop-live-cell-0000", "shop-live-router")
        for revision in revisions
    ]
    assert ecs.ended == TASKS + ours
