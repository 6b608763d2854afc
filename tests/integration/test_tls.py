"""TLS between a router and a cell: real workers, the router's own client, and everybody who may not speak with them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from redis import Redis

from cell_worker.contract import protocol
from cell_worker.contract.http_server import PLACES, HttpServer
from cell_worker.contract.protocol import Fault, FaultKind, InstanceRecord
from cell_worker.contract.tls import TlsError, TlsFiles, cell_host, of_caller, of_cell
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.chaos import inject
from router.adapters.cells.client import HttpCellClient
from router.adapters.cells.control import HttpCellControl
from router.adapters.cells.ends import PLAIN, CellEnds
from router.adapters.clock import SystemClock
from router.adapters.lean_http.session import LeanSession
from router.bootstrap.workers import inject_fault
from router.core.errors import CellUnavailableError
from router.core.models import Event, Outcome, Target
from router.settings import check, load
from tests.support.aio import run, until
from tests.support.certificates import Authority
from tests.support.keys import SECRET, ring
from tests.support.worker_process import WorkerProcess, get

pytestmark = pytest.mark.one_kind  # it is about sockets

ENVIRONMENT: Final = f"tls-{uuid.uuid4().hex[:8]}"
"""The environment of these tests, which others of the same run do not use."""
LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
CELL: Final = cell_host("cell-0000", ENVIRONMENT)


def worker(redis_url: str, directory: Path, files: TlsFiles, **settings: object) -> WorkerProcess:
    """Make a worker that is reached by TLS."""
    with Redis.from_url(redis_url) as redis:
        redis.delete(protocol.redis_key(ENVIRONMENT, "leases"))  # of the test before
    tls: dict[str, object] = {"tls_cert": files.cert, "tls_key": files.key}
    if files.ca is not None:
        tls["tls_client_ca"] = files.ca
    return WorkerProcess(redis_url, directory, **{"environment": ENVIRONMENT, **tls, **settings})


def at(lease: InstanceRecord, cell_id: str = "cell-0000") -> Target:
    """Make the target of calls to this cell, at the address in this lease."""
    return Target(cell_id, lease.generation, lease.address, 1, 1)


@asynccontextmanager
async def calls(lease: InstanceRecord, ends: CellEnds) -> AsyncIterator[CellCalls]:
    """Make calls as routers and controllers do."""
    async with LeanSession() as session:
        yield CellCalls(session, ring(ENVIRONMENT), SystemClock(), ends=ends)
    await closed(lease)


async def closed(lease: InstanceRecord) -> None:
    """Wait for the end of all connections to an instance: TLS says goodbye, for which aiohttp does not wait."""

    async def none() -> bool:
        found = psutil.Process().net_connections("tcp")
        return not any(one.raddr and f"{one.raddr.ip}:{one.raddr.port}" == lease.address for one in found)

    await until(none, "all connections are closed")


def called(lease: InstanceRecord, ends: CellEnds, cell_id: str = "cell-0000") -> Outcome:
    """Send an event to the cell at the address in this lease, as a router does; returns its outcome."""

    async def story() -> Outcome:
        async with calls(lease, ends) as made:
            events = [Event("a", "k", b"1")]
            (result,) = [found async for found in HttpCellClient(made, 20).process(at(lease, cell_id), events)]
            return result.outcome

    return run(story())


def ends(files: TlsFiles) -> CellEnds:
    """How a router with these files reaches cells."""
    return CellEnds(ENVIRONMENT, of_caller(files))


@pytest.mark.parametrize("name", [CELL, f"*.{ENVIRONMENT}.cellrouter"], ids=["its own", "wildcard"])
def test_a_router_reaches_a_cell_by_tls_and_no_other_way(redis_url: str, tmp_path: Path, name: str) -> None:
    """The certificate's name counts, not the address; plain HTTP gets no answer."""
    ca = Authority(tmp_path)
    with worker(redis_url, tmp_path, ca.files(name)) as cell:
        lease = cell.ready()
        assert called(lease, ends(TlsFiles(ca.cert, None, None))) is Outcome.OK
        with pytest.raises(CellUnavailableError):
            called(lease, PLAIN)
        with pytest.raises(OSError, match=r"reset|closed|disconnected"):
            get(f"http://{lease.address}/healthz")


