"""The router's client of cells, by plain HTTP and by TLS: what it believes of a cell's answers and what not."""

from __future__ import annotations

import asyncio
import itertools
import re
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from cell_worker.contract.proofs import AnswerProofs, read_call
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.client import HttpCellClient
from router.adapters.cells.control import HttpCellControl
from router.adapters.clock import SystemClock
from router.adapters.lean_http.session import LeanSession
from router.core.errors import CellRefusedError, CellUnavailableError, NoDescriptorError
from router.core.models import Event, Result, Target
from router.core.telemetry import CellTrusted, DistrustedCall
from tests.support.aio import run
from tests.support.keys import cell_keys, ring
from tests.support.tcp_server import serving
from tests.support.ways import CLIENTS, WAYS, Way, session_of, way_of

CELL: Final = "cell-0000"
Session = aiohttp.ClientSession | LeanSession
Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Called:
    """How a cell is reached, and by which client."""

    way: Way
    client: str


@pytest.fixture(params=itertools.product(WAYS, CLIENTS), ids=" by ".join)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Called:
    """How the cell is reached, and by which client."""
    way, client = request.param
    return Called(way_of(way, tmp_path, "live"), client)


@asynccontextmanager
async def listening(way: Called, reply: Reply) -> AsyncIterator[tuple[Session, Target]]:
    """Listen in the cell's place; what answers closes its connection."""
    async with serving(reply, ssl=way.way.listens) as port, session_of(way.client) as session:
        yield session, Target(CELL, 1, f"127.0.0.1:{port}", 1, 1)


def client(
    session: Session, way: Called, tell: Callable[[DistrustedCall | CellTrusted], None] = lambda _: None
) -> HttpCellClient:
    """Make what sends events to the cells of the environment `live`."""
    return HttpCellClient(CellCalls(session, ring("live"), SystemClock(), tell, ends=way.way.ends), 60)


def proofs_for(head: bytes) -> AnswerProofs:
    """Return what an instance of CELL answers a call with that has this head."""
    found = re.search(rb"Authorization: (.*)\r\n", head)
    assert found is not None
    call = read_call(found.group(1))
    assert call is not None
    return AnswerProofs(cell_keys("live", CELL).answer, call.proof)


async def read(way: Called, line: bytes) -> Result:
    """Return what a client with an event timeout of 60 s reads from this result line."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proofs = proofs_for(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + proofs.line(line))

    async with listening(way, reply) as (session, target):
        (result,) = [found async for found in client(session, way).process(target, [Event("a", "k", b"1")])]
        return result


@pytest.mark.parametrize(
    ("said", "believed"),
    [("", 0), (',"waited_s":1.5', 1.5), (',"waited_s":-1', 0), (',"waited_s":1e300', 0), (',"waited_s":66', 0)],
    ids=["nothing", "a wait", "negative", "huge", "longer than the call may last"],
)
def test_a_waiting_time_is_believed_only_when_it_is_possible(way: Called, said: str, believed: float) -> None:
    """The router subtracts the wait from the latency, so a false wait would make a slow cell look healthy."""
    assert run(read(way, f'{{"index":0,"outcome":"ok"{said}}}'.encode())).waited_s == believed


def test_a_denial_is_read(way: Called) -> None:
    """The router judges by it whose trouble it is."""
    assert run(read(way, b'{"index":0,"outcome":"retry","denied":true}')).denied
    assert not run(read(way, b'{"index":0,"outcome":"retry"}')).denied


Ask = Callable[[Session, Called, Target], Awaitable[object]]


async def _told(way: Called, answer: bytes, ask: Ask) -> str:
    """Have a server give this whole answer, ask it, and return the error that this comes to."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with listening(way, reply) as (session, target):
        with pytest.raises(CellUnavailableError) as error:
            await ask(session, way, target)
        assert error.value.reached
        return str(error.value)


async def _events(session: Session, way: Called, target: Target) -> object:
    return [found async for found in client(session, way).process(target, [Event("a", "k", b"1")])]


async def _components(session: Session, way: Called, target: Target) -> object:
    calls = CellCalls(session, ring("live"), SystemClock(), ends=way.way.ends)
    return await HttpCellControl(calls).components(target, 10)


