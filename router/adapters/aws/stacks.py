"""CellResources on CloudFormation: a cell is a stack, made from one template for all cells.

A stack takes minutes, and nobody waits for it here: each call of `ensure` takes one step and says how far the stack is.
Only stacks with this installation's tags are ever changed. What somebody has deleted from a stack behind its back, such
as a hold queue, CloudFormation does not make again; `ensure` does, under the same name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from router.adapters.aws.cell_contents import CellContents
from router.adapters.aws.resources import AwsCellResources, ResourceNames
from router.adapters.aws.stack_states import (
    COMPLETE,
    GHOSTS,
    LABEL,
    UPDATABLE,
    USABLE,
    CellStack,
    as_list,
    read_stack,
    tags_of,
    why_failed,
)
from router.adapters.aws_errors import AWS_ERRORS, error_code, error_words
from router.core.errors import NotYetError, ProvisionError
from router.core.models import Reason
from router.ports import Clock

CALL_TIMEOUT_S: Final = 5.0
POLL_S: Final = 3.0
UPDATE_LIMIT_S: Final = 300.0  # a new task definition takes half a minute
EMPTY_S: Final = 300.0
"""How long a hold queue must have been empty before it is deleted: SQS counts approximately, late by a minute or so."""
IMAGE: Final = "Image"
TASK_DEFINITION: Final = "TaskDefinitionArn"
_SECRET: Final = f"{LABEL}secret"  # the tag with the public name of the secret that the stack has
_EXISTS: Final = "AlreadyExistsException"
_NO_UPDATES: Final = "No updates are to be performed"
_NO_STACK: Final = "does not exist"


@dataclass(frozen=True, slots=True)
class StackConfig:
    """What all stacks of cells have in common."""

    names: ResourceNames
    template: str  # the body of cell.yaml
    image: str  # of cells that are made; later on a stack's own parameter counts
    cpu: int  # units of a task; 1024 are one vCPU
    memory_mb: int
    parameters: Mapping[str, str]  # further ones, which the platform gives
    role: str  # by which CloudFormation makes them; empty: by ours
    secret_of: Callable[[str], str]  # a cell's own secret
    secret_id: Callable[[], str]  # the public name of the secret that it is derived from

    def tags(self, cell_id: str) -> dict[str, str]:
        """Return the tags by which the stack of a cell is known."""
        return tags_of(self.names.prefix, self.names.environment, cell_id)

    def request(self, cell_id: str, image: str, tags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return what a request to make or update the cell's stack says of it; `tags` are those that it has already.

        CloudFormation takes all tags or none, so those that somebody else has given it are given again.
        """
        theirs = {key: value for key, value in (tags or {}).items() if not key.startswith("aws:")}
        parameters = {
            **self.parameters,
            "Prefix": self.names.prefix,
            "Environment": self.names.environment,
            "CellId": cell_id,
            IMAGE: image,
            "TaskCpu": str(self.cpu),
            "TaskMemory": str(self.memory_mb),
            "CellSecret": self.secret_of(cell_id),
        }
        return {
            "TemplateBody": self.template,
            "Parameters": as_list(parameters, "ParameterKey", "ParameterValue"),
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
            **({"RoleARN": self.role} if self.role else {}),
            "Tags": as_list({**theirs, **self.tags(cell_id), _SECRET: self.secret_id()}, "Key", "Value"),
        }


