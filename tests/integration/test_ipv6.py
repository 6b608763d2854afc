"""Cells, Redis and AWS at addresses of IPv6, and nowhere else."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs_client import open_sqs_client
from tests.support.aio import run
from tests.support.http_answers import http, server
from tests.support.tcp_proxy import TcpProxy
from tests.support.worker_process import WorkerProcess, get


@pytest.mark.one_kind
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_a_worker_and_its_redis_have_ipv6_only(host: str, redis_url: str, tmp_path: Path) -> None:
    """Its lease names an address that goes into a URL as it is, and it answers there."""

    async def story() -> None:
        async with TcpProxy(urlsplit(redis_url).port or 0, "::1") as redis:
            with WorkerProcess(redis.url, tmp_path, host=host) as worker:
                record = await asyncio.to_thread(worker.ready)
                assert record.address.startswith("[::1]:")
                assert (await asyncio.to_thread(get, f"http://{record.address}/readyz"))[0] == 200

    run(story(), 120)


def test_an_endpoint_of_aws_has_ipv6_only() -> None:
    """Both clients send what they have signed: the host as the URL has it."""
    hosts = set[bytes]()

    def answer(request: bytes) -> bytes:
        hosts.update(line for line in request.split(b"\r\n") if line.lower().startswith(b"host: "))
        return http(200, {"QueueUrl": "http://queue"})

    async def story() -> str:
        async with server(answer, "::1") as url, AsyncExitStack() as stack:
            config = AwsConfig("us-east-1", url)
            ours = await open_sqs_client(stack, config, connections=1, read_timeout_s=20)
            assert await ours.call("GetQueueUrl", QueueName="q") == {"QueueUrl": "http://queue"}
            theirs = await open_client(stack, config, "sqs")
            assert (await theirs.get_queue_url(QueueName="q"))["QueueUrl"] == "http://queue"
            return url.removeprefix("http://")

    address = run(story(), 60)
    assert {host[6:].decode() for host in hosts} == {address}
