"""A stolen cell's secret, tried against every endpoint of real workers, against leases and answers.

SECURITY.md says what it can still do: all that is asserted here to work belongs there.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pytest

from cell_worker.contract import protocol
from cell_worker.contract.keys import CellKeys, Key, cell_secret
from cell_worker.contract.proofs import AnswerProofs, CallHeader, hash_of, prove_call, read_call
from cell_worker.contract.redis_client import connect
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.client import HttpCellClient
from router.adapters.cells.ends import PLAIN
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry, Told
from router.core.errors import CellUnavailableError
from router.core.messages.proofs import PROOF, believed, signed
from router.core.models import Draft, Event, Message, Outcome, Result, Target
from router.core.telemetry import LeaseRefused
from tests.support.aio import run, until
from tests.support.keys import SECRET, field_of, ring
from tests.support.tcp_server import serving
from tests.support.worker_process import WorkerProcess, body, get, outcomes, post

pytestmark = pytest.mark.one_kind  # it is about secrets, whatever the servers

STOLEN, VICTIM = "cell-0000", "cell-0001"
PATHS: Final = sorted(path for name, path in vars(protocol).items() if name.endswith("_PATH"))
METHODS: Final = ("POST", "PUT", "PATCH", "DELETE")
TTL_S: Final = 1


@dataclass
class World:
    """The stolen cell and its victim, as real workers of one environment, and all that the thief has."""

    stolen: WorkerProcess
    victim: WorkerProcess
    stolen_at: str  # host:port
    victim_at: str

    @property
    def environment(self) -> str:
        """Return the name of the environment of both."""
        return self.stolen.environment

    @property
    def secret(self) -> str:
        """Return what was stolen."""
        return str(self.stolen.settings["secret"])

    @property
    def keys(self) -> CellKeys:
        """Return what follows from the stolen secret."""
        return CellKeys.of(self.secret)

    def all_keys(self) -> tuple[CellKeys, ...]:
        """Return those, and what a thief gets who renames the secret to the victim's."""
        return self.keys, CellKeys.of(self.secret.replace(STOLEN, VICTIM))


