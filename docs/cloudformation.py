"""Reads the CloudFormation templates, for the pages that are made of them and for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import yaml

from router.adapters.aws.templates import template

NAMES: Final = ("platform", "cell")
Node = dict[str, Any]


class _CloudFormationLoader(yaml.SafeLoader):
    """Reads the short tags of CloudFormation, such as !Ref, as the long form that they stand for."""


def _long_form(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Node:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else None
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_CloudFormationLoader.add_multi_constructor("!", _long_form)


@cache
def read(name: str) -> Node:
    """Read a template by its name, with all functions in their long form. Change nothing in it."""
    found = yaml.load(template(name), _CloudFormationLoader)  # type: ignore[arg-type]  # noqa: S506 - a safe loader
    assert isinstance(found, dict), "a template is a mapping"
    return found


def branches(value: Any) -> Iterator[Any]:
    """List what a value can become, whatever the conditions say; AWS::NoValue is nothing."""
    if isinstance(value, dict) and "Fn::If" in value:
        for branch in value["Fn::If"][1:]:
            yield from branches(branch)
    elif value != {"Ref": "AWS::NoValue"}:
        yield value


def items(value: Any) -> list[Any]:
    """List the elements of a list, or the one value that stands in its place, with all their branches."""
    return [branch for each in (value if isinstance(value, list) else [value]) for branch in branches(each)]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of an IAM policy, with the reason that its resource gives for it."""

    template: str
    owner: str  # the logical id of the role, policy or key
    sid: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: Any
    reason: str


def resources(name: str) -> Mapping[str, Node]:
    """Return the resources of a template by their logical ids."""
    found: Mapping[str, Node] = read(name)["Resources"]
    return found


def statements(name: str) -> Iterator[Statement]:
    """List the statements that say what roles, or who uses a key, may do."""
    for owner, resource in resources(name).items():
        properties, reasons = resource["Properties"], resource.get("Metadata", {}).get("Reasons", {})
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", ())]
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            documents.append(properties["PolicyDocument"])
        if resource["Type"] == "AWS::KMS::Key":
            documents.append(properties["KeyPolicy"])
        for said in (each for document in documents for each in items(document["Statement"])):
            yield Statement(
                name,
                owner,
                said["Sid"],
                said["Effect"],
                tuple(items(said["Action"])),
                tuple(in_words(each) for each in items(said["Resource"])),
                said.get("Condition"),
                reasons.get(said["Sid"], ""),
            )


def in_words(value: Any) -> str:
    """Write a resource of a policy as it is read best: parts of an ARN that are always ours are left out."""
    match value:
        case str():
            return value
        case {"Ref": str(name)}:
            return name
        case {"Fn::GetAtt": [str(name), *_]}:
            return name
        case {"Fn::Sub": str(text)}:
            for known, short in _SHORT:
                text = text.replace(known, short)
            return text
        case {"Fn::Split": [_, {"Ref": str(name)}]}:
            return name
        case {"Fn::Split": [_, {"Fn::Sub": [str(_), {"Names": {"Fn::Join": [_, {"Ref": str(name)}]}}]}]}:
            return f"objects in {name}"
    raise ValueError(f"no words for {value}")


_SHORT: Final = (
    ("arn:${AWS::Partition}:", ""),
    ("${AWS::Region}:${AWS::AccountId}:", ""),
    (":${AWS::AccountId}:", ""),
    ("::", ":"),
    ("${Prefix}", "PREFIX"),
    ("${Environment}", "ENVIRONMENT"),
    ("${CellId}", "CELL"),
    ("${AWS:Region}", "REGION"),
    ("${AWS::Region}", "REGION"),
    ("${ArchiveBucket.Arn}", "ArchiveBucket"),
    ("${Bucket.Arn}", "Bucket"),
    ("${RepositoryName}", "RepositoryName"),
    ("${RemedyRole}", "RemedyRole"),
    ("${RedisCache}", "RedisCache"),
)
