"""Describes the Admin API as OpenAPI 3.1, from the operations themselves and the records that they take and answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from router.api.admin.bodies import Me
from router.api.admin.problems import PROBLEM_JSON, Problem, kinds, problem
from router.api.admin.surface import PREFIX, Operation, Parameter
from router.core.callers import Role
from router.core.edits.decided import EditOutcome
from router.core.edits.undoing import Undoing

ABOUT: Final = """Everything that the command line can, over HTTP. Send a token as `Authorization: Bearer TOKEN`; \
without tokens the API answers only on its own machine. Errors are `application/problem+json`, whose `detail` says \
what to do. While Redis is out of reach, what is read is as it was known last, and `age_s` says how old it is."""
_ANSWERS: Final[Mapping[Any, Any]] = {
    Me: {"who": "alice", "role": "operate"},
    EditOutcome: {"text": "cell-0003: draining", "changed": True, "version": 8},
    Undoing: {
        "taken_back": ["drain cell-0003: draining. its disk is old (version 8, by alice, 2026-01-31 10:00:00Z)"],
        "kept": [],
        "done": [],
        "further": "",
    },
}
"""What some operations answer, for example."""


def description(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """Return the description of all operations."""
    kinds_of = list(dict.fromkeys([Problem, *(each.answer for each in operations), *_bodies(operations)]))
    schemas, components = msgspec.json.schema_components(kinds_of, ref_template="#/components/schemas/{name}")
    refs = dict(zip(kinds_of, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _described(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "cellrouter Admin API", "version": version, "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(components),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def statuses(operation: Operation) -> list[int]:
    """List the statuses with which an operation may fail."""
    always = [400, 401, 403, 500, 503]
    takes = [413, 415, 422] if operation.body is not None else []
    return sorted({*always, *takes, 422, *operation.faults})


def _bodies(operations: Sequence[Operation]) -> Iterator[Any]:
    return (each.body for each in operations if each.body is not None)


def _described(operation: Operation, refs: Mapping[Any, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"schema": refs[operation.answer]}
    if operation.answer in _ANSWERS:
        answer["example"] = _ANSWERS[operation.answer]
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.about,
        "description": f"For the role `{operation.role}`" + " and `operate`." * (operation.role is Role.VIEW),
        "parameters": [_parameter(each, operation.path) for each in operation.parameters],
        "responses": {
            "200": {"description": "It is done.", "content": {"application/json": answer}},
            **{str(status): _fault(status, refs[Problem]) for status in statuses(operation)},
        },
    }
    if operation.body is not None:
        examples = {name: {"value": value} for name, value in (operation.body_examples or {}).items()}
        content = {"application/json": {"schema": refs[operation.body], "examples": examples}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _parameter(parameter: Parameter, path: str) -> dict[str, Any]:
    in_path = f"{{{parameter.name}}}" in path
    return {
        "name": parameter.name,
        "in": "path" if in_path else "query",
        "required": parameter.required or in_path,
        "description": parameter.about,
        "schema": parameter.schema(),
        "example": parameter.example,
    }


def _fault(status: int, schema: Any) -> dict[str, Any]:
    kind = kinds()[status][0]
    example = problem(kind.rpartition(":")[2], "what is wrong with this request, and what to do").problem
    content = {"schema": schema, "example": msgspec.to_builtins(example)}
    return {"description": HTTPStatus(status).phrase, "content": {PROBLEM_JSON: content}}