@pytest.fixture(scope="module")
def world(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Runs both workers."""
    settings = {"environment": f"t-{uuid.uuid4().hex[:8]}", "chaos": True, "generation": 1}
    folders = [tmp_path_factory.mktemp(name) for name in ("stolen", "victim")]
    with (
        WorkerProcess(redis_url, folders[0], id=STOLEN, **settings) as stolen,
        WorkerProcess(redis_url, folders[1], id=VICTIM, **settings) as victim,
    ):
        yield World(stolen, victim, ready(stolen, STOLEN), ready(victim, VICTIM))


def ready(worker: WorkerProcess, cell_id: str) -> str:
    """Wait until a worker is ready, and return its address."""
    record = worker.ready()
    assert record.cell_id == cell_id
    return record.address


def called(method: str, url: str, keys: CellKeys, audience: str, path: str, data: bytes = b"") -> int:
    """Make a call that is proven with these keys, and return the status of its answer."""
    call = CallHeader(time.time_ns() // 10**6, uuid.uuid4().hex[:16], 1, hash_of(data), "")
    header = prove_call(keys.call, call, method, audience, path).text()
    request = urllib.request.Request(f"{url}{path}", data, {"Authorization": header}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("path", PATHS)
def test_no_call_to_another_cell_is_taken(path: str, world: World) -> None:
    """By no method, whoever the proof names: the other cell doesn't drain, restart, fail or process anything."""
    url, data = f"http://{world.victim_at}", body("e-stolen", cell_id=VICTIM)
    names, where = (protocol.instance_name(VICTIM, 1), protocol.instance_name(STOLEN, 1)), path.format(name="store")
    for method, audience, keys in itertools.product(METHODS, names, world.all_keys()):
        assert called(method, url, keys, audience, where, data) == 401, f"{method} {path}"
    assert get(f"{url}/readyz")[0] == 200
    assert outcomes(post(f"{url}{protocol.EVENTS_PATH}", body(f"e-{uuid.uuid4()}", cell_id=VICTIM))[1]) == {0: "ok"}
    assert "e-stolen" not in world.victim.events()


def test_what_a_router_has_sent_it_is_of_no_use_elsewhere(world: World, tmp_path: Path, redis_url: str) -> None:
    """Neither with the victim, nor with the stolen cell's next generation, nor a second time with itself."""

    async def captured() -> bytes:
        got = b""

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal got
            got = await reader.readuntil(b"\r\n\r\n")
            got += await reader.readexactly(int(got.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
            writer.close()

        async with listening(take) as address, client(world) as router:
            with suppress(CellUnavailableError):
                await results(router, Target(STOLEN, 1, address, 1, 1))
        return got

    async def replayed(request: bytes, address: str) -> int:
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        status = int((await reader.readline()).split()[1])
        writer.close()
        return status

    async def story(following: str) -> None:
        request = await captured()
        assert await replayed(request, world.victim_at) == 401
        assert await replayed(request, following) == 401
        assert [await replayed(request, world.stolen_at) for _ in range(2)] == [200, 401]

    with WorkerProcess(redis_url, tmp_path, id=STOLEN, environment=world.environment, generation=2) as following:
        run(story(ready(following, STOLEN)))


def test_its_own_cells_instances_obey_a_stolen_secret_until_it_is_replaced(
    world: World, tmp_path: Path, redis_url: str
) -> None:
    """That is what remains: the secret is the cell's, and its next generation has the same."""
    with WorkerProcess(redis_url, tmp_path, id=STOLEN, environment=world.environment, generation=3) as following:
        url, audience = f"http://{ready(following, STOLEN)}", protocol.instance_name(STOLEN, 3)
        assert called("POST", url, world.keys, audience, protocol.DRAIN_PATH) == 202


def test_no_lease_of_another_cell_is_believed(world: World) -> None:
    """Written over the honest one, or as a later generation, or copied from there: the honest one comes back."""
    environment, told = world.environment, list[Told]()
    leases = protocol.redis_key(environment, "leases")

    def forged(generation: int, key: Key) -> bytes:
        record = protocol.InstanceRecord(environment, VICTIM, generation, "thief", "127.0.0.1:9", 16, 0)
        lease = protocol.Lease(2**52, ready=True, record=protocol.sign_record(record, key), beat=1000)
        proof = protocol.beat_proof(lease, key)
        return msgspec.json.encode(msgspec.structs.replace(lease, proof=proof))

    async def story() -> None:
        async with connect(world.victim.redis_url) as redis:
            registry = RedisRegistry(redis, environment, ring(environment), SystemClock(), tell=told.append)
            own = await redis.hget(leases, field_of(environment, STOLEN, 1))
            assert isinstance(own, bytes)
            keys, renamed = (keys.lease for keys in world.all_keys())
            forgeries = {1: forged(1, renamed), 6: forged(6, renamed), 7: forged(7, keys), 8: own}
            await redis.hset(leases, mapping={field_of(environment, VICTIM, n): text for n, text in forgeries.items()})
            seen = {(lease.cell_id, lease.generation, lease.address) for lease in (await registry.snapshot()).leases}
            assert {address for cell, _, address in seen if cell == VICTIM} <= {world.victim_at}
            assert not {6, 7, 8} & {generation for cell, generation, _ in seen if cell == VICTIM}

            async def is_back() -> bool:
                lease = (await registry.snapshot()).lease(VICTIM, 1)
                return lease is not None and lease.live and lease.address == world.victim_at

            await until(is_back, "the victim's own lease is there again")

    run(story())
    refused = {said.instance for said in told if isinstance(said, LeaseRefused)}
    assert refused >= {protocol.instance_name(VICTIM, number) for number in (6, 7, 8)}
    assert world.victim.process.poll() is None


@pytest.mark.parametrize("whose", ["the environment's", "another cell's"])
def test_no_worker_starts_with_more_than_its_own_secret(whose: str, tmp_path: Path) -> None:
    """So nobody gives a cell by mistake what would open all others to its thief."""
    secret = SECRET if whose == "the environment's" else cell_secret(SECRET, "live", VICTIM)
    settings = {"id": STOLEN, "environment": "live", "secret": secret}
    with WorkerProcess("redis://127.0.0.1:1/0", tmp_path, **settings) as worker:
        assert worker.process.wait(60) == 2, worker.said()
    assert "CELL_SECRET" in worker.said()
    assert secret not in worker.said()


def test_no_answer_in_the_place_of_another_cell_is_believed(world: World) -> None:
    """Not one that the stolen keys prove, not an older one of the cell itself, and no redirect is followed."""
    line, older = b'{"index":0,"outcome":"ok"}', list[bytes]()
    victims = CellKeys.of(cell_secret(SECRET, world.environment, VICTIM))

    def answering(make: Callable[[CallHeader], bytes]) -> Callable[..., Awaitable[None]]:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            [header] = [text.partition(b": ")[2] for text in head if text.lower().startswith(b"authorization:")]
            call = read_call(header)
            assert call is not None
            writer.write(make(call))

        return reply

    def ok(call: CallHeader, key: Key) -> bytes:
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + AnswerProofs(key, call.proof).line(line)

    def honest(call: CallHeader) -> bytes:
        older.append(ok(call, victims.answer))
        return older[0]

    async def asked(make: Callable[[CallHeader], bytes]) -> list[Result]:
        async with listening(answering(make)) as address, client(world) as router:
            return await results(router, Target(VICTIM, 1, address, 1, 1))

    async def story() -> None:
        assert [result.outcome for result in await asked(honest)] == [Outcome.OK]  # so it is the proof that decides
        forgeries: list[Callable[[CallHeader], bytes]]
        forgeries = [partial(ok, key=key) for keys in world.all_keys() for key in each(keys)]
        elsewhere = f"Location: http://{world.stolen_at}{protocol.EVENTS_PATH}\r\n".encode()
        redirect = b"HTTP/1.1 307 Temporary Redirect\r\n" + elsewhere + b"Content-Length: 0\r\n\r\n"
        for make in (*forgeries, lambda _: older[0], lambda _: redirect):
            with pytest.raises(CellUnavailableError):
                await asked(make)

    run(story())


def each(keys: CellKeys) -> tuple[Key, ...]:
    """List a cell's keys."""
    return keys.lease, keys.call, keys.answer


@asynccontextmanager
async def listening(reply: Callable[..., Awaitable[None]]) -> AsyncIterator[str]:
    """Listen in a cell's place, at the address that is yielded."""
    async with serving(reply) as port:
        yield f"127.0.0.1:{port}"


@asynccontextmanager
async def client(world: World) -> AsyncIterator[HttpCellClient]:
    """Make what a router calls cells with."""
    async with aiohttp.ClientSession() as session:
        yield HttpCellClient(CellCalls(session, ring(world.environment), SystemClock(), ends=PLAIN), 60)


async def results(router: HttpCellClient, target: Target) -> list[Result]:
    """Send an event, and return what comes back."""
    return [result async for result in router.process(target, [Event("e", "k", b"{}")])]


def test_no_attribute_that_the_stolen_keys_prove_is_believed(world: World) -> None:
    """Nor one that is proven with keys that are derived from the secret as routers derive theirs."""
    environment = world.environment
    draft = Draft("{}", {"cellrouter.killed": "1,2,3", "cellrouter.attempt": "4"})

    class Keys:
        """What signs for the thief."""

        def __init__(self, key: Key) -> None:
            self.attributes = (key,)

    routers = ring(environment)
    for key in (*each(world.keys), *ring(environment, world.secret).attributes):
        forged = signed(draft, Keys(key)).attributes
        assert PROOF in forged
        assert believed(Message("m", "r", draft.body, 1, 1, forged), routers).attributes == {}
    honest = signed(draft, routers).attributes
    assert believed(Message("m", "r", draft.body, 1, 1, honest), routers).attributes == honest