OK: Final = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@pytest.mark.parametrize("ask", [_events, _components])
@pytest.mark.parametrize(
    "answer",
    [
        OK + b'\r\n{"index":0,"outcome":"ok","x":' + b"[" * 7000 + b"]" * 7000 + b"}\n",
        OK + b"\r\n[" + b"[" * 7000 + b"]" * 7000 + b"]\n",
        OK + b"\r\n" + b"x" * 600_000 + b"\n",
        OK + b'\r\n[{"name":"\xff","healthy":true}]\n',
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"Content-Encoding: gzip\r\n\r\nno gzip at all\n",
        OK + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
    ],
    ids=["deep", "deep list", "a long line", "no UTF-8", "a bad chunk", "no gzip", "a long header", "no HTTP"],
)
def test_a_malformed_answer_is_a_cell_that_is_out_of_reach(way: Called, answer: bytes, ask: Ask) -> None:
    """It is the one error that ends an attempt with this cell, and nothing else."""
    assert run(_told(way, answer, ask))


def test_a_call_for_which_no_file_descriptor_is_left_is_not_the_cells_fault(way: Called) -> None:
    """It has an error of its own, so that nobody takes it for a cell that can't be reached."""

    async def story() -> None:
        async with session_of(way.client) as session:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                with pytest.raises(NoDescriptorError):
                    await _events(session, way, Target(CELL, 1, "127.0.0.1:1", 1, 1))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    run(story())


def test_what_comes_in_pieces_counts_up_to_what_is_not_proven(way: Called) -> None:
    """A line that is cut in two is one line, and what was proven before a forged line has its result."""
    found, got = list[int](), asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proofs = proofs_for(await reader.readuntil(b"\r\n\r\n"))
        lines = [proofs.line(b'{"index":%d,"outcome":"ok"}' % index) for index in range(4)]
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + lines[0] + lines[1][:9])
        await got.wait()
        writer.write(lines[1][9:] + lines[2] + lines[3].replace(b"3", b"4", 1))

    async def read(client: HttpCellClient, target: Target) -> None:
        async for result in client.process(target, [Event("a", "k", b"1")] * 5):
            found.append(result.index)
            got.set()

    async def story() -> None:
        async with listening(way, reply) as (session, target):
            with pytest.raises(CellUnavailableError, match="a result line is not proven"):
                await read(client(session, way), target)

    run(story())
    assert found == [0, 1, 2]


@pytest.mark.parametrize("status", [200, 401, 409, 307])
def test_an_answer_that_is_not_proven_comes_to_nothing_and_is_told_once(way: Called, status: int) -> None:
    """Something that answers in a cell's place confirms no event, and a person is told what to do; well again, too."""
    told: list[DistrustedCall | CellTrusted] = []
    forged = b'{"index":0,"outcome":"ok"}'
    honest = asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proofs = proofs_for(await reader.readuntil(b"\r\n\r\n"))
        said = (200, proofs.line(forged)) if honest.is_set() else (status, forged + b" " + b"0" * 32 + b"\n")
        writer.write(b"HTTP/1.1 %d X\r\nLocation: /\r\nConnection: close\r\n\r\n%b" % said)

    async def story() -> None:
        async with listening(way, reply) as (session, target):
            made = client(session, way, told.append)
            for _ in range(2):
                with pytest.raises((CellUnavailableError, CellRefusedError)):
                    await anext(made.process(target, [Event("a", "k", b"1")]))
            honest.set()
            assert [r.index async for r in made.process(target, [Event("a", "k", b"1")])]

    run(story())
    assert [record.tell for record in told if isinstance(record, DistrustedCall)] == [True, False]
    assert told[-1] == CellTrusted(CELL)


def test_a_connection_carries_one_call_after_the_other(way: Called) -> None:
    """Also when the end of an answer comes by itself, after its last result, as from a busy worker."""
    opened = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length.group(1)))
            line = proofs_for(head).line(b'{"index":0,"outcome":"ok"}')
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(line), line))
            await asyncio.sleep(0.05)  # noqa: TID251 - the worker is busy
            writer.write(b"0\r\n\r\n")

    async def story() -> None:
        async with listening(way, serve) as (session, target):
            for _ in range(4):
                assert await _events(session, way, target)
                await asyncio.sleep(0.2)  # noqa: TID251 - the end of the answer comes

    run(story())
    assert opened == 1 or way.client == "aiohttp"  # which opens one for each such call
