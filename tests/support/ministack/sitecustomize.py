"""Python in MiniStack's container imports this first: its CloudFormation drops the secrets of task definitions."""

from typing import Any

from ministack.services import secretsmanager
from ministack.services.cloudformation import provisioners

_normalized = provisioners._normalize_container_defs


def _with_secrets(definitions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = _normalized(definitions)
    for each in made:
        each["secrets"] = [{"name": s["Name"], "valueFrom": _arn(s["ValueFrom"])} for s in each.get("secrets", ())]
    return made


def _arn(secret: str) -> str:
    """Return a secret's ARN: that is what Ref stands for in AWS, and here it is the name."""
    known = secretsmanager._secrets.get(secret)
    return known["ARN"] if known else secret


provisioners._normalize_container_defs = _with_secrets
