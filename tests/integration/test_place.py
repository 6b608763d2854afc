"""Where a process runs, as ECS' metadata endpoint tells it; and what a proxy in the environment must not break."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import structlog
from botocore.utils import get_environ_proxies

from cell_worker.contract.keys import cell_secret
from cell_worker.contract.place import METADATA_VARIABLE, Place, place_in, place_of, region_in, without_local_proxies
from cell_worker.contract.redis_client import why_no_client
from cell_worker.contract.strict_reader import Unreadable
from router.adapters.aws.session import AwsConfig
from router.adapters.aws.sqs_client import open_sqs_client
from router.core.errors import ConfigError
from router.settings import check
from tests.support.aio import run
from tests.support.http_answers import http, server
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY
from tests.support.worker_process import WorkerProcess

TASK: Final = "158d1c8083dd49d6b527399fd6414f5c"
METADATA: Final[dict[str, Any]] = {
    "Cluster": "arn:aws:ecs:eu-west-1:111122223333:cluster/default",
    "TaskARN": f"arn:aws:ecs:eu-west-1:111122223333:task/default/{TASK}",
    "AvailabilityZone": "eu-west-1b",
    "LaunchType": "FARGATE",
    "Containers": [
        {"Name": "router", "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.1.7"]}], "Limits": {"CPU": 2}}
    ],
}


def asked(answer: Any) -> Place:
    """Ask an endpoint that answers so."""

    async def story() -> Place:
        async with server(answer) as url:
            return await place_of({METADATA_VARIABLE: f"{url}/v4/abc-123"})

    return run(story())


def test_a_task_knows_its_id_zone_and_address() -> None:
    """From the path that ECS documents, in the shape that Fargate's agent answers in."""
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes:
        requests.append(request)
        return http(200, METADATA)

    assert asked(answer) == Place(TASK, "eu-west-1b", "10.0.1.7")
    assert [request.split(b"\r\n")[0] for request in requests] == [b"GET /v4/abc-123/task HTTP/1.0"]


def test_a_task_with_ipv6_only() -> None:
    """An address of the one family is as good as one of the other."""
    raw = msgspec.json.encode(METADATA | {"Containers": [{"Networks": [{"IPv6Addresses": ["2600:1f13::5"]}]}]})
    found = place_in(raw)
    assert isinstance(found, Place)
    assert found.address == "2600:1f13::5"


@pytest.mark.parametrize(
    "changed",
    [
        {"AvailabilityZone": "eu-west-1b\nX", "TaskARN": "a/b c", "Containers": [{"Networks": [{}]}]},
        {"AvailabilityZone": "x" * 41, "TaskARN": "", "Containers": []},
        {"AvailabilityZone": "", "TaskARN": "/" * 9, "Containers": [{"Networks": [{"IPv4Addresses": ["010.0.0.1"]}]}]},
    ],
)
def test_what_is_not_as_it_should_be_counts_as_not_said(changed: dict[str, Any]) -> None:
    """It would stand in reports, labels and logs."""
    assert place_in(json.dumps(METADATA | changed).encode()) == Place()


async def hung(_: bytes) -> AsyncIterator[bytes]:
    """Send a little, and then nothing."""
    yield b"HTTP/1.1 200 OK\r\n\r\n{"
    await asyncio.sleep(60)  # noqa: TID251 - the server hangs


