"""Makes the platform's CloudFormation stack of a new environment, like that of another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from router.adapters.aws_errors import AWS_ERRORS
from router.core.environments import platform_parameters, why_no_platform
from router.core.errors import ProvisionError
from router.ports import Clock

POLL_S: Final = 2.0
MAKE_S: Final = 3600.0  # a cache cluster takes ten minutes
_ENDING: Final = "-platform"


class PlatformCopies:
    """The platforms of all environments of one prefix. Every call may raise ProvisionError."""

    def __init__(self, prefix: str, cloudformation: Any, s3: Any, clock: Clock) -> None:
        self._prefix = prefix
        self._cloudformation = cloudformation
        self._s3 = s3
        self._clock = clock

    def stack_of(self, environment: str) -> str:
        """Return the name of an environment's platform."""
        return f"{self._prefix}-{environment}{_ENDING}"

    async def states(self) -> dict[str, str]:
        """Return the state of each environment's platform, by the environment's name."""
        found: dict[str, str] = {}
        token: dict[str, str] = {}
        while True:
            page = await self._call("describe_stacks", **token)
            for stack in page["Stacks"]:
                given = _parameters(stack)
                environment = given.get("Environment", "")
                ours = stack["StackName"] == self.stack_of(environment) and given.get("Prefix") == self._prefix
                if ours and stack["StackStatus"] != "DELETE_COMPLETE":
                    found[environment] = stack["StackStatus"]
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}

    async def plan(self, environment: str, like: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters that an environment's platform gets."""
        states = await self.states()
        if environment in states:
            raise ProvisionError(f"stack {self.stack_of(environment)} is there already, and is {states[environment]}")
        if like not in states:
            raise ProvisionError(
                f"there is no stack {self.stack_of(like)} that could be copied: --like names an environment of the "
                f"prefix {self._prefix} here; docs/how-to/deploy-on-ecs.md makes the first"
            )
        page = await self._call("describe_stacks", StackName=self.stack_of(like))
        of_like = _parameters(page["Stacks"][0])
        if (why := why_no_platform(of_like, environment, given)) is not None:
            raise ProvisionError(why)
        return platform_parameters(of_like, environment, given)

    async def make(
        self, environment: str, parameters: Mapping[str, str], template: str, bucket: str, tell: Callable[[str], None]
    ) -> None:
        """Make the stack and follow it to its end. The template goes into the bucket: it is too long for a call."""
        name, key = self.stack_of(environment), f"cellrouter-{environment}-platform.yaml"
        url = await self._uploaded(bucket, key, template)
        listed = [{"ParameterKey": each, "ParameterValue": value} for each, value in parameters.items()]
        await self._call(
            "create_stack",
            StackName=name,
            TemplateURL=url,
            Parameters=listed,
            Capabilities=["CAPABILITY_NAMED_IAM"],
            EnableTerminationProtection=False,
        )
        told, until = "", self._clock.monotonic() + MAKE_S
        while self._clock.monotonic() < until:
            stack = (await self._call("describe_stacks", StackName=name))["Stacks"][0]
            if (status := stack["StackStatus"]) != told:
                tell(f"{name}: {status}")
                told = status
            if status == "CREATE_COMPLETE":
                return
            if not status.endswith("IN_PROGRESS"):
                why = stack.get("StackStatusReason", "its events tell why")
                raise ProvisionError(f"stack {name} is {status}: {why}")
            await self._clock.sleep(POLL_S)
        raise ProvisionError(f"stack {name} is still {told} after {MAKE_S / 60:g} min; it goes on by itself")

    async def _uploaded(self, bucket: str, key: str, template: str) -> str:
        """Put the template into a bucket, and return where CloudFormation finds it."""
        try:
            await self._s3.put_object(Bucket=bucket, Key=key, Body=template.encode())
            url: str = await self._s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
        except AWS_ERRORS as error:
            raise ProvisionError(f"the bucket {bucket} does not take the template: {error}") from error
        return url.partition("?")[0]  # CloudFormation reads it with the rights of who calls

    async def _call(self, name: str, **arguments: Any) -> Any:
        call: Awaitable[Any] = getattr(self._cloudformation, name)(**arguments)
        try:
            return await call
        except AWS_ERRORS as error:
            raise ProvisionError(f"CloudFormation, {name}: {error}") from error


def _parameters(stack: Any) -> dict[str, str]:
    return {each["ParameterKey"]: each.get("ParameterValue", "") for each in stack.get("Parameters", ())}
