"""Gives the platform's CloudFormation stack another image of routers and controllers.

It is planned as a change set first: a person sees what CloudFormation would do before it does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from router.adapters.aws_errors import AWS_ERRORS
from router.core.errors import ProvisionError
from router.core.models import Reason
from router.ports import Clock

IMAGE: Final = "Image"  # the parameter of the platform's stack
POLL_S: Final = 2.0
PLAN_S: Final = 120.0  # a change set takes seconds
FOLLOW_S: Final = 3600.0  # as long as CloudFormation gives the services to be steady
_UNCHANGED: Final = ("didn't contain changes", "No updates are to be performed")
_ROLLED: Final = frozenset({"AWS::ECS::TaskDefinition"})  # each revision is a new one, and its service rolls


@dataclass(frozen=True, slots=True)
class StackChange:
    """What CloudFormation would do with one resource of a stack."""

    action: str  # Add, Modify, Remove
    name: str
    kind: str
    replaces: bool


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What another image would change, and the change set that does it."""

    change_set: str
    before: str
    changes: tuple[StackChange, ...]

    def why_unsafe(self) -> Reason | None:
        """Say which change is more than that services roll; None when all is as it should be."""
        more = [c.name for c in self.changes if c.action == "Remove" or (c.replaces and c.kind not in _ROLLED)]
        if not more:
            return None
        return f"it would also remove or replace {', '.join(sorted(more))}, which may interrupt events"


class PlatformStack:
    """The stack of what all cells share. Every call raises ProvisionError when it comes to nothing."""

    def __init__(self, name: str, cloudformation: Any, clock: Clock) -> None:
        self.name = name
        self._cloudformation = cloudformation
        self._clock = clock

    async def plan(self, image: str) -> ImagePlan:
        """Have CloudFormation say what another image would change; all other parameters stay as they are."""
        stack = await self._stack()
        parameters = {each["ParameterKey"]: each.get("ParameterValue", "") for each in stack.get("Parameters", ())}
        if IMAGE not in parameters:
            raise ProvisionError(f"stack {self.name} has no parameter {IMAGE}: is it cellrouter's platform.yaml?")
        wanted = [
            {"ParameterKey": key, **({"ParameterValue": image} if key == IMAGE else {"UsePreviousValue": True})}
            for key in parameters
        ]
        change_set = f"image-{self._clock.time_ms()}"
        await self._call(
            self._cloudformation.create_change_set(
                StackName=self.name,
                ChangeSetName=change_set,
                UsePreviousTemplate=True,
                Parameters=wanted,
                Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
            )
        )
        return ImagePlan(change_set, parameters[IMAGE], await self._planned(change_set))

    async def discard(self, plan: ImagePlan) -> None:
        """Delete a plan's change set, which is not carried out."""
        await self._call(self._cloudformation.delete_change_set(StackName=self.name, ChangeSetName=plan.change_set))

    async def execute(self, plan: ImagePlan) -> None:
        """Carry a plan out. CloudFormation goes on by itself; `follow` tells how far it is."""
        await self._call(self._cloudformation.execute_change_set(StackName=self.name, ChangeSetName=plan.change_set))

    async def follow(self, tell: Callable[[str], None]) -> None:
        """Tell each state of the stack until it has come to rest. Raises ProvisionError when it was rolled back."""
        told, until = "", self._clock.monotonic() + FOLLOW_S
        while self._clock.monotonic() < until:
            status = (await self._stack())["StackStatus"]
            if status != told:
                tell(f"{self.name}: {status}")
                told = status
            if status == "UPDATE_COMPLETE":
                return
            if status.endswith(("_COMPLETE", "_FAILED")) and "CLEANUP" not in status:
                raise ProvisionError(f"stack {self.name} is {status}: {await self._why_failed()}")
            await self._clock.sleep(POLL_S)
        raise ProvisionError(f"stack {self.name} is still {told} after {FOLLOW_S / 60:g} min; it goes on by itself")

    async def _stack(self) -> Any:
        found = await self._call(self._cloudformation.describe_stacks(StackName=self.name))
        return found["Stacks"][0]

    async def _planned(self, change_set: str) -> tuple[StackChange, ...]:
        until = self._clock.monotonic() + PLAN_S
        while self._clock.monotonic() < until:
            found = await self._call(
                self._cloudformation.describe_change_set(StackName=self.name, ChangeSetName=change_set)
            )
            if found["Status"] == "CREATE_COMPLETE":
                return tuple(map(_change, found.get("Changes", ())))
            if found["Status"] == "FAILED":
                why = found.get("StatusReason", "it does not say why")
                if any(text in why for text in _UNCHANGED):
                    return ()
                raise ProvisionError(f"CloudFormation can't plan the change of stack {self.name}: {why}")
            await self._clock.sleep(POLL_S)
        raise ProvisionError(f"CloudFormation has no plan of the change of stack {self.name} after {PLAN_S:g} s")

    async def _why_failed(self) -> Reason:
        """Return the first failure among the newest events; later ones follow from it."""
        found = await self._call(self._cloudformation.describe_stack_events(StackName=self.name))
        failed = [e for e in found["StackEvents"] if e.get("ResourceStatus", "").endswith("FAILED")]
        if not failed:
            return "no event says why"
        return f"{failed[-1]['LogicalResourceId']}: {failed[-1].get('ResourceStatusReason', 'it does not say why')}"

    async def _call(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except AWS_ERRORS as error:
            raise ProvisionError(f"stack {self.name}: {error}") from error


def _change(found: Any) -> StackChange:
    change = found["ResourceChange"]
    return StackChange(
        change["Action"], change["LogicalResourceId"], change["ResourceType"], change.get("Replacement") == "True"
    )