@pytest.mark.parametrize(
    "answer",
    [
        hung,
        lambda _: http(200, b"[" * 4 * 1024 * 1024),
        lambda _: b"",
        lambda _: b"\xff\x00 garbage",
        lambda _: http(500, METADATA),
        lambda _: http(302, b"", "Location: http://127.0.0.1:1/"),
        lambda _: http(200, b"{"),
        lambda _: http(200, METADATA | {"TaskARN": 7}),
    ],
)
def test_a_broken_endpoint_costs_a_line_in_the_log(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process starts all the same, and soon."""
    monkeypatch.setattr("cell_worker.contract.place.TIMEOUT_S", 1.0)
    with structlog.testing.capture_logs() as log:
        assert asked(answer) == Place()
    assert [entry["event"] for entry in log] == ["goes on without zone and task: the task's metadata can't be read"]


@pytest.mark.parametrize("base", ["http://127.0.0.1:1", "https://169.254.170.2", "nonsense", "http://[", "file:///etc"])
def test_an_address_that_leads_nowhere(base: str) -> None:
    """No more than without it."""
    assert run(place_of({METADATA_VARIABLE: base})) == Place()


def test_elsewhere_nobody_is_asked() -> None:
    """Without the variable there is nothing to say."""
    assert run(place_of({})) == Place()
    assert isinstance(place_in(b"nonsense"), Unreadable)


@pytest.mark.parametrize(
    ("environ", "file", "region", "says"),
    [
        ({}, "", "us-east-1", ""),
        ({"AWS_DEFAULT_REGION": "eu-west-3"}, "", "eu-west-3", ""),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-3"}, "", "eu-west-1", ""),
        ({"AWS_REGION": "eu-west-1"}, 'region = "eu-west-2"', "eu-west-2", ""),
        ({"AWS_REGION": "eu-west-1", "CELLROUTER_AWS_REGION": "eu-north-1"}, "", "eu-north-1", ""),
        ({"AWS_REGION": "eu west 1"}, "", "", "AWS_REGION: aws.region: must be a region's name, as eu-west-1"),
        ({"CELLROUTER_AWS_REGION": "eu west"}, "", "", "CELLROUTER_AWS_REGION: aws.region: must be a region's name"),
    ],
)
def test_the_region_is_the_one_that_aws_tools_take(
    environ: Mapping[str, str], file: str, region: str, says: str, tmp_path: Path
) -> None:
    """One rule: our own setting, else AWS_REGION, else AWS_DEFAULT_REGION."""
    config = tmp_path / "cellrouter.toml"
    config.write_text(f"[aws]\n{file}\n")
    settings, faults = check({"CELLROUTER_SECRET": SECRET, "CELLROUTER_CONFIG": str(config), **environ})
    if says:
        assert [fault for fault in faults if says in fault]
    else:
        assert settings is not None, faults
        assert settings.aws.region == region


def test_a_worker_takes_the_region_for_every_client_of_its_process() -> None:
    """ECS and Lambda set AWS_REGION, which botocore alone does not heed."""
    assert region_in({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-3"}) == "eu-west-3"
    code = """
import os, botocore.session
from cell_worker.__main__ import _as_aws_says
_as_aws_says()
print(botocore.session.get_session().get_config_variable("region"), os.environ["AWS_REGION"])
"""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "AWS_REGION": "eu-west-1"}
    environ["AWS_DEFAULT_REGION"] = "us-east-1"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["eu-west-1", "eu-west-1"]


@pytest.mark.parametrize("given", ["", "internal.example"])
@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("https://sqs.eu-west-1.amazonaws.com", True),
        ("http://127.0.0.1:4566", False),
        ("http://localhost:4566", False),
        ("http://[::1]:4566", False),
        ("http://169.254.170.2/v2/credentials", False),
        ("http://169.254.169.254/latest", False),
        ("http://[fd00:ec2::254]/latest", False),
        ("http://[fd00:ec2::23]/v1/credentials", False),
        ("http://ministack:4566", False),
        ("http://localstack:4566", False),
    ],
)
def test_a_proxy_is_asked_for_aws_and_not_for_what_is_near(
    url: str, proxied: bool, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell with http_proxy set, or Docker's client with `proxies`, breaks nothing; what was spared stays so."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", given)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localstack:4566")
    for name, value in without_local_proxies(os.environ, "http://ministack:4566").items():
        monkeypatch.setenv(name, value)
    assert bool(get_environ_proxies(url)) is proxied
    assert not given or not get_environ_proxies("https://a.internal.example")


def test_who_wants_no_proxy_at_all_keeps_it_so() -> None:
    """A star stands for everything."""
    assert without_local_proxies({"NO_PROXY": "*"}) == {}


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"AWS_PROFILE": "nobody"}, "AWS_PROFILE: The config profile (nobody) could not be found"),
        ({"AWS_CA_BUNDLE": "/nonexistent.pem"}, "AWS_CA_BUNDLE=/nonexistent.pem: No such file or directory"),
        ({"AWS_CA_BUNDLE": __file__}, "AWS_CA_BUNDLE="),
        ({"https_proxy": "socks5://h:1"}, "HTTPS_PROXY, HTTP_PROXY: AWS is reached by no other proxies"),
        ({"AWS_ENDPOINT_URL_SQS": "sqs"}, "the variables AWS_* or a file in ~/.aws can't be used"),
    ],
)
def test_what_botocore_refuses_is_a_sentence(
    environ: Mapping[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That names the setting, when a client is opened."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    async def story() -> None:
        async with AsyncExitStack() as stack:
            await open_sqs_client(stack, AwsConfig("eu-west-1"), connections=1, read_timeout_s=1)

    with pytest.raises(ConfigError) as caught:
        run(story())
    assert says in str(caught.value)


PARAMETER: Final = ("REDIS_URL", "redis://h?no_such_thing=1", "has a parameter that can't be used: no_such_thing")
PROFILE: Final = ("AWS_PROFILE", "nobody", "AWS_PROFILE: The config profile (nobody) could not be found")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h?no_such_thing=1", "has a parameter that can't be used: no_such_thing"),
        ("redis+cluster://h?no_such_thing=1", "has a parameter that can't be used"),
        ("redis://h?socket_timeout=x", "has a parameter that can't be used"),
        ("rediss://h?ssl_ca_certs=/nonexistent", "has a file for TLS that can't be used: No such file or directory"),
        ("rediss+cluster://h?ssl_ca_certs=/nonexistent", "has a file for TLS that can't be used: No such file"),
    ],
)
def test_what_redis_py_refuses_is_a_sentence(url: str, says: str) -> None:
    """It would say so at each call; and an address that is well is left alone."""
    assert says in str(why_no_client(url))
    assert why_no_client(url.partition("?")[0]) is None


@pytest.mark.parametrize(
    ("command", "fault"),
    [("check-config", PARAMETER), ("check-config", PROFILE), ("router", PROFILE), ("worker", PARAMETER)],
)
def test_no_start_ends_with_a_traceback(command: str, fault: tuple[str, str, str]) -> None:
    """check-config knows it before, and names it as the start does."""
    name, value, says = fault
    worker = command == "worker"
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "CELLROUTER_SECRET": SECRET,
        "CELLROUTER_API_PORT": "0",
        "CELLROUTER_CELLS_PROVISIONER": "external",
        "CELL_ID": "cell-0000",
        "CELL_SECRET": cell_secret(SECRET, "live", "cell-0000"),
        "CELL_HANDLER": "no.such:handler",
        (name if name.startswith("AWS_") else ("CELL_" if worker else "CELLROUTER_") + name): value,
    }
    arguments = ["-m", "cell_worker"] if worker else ["-m", "router", command]
    done = subprocess.run(
        [sys.executable, *arguments], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.one_kind
def test_a_worker_is_reached_where_its_task_is(redis_url: str, tmp_path: Path) -> None:
    """Nobody has to tell it; its lease has zone and region too, and each line of its log is JSON."""

    async def story() -> None:
        async with server(lambda _: http(200, METADATA)) as url:
            settings = {"host": "0.0.0.0"}
            monkeypatch.setenv(METADATA_VARIABLE, f"{url}/v4/abc-123")
            monkeypatch.setenv("AWS_REGION", "eu-west-1")
            with WorkerProcess(redis_url, tmp_path, **settings) as worker:
                record = await asyncio.to_thread(worker.ready)
                assert record.address.startswith("10.0.1.7:")
                assert (record.zone, record.region) == ("eu-west-1b", "eu-west-1")
                worker.process.terminate()
                assert await asyncio.to_thread(worker.process.wait, 60) == 0
                assert all(isinstance(json.loads(line), dict) for line in worker.said().splitlines())

    with pytest.MonkeyPatch.context() as monkeypatch:
        run(story(), 120)