def test_controllers_and_operators_call_by_tls_too(redis_url: str, tmp_path: Path) -> None:
    """Checks, restarts and faults reach the cell whose certificate is there, and no other; none goes by plain HTTP."""
    ca, slow = Authority(tmp_path), Fault(FaultKind.SLOW, seconds=1, delay_s=0.1)
    variables = {"ENVIRONMENT": ENVIRONMENT, "SECRET": SECRET, "CELLS_PROVISIONER": "external"}
    settings = load({f"CELLROUTER_{k}": v for k, v in (variables | {"CELLS_TLS_CA": str(ca.cert)}).items()})

    async def story(lease: InstanceRecord) -> None:
        async with calls(lease, ends(TlsFiles(ca.cert, None, None))) as made:
            control = HttpCellControl(made)
            assert "store" in [part.name for part in await control.components(at(lease), 20)]
            await control.restart(at(lease), "store", 20)
            await inject(made, at(lease), slow)
            await inject_fault(settings, at(lease), slow)
            other = at(lease, "cell-0001")
            for call in (
                control.components(other, 20),
                control.restart(other, "store", 20),
                inject(made, other, slow),
                inject_fault(settings, other, slow),
            ):
                with pytest.raises(CellUnavailableError, match="mismatch"):
                    await call
        async with calls(lease, PLAIN) as plain:
            for call in (HttpCellControl(plain).components(at(lease), 20), inject(plain, at(lease), slow)):
                with pytest.raises(CellUnavailableError):
                    await call

    with worker(redis_url, tmp_path, ca.files(CELL), chaos="true") as cell:
        run(story(cell.ready()))


def test_a_stolen_certificate_does_not_pass_for_another_cell(redis_url: str, tmp_path: Path) -> None:
    """Whoever has cell-0001's files and sits at the address of cell-0000 gets no event of it."""
    ca = Authority(tmp_path)
    stolen = ca.files(cell_host("cell-0001", ENVIRONMENT))
    with worker(redis_url, tmp_path, stolen, id="cell-0001") as thief:
        lease, router = thief.ready(), ends(TlsFiles(ca.cert, None, None))
        assert called(lease, router, "cell-0001") is Outcome.OK
        with pytest.raises(CellUnavailableError, match="mismatch") as error:
            called(lease, router)
        assert not error.value.reached  # so the event was certainly not seen


def test_with_mutual_tls_only_routers_reach_a_cell(redis_url: str, tmp_path: Path) -> None:
    """Neither who has no certificate nor who has one of another authority does."""
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    with worker(redis_url, tmp_path, ca.files(CELL, ca=ca.cert)) as cell:
        lease = cell.ready()
        assert called(lease, ends(ca.files("router", ca=ca.cert, file="router"))) is Outcome.OK
        strangers = [TlsFiles(ca.cert, None, None), other.files("router", ca=ca.cert, file="stranger")]
        for stranger in strangers:
            with pytest.raises(CellUnavailableError):
                called(lease, ends(stranger))


def test_a_cell_of_another_authority_gets_no_event(redis_url: str, tmp_path: Path) -> None:
    """Its name alone proves nothing."""
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    with worker(redis_url, tmp_path, other.files(CELL)) as cell:
        with pytest.raises(CellUnavailableError, match="verify failed") as error:
            called(cell.ready(), ends(TlsFiles(ca.cert, None, None)))
        assert not error.value.reached


