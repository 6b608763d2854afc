"""The settings of cells on ECS: what is missing or can't be used is named before anything is launched."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.bootstrap.cells import ecs_config, stack_config
from router.bootstrap.registry import keyring_of
from router.settings import check, load
from router.settings_ecs import MAX_TEMPLATE_BYTES
from tests.support import keys
from tests.support.stack_stub import TEMPLATE

ECS = {
    "CELLROUTER_SECRET": keys.SECRET,
    "CELLROUTER_CELLS_PROVISIONER": "ecs",
    "CELLROUTER_CELLS_LAUNCH_TIMEOUT_S": "120",
    "CELLROUTER_ECS_CLUSTER": "cells",
    "CELLROUTER_ECS_SUBNETS": "subnet-0123abcd, subnet-4567abcd",
    "CELLROUTER_ECS_SECURITY_GROUPS": "sg-0123abcd",
    "CELLROUTER_ECS_IMAGE": "repository@sha256:0123",
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Settings with which cells can run on ECS."""
    path = tmp_path / "cell.yaml"
    path.write_text(TEMPLATE)
    return ECS | {"CELLROUTER_ECS_TEMPLATE": str(path)}


def test_what_is_set_is_what_tasks_and_stacks_get(environ: dict[str, str]) -> None:
    """Values with commas may be parameters. What workers are told stands in the parameters too, and the secret."""
    more = {
        "CELLROUTER_ECS_PARAMETERS": "SourceBuckets=a,b;RedisUrl=rediss://u@r:6379/0",
        "CELLROUTER_ECS_STACK_ROLE": "arn:aws:iam::123456789012:role/stacks",
        "CELLROUTER_CELLS_DRAIN_TIMEOUT_S": "14",
    }
    settings = load(environ | more)
    tasks, stacks = ecs_config(settings), stack_config(settings, keyring_of(settings))
    assert (tasks.subnets, tasks.security_groups) == (("subnet-0123abcd", "subnet-4567abcd"), ("sg-0123abcd",))
    request = stacks.request("cell-0000", stacks.image)
    given = {each["ParameterKey"]: each["ParameterValue"] for each in request["Parameters"]}
    assert (given["SourceBuckets"], given["RedisUrl"]) == ("a,b", "rediss://u@r:6379/0")
    assert (given["DrainTimeoutS"], given["Image"]) == ("14.0", "repository@sha256:0123")
    assert given["CellSecret"] == keyring_of(settings).cell_secret("cell-0000")
    assert request["RoleARN"] == "arn:aws:iam::123456789012:role/stacks"


def test_a_stack_is_told_of_the_workloads_table_and_folders(environ: dict[str, str]) -> None:
    """Only where there are some: a template of before knows no such parameters."""
    more = {"CELLROUTER_CELLS_TABLE": "shop", "CELLROUTER_CELLS_EMITTED_PATH": "sales/shop={shop}/"}
    names = ("WorkloadTable", "EmittedPrefix", "EmittedQuery")
    for set_up, wanted in ((more, 3), (dict.fromkeys(more, ""), 0)):
        settings = load(environ | set_up)
        parameters = stack_config(settings, keyring_of(settings)).parameters
        assert len(parameters.keys() & set(names)) == wanted
    given = stack_config(load(environ | more), keyring_of(load(environ | more))).parameters
    prefix = "sales/shop=!{partitionKeyFromQuery:shop}/!{timestamp:yyyyMMddHHmm}-"
    assert [given[name] for name in names] == ["shop", prefix, "{shop:.shop}"]


def test_without_ecs_none_of_it_is_needed() -> None:
    """Nor is anything of it looked at."""
    assert load({"CELLROUTER_SECRET": keys.SECRET, "CELLROUTER_ECS_CPU": "7"}).ecs.cluster == ""


@pytest.mark.parametrize("name", ["CLUSTER", "SUBNETS", "SECURITY_GROUPS", "IMAGE"])
def test_what_is_missing_is_named(environ: dict[str, str], name: str) -> None:
    """Each by its key."""
    _, faults = check({key: value for key, value in environ.items() if not key.endswith(name)})
    assert faults == [f'environment: ecs.{name.lower()}: is required with cells.provisioner = "ecs"']


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ECS_SUBNETS", "10.0.0.0/8", "must be up to 16 ids as subnet-0123abcd, with commas"),
        ("ECS_SUBNETS", ",".join(["subnet-0123abcd"] * 17), "must be up to 16 ids"),
        ("ECS_SECURITY_GROUPS", "default", "must be up to 5 ids as sg-0123abcd"),
        ("ECS_CLUSTER", "my cluster", "must be a cluster's name or its ARN"),
        ("ECS_CAPACITY_PROVIDER", "EC2", "should be 'FARGATE' or 'FARGATE_SPOT'"),
        ("ECS_CPU", "500", "must be one that Fargate offers: 256, 512, 1024, 2048, 4096; it is 500"),
        ("ECS_MEMORY_MB", "512", "with 512 CPU units Fargate offers 1024 to 4096, in whole GiB"),
        ("ECS_MEMORY_MB", "1500", "with 512 CPU units Fargate offers"),
        ("ECS_PARAMETERS", "a,b", "must be Name=value, separated by semicolons"),
        ("ECS_STACK_ROLE", "stacks", "must be the ARN of a role"),
        ("ECS_TEMPLATE", "/nowhere/cell.yaml", "can't be used"),
        ("CELLS_LAUNCH_TIMEOUT_S", "30", "must be at least 90 with ECS, since a task takes long to start; it is 30"),
    ],
)
def test_what_ecs_would_not_take_is_named(environ: dict[str, str], name: str, value: str, says: str) -> None:
    """In words that say what would be right."""
    [fault] = check(environ | {f"CELLROUTER_{name}": value})[1]
    assert fault.startswith(f"CELLROUTER_{name}: ")
    assert says in fault


def test_a_template_that_cloudformation_would_not_take_is_named(environ: dict[str, str]) -> None:
    """It takes 51 200 bytes in a request."""
    Path(environ["CELLROUTER_ECS_TEMPLATE"]).write_text("#" * (MAX_TEMPLATE_BYTES + 1))
    [fault] = check(environ)[1]
    assert fault.endswith("ecs.template: can't be used: it has more than the 51200 bytes that CloudFormation takes")
