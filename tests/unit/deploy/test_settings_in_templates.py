"""What the templates tell routers, controllers and workers are settings that there are, and parameters of cell.yaml."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

import pytest

from cell_worker.contract.strict_reader import Unreadable
from cell_worker.contract.tracing.variables import sampling_in
from cell_worker.handlers.security.settings import SecuritySettings
from cell_worker.settings import WorkerSettings
from docs.cloudformation import items, read
from router import settings
from router.bootstrap.tracing import for_workers, why_no_traces
from tests.support.templates import PLATFORM, Rendered

CELL: Final = {
    "Prefix": "acme",
    "Environment": "live",
    "CellId": "cell-0007",
    "Image": "cellrouter:dev",
    "CellSecret": "live/cell-0007/" + 64 * "a",
}
"""What a controller says of a cell; the rest comes from the platform."""

KNOWN_TO_AWS: Final = {"GroupId": "sg-0a1b2c3d4e5f", "Arn": "arn:aws:iam::000000000000:role/cell-stack"}
"""What stands for an attribute that only AWS can say."""


def variables(rendered: Rendered, task: str) -> dict[str, str]:
    """Return the environment of a task definition's container."""
    container = rendered.properties(task)["ContainerDefinitions"][0]
    told = {each["Name"]: str(each["Value"]) for each in container["Environment"]}
    for name, value in told.items():
        owner, _, attribute = value.rpartition(".")
        if attribute == "QueueName":
            told[name] = rendered.properties(owner)["QueueName"]
        told[name] = KNOWN_TO_AWS.get(attribute, told[name])
    return told | {each["Name"]: each["ValueFrom"] for each in container["Secrets"]}


def given_to_cells(**platform: Any) -> dict[str, str]:
    """Return the parameters that the platform has controllers give to every cell's stack."""
    told = variables(Rendered("platform", **PLATFORM | platform), "ControllerTask")
    return dict(pair.split("=", 1) for pair in told["CELLROUTER_ECS_PARAMETERS"].split(";"))


def test_routers_and_controllers_are_told_nothing_that_is_no_setting() -> None:
    """And all that they are told is a valid value, but for names that only AWS knows."""
    for task in ("RouterTask", "ControllerTask"):
        told = variables(Rendered("platform", **PLATFORM), task)
        told["CELLROUTER_SECRET"] = hashlib.sha256(b"cellrouter").hexdigest()  # as Secrets Manager makes it
        found, faults = settings.check(told)
        assert faults == [], task
        assert found is not None
        assert found.log.format == "json"


def test_workers_are_told_nothing_that_is_no_setting() -> None:
    """Every variable is a field of the worker's settings, of security monitoring's, or AWS' own."""
    known = {f"CELL_{name.upper()}" for name in WorkerSettings.model_fields}
    known |= {f"CELL_SECURITY_{name.upper()}" for name in SecuritySettings.model_fields}
    given = given_to_cells(RemedyRole="remedy")
    told = variables(Rendered("cell", **given | CELL), "TaskDefinition")
    assert {name for name in told if not name.startswith("AWS_")} <= known
    assert told["CELL_SECURITY_REMEDY_ROLE"] == "remedy"


def test_the_platform_gives_each_parameter_that_a_cell_needs() -> None:
    """Every name is one of cell.yaml, and none without a default is left to the controller but what it knows itself."""
    parameters = read("cell")["Parameters"]
    assert given_to_cells().keys() <= parameters.keys()
    needed = {name for name, found in parameters.items() if "Default" not in found}
    assert needed - given_to_cells().keys() == CELL.keys() - {"Prefix"}