def test_bad_files_are_named_at_the_start(redis_url: str, tmp_path: Path) -> None:
    """The last words say which file it is and what is wrong; an address in it is no name of a cell."""
    ca = Authority(tmp_path)
    good = ca.files(CELL)
    old = TlsFiles(None, *ca.issue(CELL, end=LONG_AGO, file="old"))
    bad = {
        "old.crt: the certificate has expired": old,
        f"two.crt: the certificate does not name {CELL}": ca.files(cell_host("cell-0001", ENVIRONMENT), file="two"),
        f"address.crt: the certificate does not name {CELL}": ca.files("127.0.0.1", file="address"),
        "none.crt can't be read: No such file": TlsFiles(None, tmp_path / "none.crt", good.key),
        "key values mismatch": TlsFiles(None, good.cert, old.key),
        "none.crt can't be used as authorities": TlsFiles(tmp_path / "none.crt", good.cert, good.key),
    }
    for words, files in bad.items():
        with worker(redis_url, tmp_path, files) as cell:
            assert cell.process.wait(30) == 2
            assert words in cell.said()


def test_check_config_names_bad_files(tmp_path: Path) -> None:
    """So that no router or controller starts with files that no cell accepts."""
    ca = Authority(tmp_path)
    old, key = ca.issue("router", end=LONG_AGO, file="old")
    base = {"CELLROUTER_SECRET": SECRET, "CELLROUTER_CELLS_PROVISIONER": "external"}
    cases: dict[str, dict[str, object]] = {
        "has expired": {"TLS_CA": ca.cert, "TLS_CERT": old, "TLS_KEY": key},
        "it does not exist": {"TLS_CA": tmp_path / "none"},
        "needs cells.tls_key": {"TLS_CA": ca.cert, "TLS_CERT": old},
        "is required for TLS": {"TLS_CERT": old, "TLS_KEY": key},
        "cells.tls_dir: is required": {"TLS_CA": ca.cert, "PROVISIONER": "docker"},
    }
    for words, given in cases.items():
        _, faults = check(base | {f"CELLROUTER_CELLS_{name}": str(value) for name, value in given.items()})
        assert len(faults) == 1
        assert words in faults[0]


def test_renewed_certificates_are_used_without_a_restart(tmp_path: Path) -> None:
    """New connections get the new certificate; files that can't be used change nothing, and are told once."""
    ca = Authority(tmp_path)
    tls = of_cell("cell-0000", ENVIRONMENT, ca.files(CELL))
    before = tls.context
    assert not tls.renew()
    ca.issue(CELL, end=LONG_AGO)
    with pytest.raises(TlsError, match="has expired"):
        tls.renew()
    assert not tls.renew()
    assert tls.context is before
    ca.issue(CELL)
    assert tls.renew()
    assert tls.context is not before


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with its scheme."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


async def ask(port: int, context: ssl.SSLContext) -> bytes:
    """Make a request by TLS, and return the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=CELL)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_half_open_handshakes_keep_nobody_out(tmp_path: Path) -> None:
    """A connection before its handshake has a place as any other, and makes room for those that speak."""
    ca = Authority(tmp_path)
    tls, client = of_cell("cell-0000", ENVIRONMENT, ca.files(CELL)), of_caller(TlsFiles(ca.cert, None, None))

    async def story() -> None:
        server = HttpServer(hello, places=PLACES, goodbye_s=1, tls=tls)
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        address = listener.getsockname()
        task = asyncio.create_task(server.serve([listener]))
        try:
            with ExitStack() as stack:
                for _ in range(1000):
                    silent = stack.enter_context(socket.socket())
                    silent.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(silent, address)
                for _ in range(3):
                    assert b"\r\nhttps\r\n" in await ask(address[1], client.context)
                assert len(server.door) <= PLACES // 2

            async def empty() -> bool:
                return not len(server.door)

            await until(empty, "all places are free again")
        finally:
            server.should_exit = True
            await task

    run(story())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_no_context_takes_an_old_version(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """Both sides speak TLS 1.2 or newer."""
    ca = Authority(tmp_path)
    for tls in (of_cell("cell-0000", ENVIRONMENT, ca.files(CELL)), of_caller(TlsFiles(ca.cert, None, None))):
        assert tls.context.minimum_version > version
