"""Describes the Admin API in Markdown, from its own description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from router.adapters.clock import SystemClock
from router.api.admin.openapi import description
from router.api.admin.problems import kinds
from router.api.admin.surface import PREFIX
from router.bootstrap.admin import operations_of


def page() -> str:
    """List every operation with its values and its problems, every change with an example, every kind of problem."""
    said = _description()
    operations = [each for path, methods in said["paths"].items() for each in _operations(path, methods)]
    changes = said["paths"][f"{PREFIX}/changes"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    schemas = said["components"]["schemas"]
    return "\n".join(
        (
            "## Operations\n",
            *operations,
            "## Changes\n\nThe body of `POST /v1/changes`, and of `POST /v1/plans`, which says what it would move.\n",
            "| change | what it does | example |\n|---|---|---|",
            *(_change(each["value"], schemas) for each in changes.values()),
            "\n## Problems\n\n| status | `type` |\n|---|---|",
            *(
                f"| {status} | {', '.join(f'`{kind}`' for kind in named)} |"
                for status, named in sorted(kinds().items())
            ),
            "",
        )
    )


def _description() -> dict[str, Any]:
    nothing: Any = None
    found: dict[str, Any] = json.loads(
        json.dumps(description(operations_of(nothing, nothing, None, SystemClock()), ""))
    )
    return found


def _operations(path: str, methods: dict[str, Any]) -> Iterator[str]:
    for method, said in methods.items():
        yield f"### {method.upper()} {path}\n\n{said['summary']} {said['description']}\n"
        if rows := [_value(each) for each in said["parameters"]]:
            yield "| value | what | example |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        if (body := said.get("requestBody")) and not path.endswith(("/changes", "/plans")):
            for name, example in body["content"]["application/json"]["examples"].items():
                yield f"For example, {name}: `{json.dumps(example['value'], ensure_ascii=False)}`\n"


def _value(said: dict[str, Any]) -> str:
    schema = said["schema"]
    more = "required" if said["required"] else f"default {schema['default']}" if schema.get("default") else ""
    return f"| `{said['name']}` | {said['description']}{f' ({more})' * bool(more)} | `{said['example']}` |"


def _change(example: dict[str, Any], schemas: dict[str, Any]) -> str:
    kind = example["change"]["edit"]
    about = next(
        each["description"]
        for each in schemas.values()
        if each.get("properties", {}).get("edit", {}).get("enum") == [kind]
    )
    return f"| `{kind}` | {about} | `{json.dumps(example, ensure_ascii=False)}` |"