def test_a_redis_of_yours_takes_the_place_of_ours() -> None:
    """Nothing of ElastiCache is made; every process has the URL and the secret of its own user."""
    arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:{}"
    own = {
        f"{role}Redis{name}": value
        for role in ("Router", "Controller", "Cell")
        for name, value in (("Url", f"rediss://{role}@redis:6379"), ("SecretArn", arn.format(role)))
    }
    platform = Rendered("platform", **PLATFORM, **own)
    assert not [kind for each in platform.resources.values() if "ElastiCache" in (kind := each["Type"])]
    for role in ("Router", "Controller"):
        told = variables(platform, f"{role}Task")
        assert told["CELLROUTER_REDIS_URL"] == own[f"{role}RedisUrl"]
        assert told["CELLROUTER_REDIS_PASSWORD_FROM"] == own[f"{role}RedisSecretArn"]
    cell = Rendered("cell", **given_to_cells(**own) | CELL)
    told = variables(cell, "TaskDefinition")
    assert told["CELL_REDIS_URL"] == own["CellRedisUrl"]
    assert told["CELL_REDIS_PASSWORD_FROM"] == own["CellRedisSecretArn"]
    said = items(cell.properties("TaskRole")["Policies"][0]["PolicyDocument"]["Statement"])
    assert [each["Resource"] for each in said if "secretsmanager:GetSecretValue" in items(each["Action"])] == [
        own["CellRedisSecretArn"]
    ]


def test_a_cell_reads_the_buckets_that_it_is_told_of_and_no_other() -> None:
    """Without any, the environment's own source bucket."""
    for buckets, names in (("", ["acme-live-source"]), ("one,two", ["one", "two"])):
        given = given_to_cells(SourceBuckets=buckets)
        role = Rendered("cell", **given | CELL).properties("TaskRole")
        said = {each["Sid"]: each for each in items(role["Policies"][0]["PolicyDocument"]["Statement"])}
        assert said["Sources"]["Resource"] == [f"arn:aws:s3:::{name}/*" for name in names]


def test_two_cells_differ_in_their_names_alone() -> None:
    """Whatever else one has, the other has too."""
    one = json.dumps(Rendered("cell", **given_to_cells() | CELL).resources, default=str)
    other = json.dumps(Rendered("cell", **given_to_cells() | CELL | {"CellId": "cell-0008"}).resources, default=str)
    assert one != other
    assert one == re.sub("cell-0008", "cell-0007", other)


@pytest.mark.parametrize("endpoint", ["", "https://collector.example:4318/otlp?a=b"])
def test_cells_trace_as_the_routers_would_have_them(endpoint: str) -> None:
    """Each is told what a controller tells the workers that it launches itself; nothing where nothing is traced."""
    own = {"TracingEndpoint": endpoint, "TracingPort": 9318}
    platform = Rendered("platform", **PLATFORM | own)
    told = variables(platform, "RouterTask") | {"CELLROUTER_SECRET": hashlib.sha256(b"cellrouter").hexdigest()}
    found, faults = settings.check(told)
    assert found is not None
    assert found.tracing.on == bool(endpoint)
    assert faults + why_no_traces(found, told) == []
    cell = variables(Rendered("cell", **given_to_cells(**own) | CELL), "TaskDefinition")
    traced = {name: value for name, value in cell.items() if name.startswith("OTEL_") or name == "CELL_TRACING"}
    assert traced == for_workers(found, told)
    for group in ("RouterAccess", "CellAccess"):
        ports = [rule["FromPort"] for rule in platform.properties(group)["SecurityGroupEgress"]]
        assert (9318 in ports) == bool(endpoint), group


def test_what_is_traced_is_as_the_documentation_says_unless_a_parameter_says_else() -> None:
    """One in a hundred of the events whose producers began no trace."""
    told = variables(Rendered("platform", **PLATFORM, TracingEndpoint="http://collector:4318"), "RouterTask")
    assert sampling_in(told) == sampling_in({})
    for sampler in read("platform")["Parameters"]["TracingSampler"]["AllowedValues"]:
        assert not isinstance(sampling_in(told | {"OTEL_TRACES_SAMPLER": sampler}), Unreadable), sampler