@dataclass(slots=True)
class CellStacks:
    """Makes, updates and removes the stacks of cells; `parts` makes what is in one, `contents` knows what is left."""

    config: StackConfig
    cloudformation: Any
    parts: AwsCellResources
    contents: CellContents
    clock: Clock
    _made: set[str] = field(default_factory=set)  # cells whose stack this process has begun to make
    _empty_since: dict[str, float] = field(default_factory=dict)  # removed cells, in monotonic seconds

    async def ensure(self, cell_id: str) -> Sequence[str]:
        """Bring the cell's stack one step nearer to being complete; what is missing from a complete one is made.

        Raises NotYetError while the stack is being made.
        """
        stack = await self._look(cell_id)
        if stack is None:
            await self._create(cell_id)
        elif stack.status in GHOSTS:
            why = await self._why_failed(stack)
            await self._delete(stack)
            raise ProvisionError(f"the stack {stack.name} could not be made: {why}. It is deleted, and made anew.")
        elif stack.status not in USABLE:
            raise await self._unusable(stack)
        missing = await self.parts.ensure(cell_id)
        made = ["stack"] if cell_id in self._made else []
        self._made.discard(cell_id)
        return [*made, *missing]

    async def with_hold_queues(self) -> Collection[str]:
        """List the cells that have a hold queue, whoever has made it."""
        return await self.parts.with_hold_queues()

    async def remove(self, cell_id: str) -> Reason | None:
        """Delete the stack of a cell in which nothing is left, a step at each call; None when it is gone."""
        stack = await self._look(cell_id)
        if stack is None:
            self._empty_since.pop(cell_id, None)
            return None
        if stack.status not in GHOSTS:
            if stack.status not in COMPLETE:
                return str(await self._unusable(stack))
            if why := await self._why_not_empty(cell_id):
                return why
        await self._delete(stack)
        return f"its stack {stack.name} is being deleted"

    async def task_definition(self, cell_id: str, image: str | None) -> str:
        """Return the cell's task definition, once the stack has this image and the newest secret."""
        begun, asked = self.clock.monotonic(), False
        while True:
            stack = await self._look(cell_id)
            if stack is None:
                raise ProvisionError(f"there is no stack {self.config.names.cell(cell_id)} yet")
            outdated = self._is_outdated(stack, image)
            if not outdated and stack.status in (COMPLETE if image or asked else USABLE):
                return self._task_definition_of(stack)
            if stack.status in UPDATABLE:
                if asked:
                    why = await self._why_failed(stack)
                    raise ProvisionError(f"the stack {stack.name} could not be updated: {why}")
                if not await self._update(stack, cell_id, image or stack.parameters.get(IMAGE, self.config.image)):
                    return self._task_definition_of(stack)
                asked = True
            elif not stack.under_way:
                raise await self._unusable(stack)
            if self.clock.monotonic() - begun > UPDATE_LIMIT_S:
                raise ProvisionError(f"the stack {stack.name} is {stack.status} after {UPDATE_LIMIT_S:g} s")
            await self.clock.sleep(POLL_S)

    def _is_outdated(self, stack: CellStack, image: str | None) -> bool:
        other_image = image is not None and stack.parameters.get(IMAGE) != image
        return other_image or stack.tags.get(_SECRET) != self.config.secret_id()

    def _task_definition_of(self, stack: CellStack) -> str:
        if TASK_DEFINITION not in stack.outputs:
            raise ProvisionError(f"the stack {stack.name} has no output {TASK_DEFINITION}: is its template cell.yaml?")
        return stack.outputs[TASK_DEFINITION]

    async def _look(self, cell_id: str) -> CellStack | None:
        """Return the cell's stack; None when there is none. Raises ProvisionError when it is somebody else's."""
        name = self.config.names.cell(cell_id)
        try:
            async with self._call(f"the stack {name} can't be looked up"):
                answer = await self.cloudformation.describe_stacks(StackName=name)
        except ProvisionError as error:
            if _NO_STACK in str(error):
                return None
            raise
        stack = read_stack(answer["Stacks"][0])
        if why := stack.why_foreign(self.config.tags(cell_id)):
            raise ProvisionError(why)
        return stack

    async def _create(self, cell_id: str) -> None:
        name = self.config.names.cell(cell_id)
        self._made.add(cell_id)
        async with self._call(f"the stack {name} can't be made", unless=_EXISTS):
            # What a stack leaves when it could not be made would be in the way of the next one.
            await self.cloudformation.create_stack(
                StackName=name, RetainExceptOnCreate=True, **self.config.request(cell_id, self.config.image)
            )
        raise NotYetError(f"the stack {name} is being made")

    async def _update(self, stack: CellStack, cell_id: str, image: str) -> bool:
        """Update a stack; returns False when there is nothing to update."""
        request = self.config.request(cell_id, image, stack.tags)
        try:
            async with self._call(f"the stack {stack.name} can't be updated"):
                await self.cloudformation.update_stack(StackName=stack.stack_id, **request)
        except ProvisionError as error:
            if _NO_UPDATES in str(error):
                return False
            raise
        return True

    async def _delete(self, stack: CellStack) -> None:
        async with self._call(f"the stack {stack.name} can't be deleted"):
            await self.cloudformation.delete_stack(StackName=stack.stack_id)

    async def _why_not_empty(self, cell_id: str) -> Reason | None:
        """Say why the cell's stack must stay; None when nothing is left in it, and has not been for a while."""
        if why := await self.contents.why_not_empty(cell_id):
            self._empty_since.pop(cell_id, None)
            return why
        since = self._empty_since.setdefault(cell_id, self.clock.monotonic())
        if self.clock.monotonic() - since < EMPTY_S:
            return f"nothing is left in it; it is removed when that has been so for {EMPTY_S:g} s"
        return None

    async def _unusable(self, stack: CellStack) -> ProvisionError:
        """Say why a stack can't be used: it is under way, or a person has to look."""
        if stack.under_way:
            return NotYetError(f"the stack {stack.name} is {stack.status}")
        why = await self._why_failed(stack)
        return ProvisionError(f"the stack {stack.name} is {stack.status}, and a person has to look: {why}")

    async def _why_failed(self, stack: CellStack) -> Reason:
        async with self._call(f"the events of the stack {stack.name} can't be read"):
            answer = await self.cloudformation.describe_stack_events(StackName=stack.stack_id)
        return why_failed(answer.get("StackEvents", ()))

    @asynccontextmanager
    async def _call(self, what: str, unless: str = "") -> AsyncIterator[None]:
        """Limit the time of a call, and raise ProvisionError for every failure but the one with the code `unless`."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                yield
        except AWS_ERRORS as error:
            code = error_code(error)
            if not unless or code != unless:
                said = ": ".join(filter(None, [code, error_words(error)]))
                raise ProvisionError(f"{what}: CloudFormation says: {said}") from error
