"""The settings of workers that run as tasks of an ECS cluster, and which of them can't be used together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from router.settings_values import ClusterName, Parameters, RoleArn, SecurityGroups, Subnets

MIN_LAUNCH_S: Final = 90.0
"""Fargate takes half a minute to start a task, and now and then more than one."""
MAX_TEMPLATE_BYTES: Final = 51_200  # that CloudFormation takes in a request
_TEMPLATE: Final = Path(__file__).parent / "cloudformation" / "cell.yaml"
_GIB: Final = 1024
_SIZES: Final = {  # CPU units → MiB that Fargate offers with them
    256: (512, _GIB, 2 * _GIB),
    512: range(_GIB, 4 * _GIB + 1, _GIB),
    1024: range(2 * _GIB, 8 * _GIB + 1, _GIB),
    2048: range(4 * _GIB, 16 * _GIB + 1, _GIB),
    4096: range(8 * _GIB, 30 * _GIB + 1, _GIB),
}

Key = tuple[str, ...]


class EcsSection(BaseModel):
    """The workers' tasks and the cells' stacks, with `cells.provisioner = "ecs"`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster: ClusterName = Field(default="", description="the name or ARN of the ECS cluster that workers run in")
    subnets: Subnets = Field(default="", description="where workers run, separated by commas; best in several zones")
    security_groups: SecurityGroups = Field(
        default="", description="of workers, separated by commas; they let routers and controllers in on port 8080"
    )
    capacity_provider: Literal["FARGATE", "FARGATE_SPOT"] = Field(
        default="FARGATE",
        description="FARGATE; or FARGATE_SPOT, which costs less, and takes tasks back with 2 min notice",
    )
    image: str = Field(
        default="", description="the workers' image of cells that are made; later the cell's stack says which it has"
    )
    cpu: int = Field(default=512, description="CPU units of a worker's task; 1024 are one virtual CPU")
    memory_mb: int = Field(default=1024, description="MiB of a worker's task, as Fargate offers them with its CPU")
    template: Annotated[Path | None, BeforeValidator(lambda path: path or None)] = Field(
        default=None, description="the CloudFormation template of a cell's stack; not set: the one of this version"
    )
    stack_role: RoleArn = Field(
        default="", description="the role by which CloudFormation makes cells' stacks; empty: the controller's own"
    )
    parameters: Parameters = Field(
        default="", description="more parameters of the template, which the platform gives: Name=value;Name=value"
    )

    @property
    def template_file(self) -> Path:
        """Return the template that is set, else the one that comes with this package."""
        return self.template or _TEMPLATE


def at_odds(ecs: EcsSection, launch_timeout_s: float) -> Iterator[tuple[Key, str]]:
    """Yield the keys that can't be used with tasks of ECS, each with the reason."""
    for name in ("cluster", "subnets", "security_groups", "image"):
        if not getattr(ecs, name):
            yield ("ecs", name), 'is required with cells.provisioner = "ecs"'
    if ecs.cpu not in _SIZES:
        yield ("ecs", "cpu"), f"must be one that Fargate offers: {', '.join(map(str, _SIZES))}; it is {ecs.cpu}"
    elif ecs.memory_mb not in (offered := _SIZES[ecs.cpu]):
        words = f"with {ecs.cpu} CPU units Fargate offers {offered[0]} to {offered[-1]}, in whole GiB from 1024 on"
        yield ("ecs", "memory_mb"), f"{words}; it is {ecs.memory_mb}"
    if launch_timeout_s < MIN_LAUNCH_S:
        why = (
            f"must be at least {MIN_LAUNCH_S:g} with ECS, since a task takes long to start; it is {launch_timeout_s:g}"
        )
        yield ("cells", "launch_timeout_s"), why
    try:
        read_template(ecs.template_file)
    except (OSError, ValueError) as error:
        yield ("ecs", "template"), f"can't be used: {error}"


def read_template(path: Path) -> str:
    """Read the template of a cell's stack. Raises OSError, and ValueError when CloudFormation would not take it."""
    with path.open("rb") as file:
        content = file.read(MAX_TEMPLATE_BYTES + 1)
    if len(content) > MAX_TEMPLATE_BYTES:
        raise ValueError(f"it has more than the {MAX_TEMPLATE_BYTES} bytes that CloudFormation takes")
    return content.decode("utf-8")
