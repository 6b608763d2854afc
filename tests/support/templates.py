"""CloudFormation templates as CloudFormation sees them once parameters have values: all functions done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from docs import cloudformation

PLACE: Final = {
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "000000000000",
    "AWS::Partition": "aws",
    "AWS::StackName": "stack",
}
PLATFORM: Final = {
    "Prefix": "acme",
    "Environment": "live",
    "Image": "cellrouter:dev",
    "CellImage": "cellrouter:dev",
    "VpcId": "vpc-1",
    "VpcCidr": "10.0.0.0/16",
    "Subnets": ["subnet-0a1b2c3d", "subnet-4e5f6a7b"],
}
"""Values for the platform's parameters that have no default."""
_NOTHING: Final = object()
_FUNCTIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "Not": lambda values: not values[0],
    "And": all,
    "Equals": lambda values: str(values[0]) == str(values[1]),
    "Join": lambda values: values[0].join(map(str, values[1])),
    "Split": lambda values: str(values[1]).split(values[0]),
}


class Rendered:
    """A template with these parameters. A resource's own attributes stay what they are asked for as: `Name.Arn`."""

    def __init__(self, name: str, **parameters: Any) -> None:
        self.template = cloudformation.read(name)
        defaults = {key: found["Default"] for key, found in self.template["Parameters"].items() if "Default" in found}
        lists = {key for key, found in self.template["Parameters"].items() if "List" in found["Type"]}
        given = PLACE | defaults | parameters
        self._values = {
            key: value.split(",") if key in lists and isinstance(value, str) else value for key, value in given.items()
        }

    @property
    def resources(self) -> Mapping[str, Any]:
        """Return the resources that are made, by their logical ids."""
        found = self.template["Resources"]
        return {
            name: self._done(resource)
            for name, resource in found.items()
            if "Condition" not in resource or self._holds(resource["Condition"])
        }

    def properties(self, name: str) -> dict[str, Any]:
        """Return the properties of one resource."""
        found: dict[str, Any] = self.resources[name]["Properties"]
        return found

    def _holds(self, condition: str) -> bool:
        return bool(self._done(self.template["Conditions"][condition]))

    def _done(self, node: Any) -> Any:
        if isinstance(node, list):
            return [done for each in node if (done := self._done(each)) is not _NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (function, argument), *_ = node.items()
            if function == "Ref" or function.startswith("Fn::"):
                return self._function(function.removeprefix("Fn::"), argument)
        return {key: done for key, value in node.items() if (done := self._done(value)) is not _NOTHING}

    def _function(self, function: str, argument: Any) -> Any:
        if function == "Ref":
            return _NOTHING if argument == "AWS::NoValue" else self._values.get(argument, argument)
        if function == "GetAtt":
            return ".".join(argument)
        if function == "If":
            condition, yes, no = argument
            return self._done(yes if self._holds(condition) else no)
        if function == "Sub":
            text, more = argument if isinstance(argument, list) else (argument, {})
            return self._sub(text, {key: self._done(value) for key, value in more.items()})
        return _FUNCTIONS[function](self._done(argument))

    def _sub(self, text: str, more: Mapping[str, Any]) -> str:
        begun, *rest = text.split("${")
        parts = [part.partition("}") for part in rest]
        return begun + "".join(f"{(self._values | dict(more)).get(name, name)}{after}" for name, _, after in parts)


def queue_attributes(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return a queue's attributes as SQS takes them, without those that only CloudFormation's queues have."""
    named = {"QueueName", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "Tags"}
    return {
        key: value if isinstance(value, dict) else str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in properties.items()
        if key not in named
    }
