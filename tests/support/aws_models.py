"""Checks a request to AWS against botocore's own model of the service: members, types, lengths, patterns, enums."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.session
import re2
from botocore.exceptions import ClientError


class ModelError(AssertionError):
    """A request that AWS would not take; the text names each member that is wrong."""


@functools.cache
def model(service: str) -> Any:
    """Return botocore's model of a service."""
    return botocore.session.get_session().get_service_model(service)


def check_request(service: str, operation: str, request: Mapping[str, Any]) -> None:
    """Raise ModelError unless the request is one that the service's model allows."""
    faults = list(_faults(operation, model(service).operation_model(operation).input_shape, dict(request)))
    if faults:
        raise ModelError("; ".join(faults))


def check_answer(service: str, operation: str, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the answer of a stub, once it is known to be one that the service can give."""
    faults = list(_faults(operation, model(service).operation_model(operation).output_shape, dict(answer)))
    if faults:
        raise ModelError("; ".join(faults))
    return answer


def refusal(code: str, words: str, **more: Any) -> ClientError:
    """Return the error that botocore makes of an AWS refusal."""
    return ClientError({"Error": {"Code": code, "Message": words}, **more}, "Operation")


def _faults(where: str, shape: Any, value: Any) -> Iterator[str]:
    kinds: dict[str, type] = {
        "structure": dict,
        "list": list,
        "map": dict,
        "string": str,
        "boolean": bool,
        "integer": int,
        "long": int,
    }
    kind: Any = kinds.get(shape.type_name, object)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        yield f"{where} is {type(value).__name__}, not {shape.type_name}"
        return
    yield from _out_of_bounds(where, shape, value)
    if shape.type_name == "structure":
        for name in set(shape.required_members) - value.keys():
            yield f"{where}.{name} is required"
        for name, member in value.items():
            if name not in shape.members:
                yield f"{where}.{name} is no member"
            else:
                yield from _faults(f"{where}.{name}", shape.members[name], member)
    elif shape.type_name == "list":
        for index, member in enumerate(value):
            yield from _faults(f"{where}[{index}]", shape.member, member)


def _out_of_bounds(where: str, shape: Any, value: Any) -> Iterator[str]:
    metadata = shape.metadata
    size = value if isinstance(value, int) else len(value) if hasattr(value, "__len__") else 0
    if not metadata.get("min", size) <= size <= metadata.get("max", size):
        yield f"{where} has {size}, not {metadata.get('min')} to {metadata.get('max')}"
    if isinstance(value, str):
        if metadata.get("enum") and value not in metadata["enum"]:
            yield f"{where} is {value!r}, not one of {metadata['enum']}"
        if metadata.get("pattern") and not re2.fullmatch(metadata["pattern"], value):
            yield f"{where} is {value!r}, which does not match {metadata['pattern']}"
