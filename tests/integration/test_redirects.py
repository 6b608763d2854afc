"""Whoever answers a call of ours leads it nowhere: no redirect is followed, and no proxy is asked for a cell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from cell_worker.contract.aws_session import CurrentCredentials
from cell_worker.contract.protocol import Fault, FaultKind
from router.adapters.aws.s3_payloads import open_payload_client
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs_client import SqsClient, SqsError
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.chaos import inject
from router.adapters.cells.client import HttpCellClient
from router.adapters.cells.control import HttpCellControl
from router.adapters.cells.ends import PLAIN
from router.adapters.clock import SystemClock
from router.adapters.http_session import http_session
from router.adapters.lean_http.session import LeanSession
from router.adapters.provisioners.docker import DockerProvisioner
from router.adapters.provisioners.docker_containers import DockerConfig
from router.core.errors import CellUnavailableError, ProvisionError
from router.core.models import Event, Target
from router.demo.system_client import SystemClient
from tests.support.aio import run
from tests.support.keys import ring
from tests.support.tcp_server import serving

pytestmark = pytest.mark.one_kind  # it is about sockets


@asynccontextmanager
async def calls() -> AsyncIterator[CellCalls]:
    """Make calls to cells, as routers and controllers do."""
    async with LeanSession() as session:
        yield CellCalls(session, ring("live"), SystemClock(), ends=PLAIN)


def at(address: str) -> Target:
    """Make the target of calls to a cell at this address."""
    return Target("cell-0000", 1, address, 1, 1)


STATUSES: Final = (301, 302, 303, 307, 308)
UNPROVEN: Final = "is not proven with the cell's secret"


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve one answer to everybody; yields the address, and what was asked."""
    asked: list[bytes] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)

    async with serving(reply) as port:
        yield f"127.0.0.1:{port}", asked


async def _events(address: str) -> None:
    async with calls() as made:
        client = HttpCellClient(made, 60)
        with pytest.raises(CellUnavailableError, match=UNPROVEN):
            _ = [one async for one in client.process(at(address), [Event("a", "k", b"1")])]


async def _components(address: str) -> None:
    async with calls() as made:
        with pytest.raises(CellUnavailableError, match=UNPROVEN):
            await HttpCellControl(made).components(at(address), 10)


async def _restart(address: str) -> None:
    async with calls() as made:
        with pytest.raises(CellUnavailableError, match=UNPROVEN):
            await HttpCellControl(made).restart(at(address), "store", 10)


async def _chaos(address: str) -> None:
    async with calls() as made:
        with pytest.raises(CellUnavailableError, match=UNPROVEN):
            await inject(made, at(address), Fault(FaultKind.HANG))


async def _demo(address: str) -> None:
    async with calls() as made, http_session() as session:
        system = SystemClient(session, f"http://{address}", f"http://{address}", made)
        assert await system.lanes() == []


async def _sqs(address: str) -> None:
    client = SqsClient(
        f"http://{address}", "us-east-1", CurrentCredentials(), SystemClock(), connections=1, read_timeout_s=10
    )
    with pytest.raises(SqsError):
        await client.call("ListQueues")
    await client.close()


async def _client_of(stack: AsyncExitStack, service: str, config: AwsConfig) -> Any:
    return await (open_payload_client(stack, config) if service == "s3" else open_client(stack, config, service))


async def _aws(address: str) -> None:
    calls: dict[str, tuple[str, dict[str, str]]] = {
        "firehose": ("list_delivery_streams", {}),
        "s3": ("get_object", {"Bucket": "bucket", "Key": "k"}),
        "sqs": ("list_queues", {}),
    }
    async with AsyncExitStack() as stack:
        for service, (call, given) in calls.items():
            client = await _client_of(stack, service, AwsConfig("us-east-1", f"http://{address}"))
            with pytest.raises(ClientError):
                await getattr(client, call)(**given)


async def _docker(address: str) -> None:
    config = DockerConfig(
        f"http://{address}",
        image="",
        network="",
        prefix="p",
        environment="e",
        variables={},
        labels={},
        memory_mb=64,
        cpus=1,
        pids=16,
        stop_grace_s=1,
        secret_of=str,
    )
    provisioner = DockerProvisioner(config)
    with pytest.raises(ProvisionError, match="redirect"):
        await provisioner.observe()
    await provisioner.close()


CALLS: Final = [_events, _components, _restart, _chaos, _demo, _sqs, _aws, _docker]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("call", CALLS)
def test_no_redirect_is_followed(
    call: Callable[[str], Awaitable[None]], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that stands for AWS' metadata service is never asked; the redirect is an error."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")

    async def story() -> None:
        async with server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]") as (metadata, stolen):
            head = f"HTTP/1.1 {status} Moved\r\nLocation: http://{metadata}/latest/meta-data/iam\r\n"
            head += "x-amz-bucket-region: us-east-1\r\n"  # without it, botocore would ask S3 for that again and again
            answer = f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
            async with server(answer) as (address, asked):
                await call(address)
            assert asked
            assert stolen == []

    run(story())


def test_no_proxy_of_the_environment_is_asked_for_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would read events and secrets, and could answer in the cell's place."""

    async def story() -> None:
        answer: Any = b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        async with server(answer) as (proxy, diverted), server(answer) as (address, asked):
            for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://{proxy}")
            await _events(address)
            await _components(address)
            assert len(asked) == 2
            assert diverted == []

    run(story())
