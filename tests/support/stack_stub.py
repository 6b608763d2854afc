"""CloudFormation in memory: strict about requests, and as slow, as final and as forgetful as the real one."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from router.ports import Clock
from tests.support.aws_models import check_answer, check_request, refusal

TEMPLATE = """# A stand-in for deploy/cloudformation/cell.yaml: the same parameters, and nothing in it.
Parameters:
  Prefix: {Type: String}
  Environment: {Type: String}
  CellId: {Type: String}
  Image: {Type: String}
  TaskCpu: {Type: String}
  TaskMemory: {Type: String}
  CellSecret: {Type: String, NoEcho: true}
Resources: {}
"""


@dataclass
class Stub:
    """One stack."""

    name: str
    stack_id: str
    status: str
    request: dict[str, Any]
    before: dict[str, Any] = field(default_factory=dict)  # the request that a failed update goes back to
    revision: int = 1
    done_at: float = 0.0
    then: str = ""  # the state after this one
    events: list[dict[str, Any]] = field(default_factory=list)  # newest first

    def parameters(self) -> dict[str, str]:
        return {each["ParameterKey"]: each["ParameterValue"] for each in self.request["Parameters"]}


class StackStub:
    """A CloudFormation client, and what it has made."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.takes_s = 60.0  # each thing that is done to a stack
        self.stacks: dict[str, Stub] = {}
        self.calls: Counter[str] = Counter()
        self.failing: dict[str, str] = {}  # stack → why the next thing done to it fails
        self.requests: list[dict[str, Any]] = []

    async def describe_stacks(self, **request: Any) -> Any:
        stack = self._stack("DescribeStacks", request)
        if stack is None:
            raise refusal("ValidationError", f"Stack with id {request['StackName']} does not exist")
        hidden = {name: "****" if "Secret" in name else value for name, value in stack.parameters().items()}
        done = "COMPLETE" in stack.status and stack.status.startswith(("CREATE", "UPDATE"))
        arn = f"arn:aws:ecs:us-east-1:123456789012:task-definition/{stack.name}:{stack.revision}"
        described = {
            "StackName": stack.name,
            "StackId": stack.stack_id,
            "StackStatus": stack.status,
            "CreationTime": "2026-01-01",
            "Tags": stack.request.get("Tags", []),
            "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in hidden.items()],
            "Outputs": [{"OutputKey": "TaskDefinitionArn", "OutputValue": arn}]
            if done or stack.status.startswith("UPDATE")
            else [],
        }
        return check_answer("cloudformation", "DescribeStacks", {"Stacks": [described]})

    async def create_stack(self, **request: Any) -> Any:
        stack = self._stack("CreateStack", request)
        if stack is not None:
            raise refusal("AlreadyExistsException", f"Stack [{stack.name}] already exists")
        _check_parameters(request)
        name = request["StackName"]
        made = Stub(
            name, f"arn:aws:cloudformation:us-east-1:123456789012:stack/{name}/{len(self.requests)}", "", request
        )
        self.stacks[name] = made
        self._begin(made, "CREATE", "ROLLBACK")
        return {"StackId": made.stack_id}

    async def update_stack(self, **request: Any) -> Any:
        stack = self._stack("UpdateStack", request)
        if stack is None:
            raise refusal("ValidationError", "Stack does not exist")
        if stack.status not in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}:
            raise refusal("ValidationError", f"Stack is in {stack.status} state and can not be updated.")
        _check_parameters(request)
        wanted = request | {"StackName": stack.name}
        if all(wanted[name] == stack.request[name] for name in ("TemplateBody", "Parameters", "Tags")):
            raise refusal("ValidationError", "No updates are to be performed.")
        stack.before, stack.request = stack.request, wanted
        self._begin(stack, "UPDATE", "UPDATE_ROLLBACK")
        return {"StackId": stack.stack_id}

    async def delete_stack(self, **request: Any) -> Any:
        stack = self._stack("DeleteStack", request)
        if stack is not None:
            self._begin(stack, "DELETE", "DELETE")
        return {}

    async def describe_stack_events(self, **request: Any) -> Any:
        stack = self._stack("DescribeStackEvents", request)
        if stack is None:
            raise refusal("ValidationError", "Stack does not exist")
        return check_answer("cloudformation", "DescribeStackEvents", {"StackEvents": stack.events})

    def _stack(self, operation: str, request: dict[str, Any]) -> Stub | None:
        check_request("cloudformation", operation, request)
        self.calls[operation] += 1
        self.requests.append(request)
        for stack in list(self.stacks.values()):
            self._pass_time(stack)
        wanted = request["StackName"]
        return next((each for each in self.stacks.values() if wanted in (each.name, each.stack_id)), None)

    def _begin(self, stack: Stub, action: str, undo: str) -> None:
        stack.status, stack.done_at = f"{action}_IN_PROGRESS", self.clock.monotonic() + self.takes_s
        stack.then = f"{action}_COMPLETE"
        self._event(stack, stack.name, "AWS::CloudFormation::Stack", stack.status, "User Initiated")
        if why := self.failing.pop(stack.name, ""):
            stack.then = "DELETE_FAILED" if action == "DELETE" else f"{undo}_COMPLETE"
            self._event(stack, "Stream", "AWS::KinesisFirehose::DeliveryStream", f"{action}_FAILED", why)
            self._event(stack, "Table", "AWS::DynamoDB::Table", f"{action}_FAILED", "Resource creation cancelled")
            after = "DELETE_FAILED" if action == "DELETE" else f"{undo}_IN_PROGRESS"
            self._event(stack, stack.name, "AWS::CloudFormation::Stack", after, "it has failed")

    def _pass_time(self, stack: Stub) -> None:
        if not stack.then or self.clock.monotonic() < stack.done_at:
            return
        stack.status, stack.then = stack.then, ""
        if stack.status == "DELETE_COMPLETE":
            del self.stacks[stack.name]
        elif stack.status == "UPDATE_COMPLETE":
            stack.revision += 1
        elif stack.status == "UPDATE_ROLLBACK_COMPLETE":
            stack.request = stack.before

    def _event(self, stack: Stub, resource: str, kind: str, status: str, why: str) -> None:
        event = {
            "StackId": stack.stack_id,
            "EventId": f"{len(stack.events)}",
            "StackName": stack.name,
            "Timestamp": "2026-01-01",
            "LogicalResourceId": resource,
            "ResourceType": kind,
            "ResourceStatus": status,
            "ResourceStatusReason": why,
        }
        stack.events.insert(0, event)


def _check_parameters(request: dict[str, Any]) -> None:
    given = {each["ParameterKey"] for each in request["Parameters"]}
    declared = set(re.findall(r"^  (\w+):", request["TemplateBody"].partition("Resources:")[0], re.MULTILINE))
    if given != declared:
        raise refusal("ValidationError", f"Parameters: {sorted(given ^ declared)} do not exist, or must have values")
