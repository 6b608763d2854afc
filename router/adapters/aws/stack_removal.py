"""Deletes the CloudFormation stacks of an environment on ECS, in the order in which nothing is left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from router.adapters.aws.resources import ResourceNames
from router.adapters.aws.stack_states import read_stack, tags_of
from router.adapters.aws_errors import AWS_ERRORS, error_code
from router.core.errors import ProvisionError
from router.core.models import Reason, cell_ids
from router.core.policy import MAX_CELLS
from router.core.queue_names import aside_queue
from router.ports import Clock

POLL_S: Final = 2.0
SERVICES_S: Final = 300.0  # for routers and controllers to finish what they have, and end
STACK_S: Final = 1800.0  # a cache cluster takes ten minutes
_SERVICES: Final = ("ControllerServiceName", "RouterServiceName")  # outputs of the platform's stack; in this order
_SERVICE_FAMILIES: Final = ("router", "controller")  # their task definitions; a cell's has the name of its stack
_QUEUES: Final = ("SourceQueueUrl", "QuarantineQueueUrl", "DeadLetterQueueUrl")  # kept when their stack is deleted


class StackRemoval:
    """Ends what runs in an environment on ECS, and deletes its stacks. Every call may raise ProvisionError."""

    def __init__(
        self, platform: str, names: ResourceNames, cloudformation: Any, ecs: Any, sqs: Any, clock: Clock
    ) -> None:
        self._platform = platform
        self._names = names
        self._cells = {names.cell(cell_id): cell_id for cell_id in cell_ids(MAX_CELLS)}
        self._cloudformation = cloudformation
        self._ecs = ecs
        self._sqs = sqs
        self._clock = clock

    async def stacks(self) -> Sequence[str]:
        """List the stacks that there are, in the order in which they are deleted: the cells', then the platform's.

        A stack that has a cell's name and not its tags is somebody else's, as one of an environment `live-cell-0` is.
        """
        found: set[str] = set()
        token: dict[str, str] = {}
        while True:
            page = await _asked(self._cloudformation.describe_stacks(**token))
            found |= {stack["StackName"] for stack in page["Stacks"] if self._is_ours(stack)}
            if not page.get("NextToken"):
                break
            token = {"NextToken": page["NextToken"]}
        return [*sorted(found - {self._platform}), *sorted(found & {self._platform})]

    def _is_ours(self, described: Any) -> bool:
        stack = read_stack(described)
        if stack.status == "DELETE_COMPLETE":
            return False
        cell_id = self._cells.get(stack.name)
        if cell_id is None:
            return stack.name == self._platform
        return stack.why_foreign(tags_of(self._names.prefix, self._names.environment, cell_id)) is None

    async def queues(self) -> Sequence[str]:
        """List the URLs of the queues that `remove` deletes, whatever the settings call them."""
        return _queues_in(await self._outputs())

    async def stop_services(self, tell: Callable[[str], None]) -> None:
        """Have routers and controllers end in order, so that nothing is made anew; the cells go on."""
        outputs = await self._outputs()
        for name in _SERVICES:
            if name in outputs:
                service = {"cluster": outputs["ClusterName"], "service": outputs[name]}
                tell(f"service {outputs[name]}: no task any more")
                await _asked(self._ecs.update_service(**service, desiredCount=0))
                await self._until(lambda s=service: self._is_empty(s), SERVICES_S, f"service {outputs[name]} ends")  # type: ignore[misc] # bound at once

    async def remove(self, tell: Callable[[str], None]) -> list[Reason]:
        """End the cells' tasks and delete all stacks; returns what stays, and why."""
        outputs, names = await self._outputs(), await self.stacks()
        kept: list[Reason] = []
        if cluster := outputs.get("ClusterName"):
            for task in await _listed(self._ecs.list_tasks, "taskArns", cluster=cluster):
                await _asked(self._ecs.stop_task(cluster=cluster, task=task, reason="cellrouter destroy"))
        for name in names:
            tell(f"stack {name}: is deleted")
            kept += await self._deleted(name)
        kept += await self._deregistered()
        for url in _queues_in(outputs):  # retained by the template, so that no mistake deletes events; they are empty
            await _asked(self._sqs.delete_queue(QueueUrl=url), missing_ok=True)
        if bucket := outputs.get("SourceBucketName"):
            kept.append(f"bucket {bucket}: its stack keeps it; empty and delete it when nobody needs its objects")
        if key := outputs.get("KeyArn"):
            kept.append(f"key {key}: what it has encrypted can't be read without it")
        return kept

    async def _deregistered(self) -> list[Reason]:
        """Deregister the task definitions that releases have left, since a stack deletes only the newest one.

        Returns what stays.
        """
        ours = {*self._cells, *map(self._names.cell, _SERVICE_FAMILIES)}
        begin = self._names.cell("")
        try:
            families = await _listed(
                self._ecs.list_task_definition_families, "families", familyPrefix=begin, status="ACTIVE"
            )
            for family in sorted(ours.intersection(families)):
                of_it = {"familyPrefix": family, "status": "ACTIVE"}
                for arn in await _listed(self._ecs.list_task_definitions, "taskDefinitionArns", **of_it):
                    if arn.rpartition(":")[0].endswith(f"/{family}"):
                        await _asked(self._ecs.deregister_task_definition(taskDefinition=arn))
        except ProvisionError as error:
            return [f"task definitions that begin with {begin}, which cost nothing: {error}"]
        return []

    async def _deleted(self, name: str) -> list[Reason]:
        """Delete a stack; a bucket with objects in it, which S3 does not delete, is left. Returns what stays."""
        await _asked(self._cloudformation.delete_stack(StackName=name))
        await self._until(lambda: self._is_gone(name), STACK_S, f"stack {name} is deleted")
        if not await self._has_failed(name):
            return []
        found = await _asked(self._cloudformation.describe_stack_resources(StackName=name))
        failed = [each for each in found["StackResources"] if each["ResourceStatus"] == "DELETE_FAILED"]
        if not failed or any(each["ResourceType"] != "AWS::S3::Bucket" for each in failed):
            names = ", ".join(each["LogicalResourceId"] for each in failed)
            raise ProvisionError(f"stack {name} can't be deleted for {names or 'a reason that its events tell'}")
        keep = [each["LogicalResourceId"] for each in failed]
        await _asked(self._cloudformation.delete_stack(StackName=name, RetainResources=keep))
        await self._until(lambda: self._is_gone(name), STACK_S, f"stack {name} is deleted without its bucket")
        return [f"bucket {each['PhysicalResourceId']} has objects: it stays" for each in failed]

    async def _outputs(self) -> dict[str, str]:
        if self._platform not in await self.stacks():
            return {}
        found = await _asked(self._cloudformation.describe_stacks(StackName=self._platform))
        return {each["OutputKey"]: each["OutputValue"] for each in found["Stacks"][0].get("Outputs", ())}

    async def _is_empty(self, service: dict[str, str]) -> bool:
        found = await _asked(self._ecs.describe_services(cluster=service["cluster"], services=[service["service"]]))
        return all(not each["runningCount"] for each in found["services"])

    async def _is_gone(self, stack: str) -> bool:
        """Whether nothing more happens to a stack that is deleted: it is gone, or can't be deleted."""
        return await self._status(stack) in ("DELETE_COMPLETE", "DELETE_FAILED")

    async def _has_failed(self, stack: str) -> bool:
        return await self._status(stack) == "DELETE_FAILED"

    async def _status(self, stack: str) -> str:
        try:
            found = await self._cloudformation.describe_stacks(StackName=stack)
        except AWS_ERRORS as error:
            if error_code(error) == "ValidationError":
                return "DELETE_COMPLETE"  # CloudFormation knows a deleted stack by its id alone
            raise ProvisionError(f"stack {stack}: {error}") from error
        return str(found["Stacks"][0]["StackStatus"])

    async def _until(self, holds: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
        until = self._clock.monotonic() + seconds
        while not await holds():
            if self._clock.monotonic() >= until:
                raise ProvisionError(f"not within {seconds / 60:g} min: {what}. Run it again to go on")
            await self._clock.sleep(POLL_S)


async def _asked(call: Awaitable[Any], *, missing_ok: bool = False) -> Any:
    try:
        return await call
    except AWS_ERRORS as error:
        if missing_ok and error_code(error):
            return None
        raise ProvisionError(f"the environment's stacks can't be deleted: {error}") from error


def _queues_in(outputs: Mapping[str, str]) -> list[str]:
    """List the URLs of the queues of a platform; that for what stands still in a FIFO source lies beside the source."""
    urls = [outputs[name] for name in _QUEUES if name in outputs]
    beside, _, source = outputs.get(_QUEUES[0], "").rpartition("/")
    return [*urls, f"{beside}/{aside}"] if (aside := aside_queue(source)) else urls


async def _listed(operation: Callable[..., Awaitable[Any]], member: str, **request: str) -> list[str]:
    """List what ECS has in all pages of an answer, of which one holds a hundred at most."""
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await _asked(operation(**request, **token))
        found += page.get(member, ())
        if not page.get("nextToken"):
            return found
        token = {"nextToken": page["nextToken"]}
