"""Everything that reads what comes from outside a process, each as a function of the bytes that came."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

from fastapi import HTTPException

from cell_worker import app, lease
from cell_worker.api import Event as HandlerEvent
from cell_worker.api import RejectEvent
from cell_worker.calls import CallChecker, CallFault
from cell_worker.contract import protocol
from cell_worker.contract.place import place_in
from cell_worker.contract.proofs import read_call
from cell_worker.contract.redis_client import connect
from cell_worker.contract.redis_login import password_in
from cell_worker.handlers.security import logs
from cell_worker.handlers.security.evaluation import pool
from cell_worker.handlers.security.sigma import RuleError, load_rules
from cell_worker.lease import Heartbeat, LeaseLostError
from router.adapters.aws import sqs_client
from router.adapters.aws.sqs import SqsSource
from router.adapters.cells import chaos
from router.adapters.cells.client import HttpCellClient
from router.adapters.cells.control import HttpCellControl
from router.adapters.provisioners import docker_containers
from router.adapters.provisioners.subprocess import SubprocessConfig, SubprocessProvisioner
from router.adapters.redis.lease_reader import LeaseReader
from router.adapters.redis.notifications import Notifications
from router.adapters.redis.registry import RedisRegistry
from router.adapters.saved_routing import SavedRouting
from router.adapters.secret_source import SecretSource
from router.core.addresses import host_of
from router.core.errors import CellRouterError, RegistryUnavailableError
from router.core.messages import dead_letter, pointers
from router.core.messages.origin import origin_of
from router.core.messages.parser import ATTEMPT, Extraction, Parser
from router.core.models import MAX_WHOLE, Draft, Event, Message, Result
from router.core.slot_map.slots import SLOTS
from router.settings import check
from tests.support.fake_clock import FakeClock
from tests.support.fuzz_admin import ADMIN
from tests.support.fuzz_answers import CELL, TARGET, Forger, Session, Sqs
from tests.support.fuzz_archive import OF_THE_ARCHIVE
from tests.support.fuzz_ecs import OF_ECS
from tests.support.fuzz_held import origin_in, packed_message, part_of_a_letter, unproven
from tests.support.fuzz_own_tables import OF_OWN_TABLES
from tests.support.fuzz_redis import NOW, FakeRedis, said
from tests.support.fuzz_shapes import a_shape, attributes_of_a_cloud_event, question_of_sns
from tests.support.fuzz_shop import OF_THE_SHOP
from tests.support.fuzz_store import OF_STORES
from tests.support.fuzz_traces import trace_context
from tests.support.keys import cell_keys, field_of, lease_key, ring

Reader = Callable[[bytes], object]


@contextmanager
def a_file(raw: bytes, name: str) -> Iterator[Path]:
    """Write a file with this content, in a folder of its own."""
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(raw)
        yield path


def registry(answer: Any) -> RedisRegistry:
    """Make a registry on a server that gives this answer to everything."""
    return RedisRegistry(cast("Any", FakeRedis(answer)), "live", ring("live"), FakeClock())


def snapshot(**parts: Any) -> object:
    """Read a snapshot of which some parts are given, and check what must hold for whatever was read."""
    whole: dict[str, Any] = {"now": NOW, "epoch": b"", "blob": b"", "leader": b"", "cells": [], "leases": []}
    whole |= {"version": b"", "policy": b"", "routers": [], "cushioned": b""} | parts
    found = asyncio.run(registry([*whole.values()]).snapshot())
    assert all(cell_id == record.cell_id for cell_id, record in found.cells.items())
    assert all(0 <= record.generation <= MAX_WHOLE for record in found.cells.values())
    assert all(0 <= router.report.epoch <= MAX_WHOLE for router in found.routers)
    assert found.slot_map is None or len(found.slot_map.owners) == SLOTS
    return found


def _refused(*errors: type[BaseException]) -> Callable[[Reader], Reader]:
    """Take for an answer what a reader raises on purpose."""

    def wrapped(reader: Reader) -> Reader:
        def read(raw: bytes) -> object:
            with suppress(*errors):
                return reader(raw)
            return None

        return read

    return wrapped


@_refused(CellRouterError)
def _result_line(raw: bytes) -> object:
    return asyncio.run(_processed(Session(raw, lines=True)))


async def _processed(session: Session) -> list[Result]:
    return [r async for r in HttpCellClient(session.calls(), 60).process(TARGET, [Event("a", "k", b"1")])]


@_refused(CellRouterError)
def _forged_answer(raw: bytes) -> object:
    """Read what is not proven, which never comes to anything."""
    for status in (200, 401, 409):
        with suppress(CellRouterError):
            assert not asyncio.run(_processed(Forger(raw, status)))
    return asyncio.run(HttpCellControl(Forger(raw).calls()).components(TARGET, 1))


def _call_header(raw: bytes) -> object:
    """Read a call's header by itself, and as an instance does that has never been called."""
    checked = CallChecker(cell_keys("live", CELL), f"{CELL}/1").check(raw, "POST", "/v1/events", 0)
    assert checked.fault is CallFault.UNPROVEN
    return read_call(raw)


def _secret_file(raw: bytes) -> object:
    with a_file(raw, "secrets") as path:
        return SecretSource("", path, refuse_weak=True).read()


@_refused(CellRouterError)
def _components(raw: bytes) -> object:
    return asyncio.run(HttpCellControl(Session(raw).calls()).components(TARGET, 1))


@_refused(CellRouterError)
def _refusal(raw: bytes) -> object:
    fault = protocol.Fault(protocol.FaultKind.HANG)
    return asyncio.run(chaos.inject(Session(raw, 400).calls(), TARGET, fault))


def _lease(raw: bytes) -> object:
    told: list[object] = []
    reader = LeaseReader("live", ring("live"), [], told.append)
    leases = reader.read(0, 0, {field_of("live", CELL, 1): raw})
    assert not leases
    assert len(told) == 1
    return told


def _instance_record(raw: bytes) -> object:
    payload = raw.decode("utf-8", "replace")
    key = cell_keys("live", CELL).lease
    return protocol.verify_record(f"{key.proof(payload.encode())}.{payload}", key)


@_refused(RejectEvent)
def _log_object(raw: bytes) -> object:
    return list(logs.parse([raw], logs.LogObject("b", "k", None), 1 << 20))


@_refused(RejectEvent)
def _body_of_an_event(raw: bytes) -> object:
    return HandlerEvent("id", "key", 1, raw).json()


def _cells_record(raw: bytes) -> object:
    redis = cast("Any", FakeRedis(raw))
    claimed = asyncio.run(lease._claimed(redis, "live", CELL, 7))
    assert claimed > 7
    record = protocol.InstanceRecord("live", CELL, 1, "i", "127.0.0.1:1", 1, 0)
    heartbeat = Heartbeat(redis, record, lease_key(record), 2)
    with suppress(LeaseLostError):  # Redis says that the worker should end
        asyncio.run(heartbeat._beat())
    return heartbeat._fence.epoch


def _lease_in_its_place(raw: bytes) -> object:
    record = protocol.InstanceRecord("live", CELL, 1, "i", "127.0.0.1:1", 1, 0)
    heartbeat = Heartbeat(cast("Any", FakeRedis(raw)), record, lease_key(record), 2)
    heartbeat._check(raw, int(NOW))
    assert heartbeat._instance_of(protocol.LEASE.read(raw)) is None
    return heartbeat


def _process_id_file(raw: bytes) -> object:
    with a_file(raw, "any.pid") as path:
        config = SubprocessConfig(path.parent, {}, Path("/nowhere"), 1, str)
        return asyncio.run(SubprocessProvisioner(config, FakeClock(), print).observe())


def _saved_routing(raw: bytes) -> object:
    with a_file(raw, "routing") as path:
        return SavedRouting(path).load()


def _settings_file(raw: bytes) -> object:
    with a_file(raw, "cellrouter.toml") as path:
        return check({"CELLROUTER_CONFIG": str(path)})


@_refused(RuleError)
def _rule_file(raw: bytes) -> object:
    with a_file(raw, "rule.yml") as path:
        return load_rules(path.parent)


async def _from_queue(raw: bytes) -> None:
    client, message = cast("Any", Sqs(raw)), Message("id", "receipt", "{}", 0, 1)
    calls: Sequence[Callable[[SqsSource], Awaitable[object]]] = (
        lambda queue: queue.receive(10, 0, 30),
        lambda queue: queue.delete([message]),
        lambda queue: queue.set_visibility([message], 1),
        lambda queue: queue.send([Draft("{}"), Draft("{}", group_id="g")]),
        lambda queue: queue.max_bytes(),
    )
    for made in calls:
        source = SqsSource("a-queue", client, client)
        source._known_url = "https://known"
        with suppress(CellRouterError):
            await made(source)
        with suppress(CellRouterError):
            await made(SqsSource("a-queue", client, client))


async def _from_redis(raw: bytes) -> None:
    """Let a server that may be no Redis answer with these bytes, and end the connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read(1)
            writer.write(raw)
            await writer.drain()
            writer.close()

    record = protocol.InstanceRecord("live", CELL, 1, "i", "127.0.0.1:1", 1, 0)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as redis:
        with suppress(RegistryUnavailableError):
            await RedisRegistry(redis, "live", ring("live"), FakeClock()).snapshot()
        with suppress(*lease._REDIS_ERRORS):
            await Heartbeat(redis, record, lease_key(record), 2)._beat()
        await Notifications(redis, "changes").wait(0.001)


def _container(raw: bytes) -> object:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None  # aiodocker raises these, and the provisioner makes ProvisionError of them
    how = docker_containers.how_it_ended(found)
    if not docker_containers.is_ours(found):
        return how
    return docker_containers.key_of(found), docker_containers.address_of(found, "bridge")


def _message(raw: bytes, **attributes: str) -> Message:
    return Message("id", "receipt", raw.decode("utf-8", "replace"), 0, 1, attributes)


@_refused(CellRouterError)
def _parsed(raw: bytes) -> object:
    message = _message(raw)
    origin_of(message)
    return Parser(Extraction()).parse(message)


@_refused(CellRouterError)
def _parsed_by_path(raw: bytes) -> object:
    return Parser(Extraction(partition_key="detail.x || cell_id", event_id="id")).parse(_message(raw))


@_refused(CellRouterError)
def _from_hold(raw: bytes) -> object:
    return Parser(Extraction()).parse(_message(raw, **{ATTEMPT: raw[:40].decode("utf-8", "replace")}))


@_refused(CellRouterError)
def _pointer(raw: bytes) -> object:
    return pointers.pointer_in(raw.decode("utf-8", "replace"))


def _proposals(raw: bytes) -> object:
    return asyncio.run(registry([NOW, [b"an-id", raw], b"", b""]).petitions())


def _tidied(raw: bytes) -> object:
    return asyncio.run(registry([b"1", [raw, raw, b"key", raw]]).lead("owner", 1, 0))


def _named_by(raw: bytes) -> object:
    good = b'{"cell_id":"%s","generation":1}' % CELL.encode()
    return snapshot(cells=[raw, good], leases=[raw, b"{}"], routers=[raw, raw], leader=raw, cushioned=raw)


@_refused(CellRouterError)
def _ruling(raw: bytes) -> object:
    return asyncio.run(registry(raw)._ruling("an-id"))


@_refused(CellRouterError)
def _policy(raw: bytes) -> object:
    asyncio.run(registry([NOW, [b"version", raw, b"blob", b"{}"]]).policy())
    return asyncio.run(registry([NOW, [b"version", b"3", b"blob", raw]]).policy())


FUZZED: Final[Mapping[str, Reader]] = {
    # The strict readers, by their names, each through what uses it
    "result line": _result_line,
    **OF_THE_ARCHIVE,
    **OF_THE_SHOP,
    "components": _components,
    "refusal": _refusal,
    "lease": _lease,
    "instance record": _instance_record,
    "cell's record": _cells_record,
    "cell record": lambda raw: snapshot(cells=[CELL.encode(), raw]),
    "slot map": lambda raw: snapshot(epoch=b"1", blob=raw),
    "policy": _policy,
    "proposal": _proposals,
    "policy version": lambda raw: asyncio.run(registry([NOW, [b"1", raw]]).history()),
    "ruling": _ruling,
    "sample": lambda raw: asyncio.run(registry([b"router", said(zlib.compress(raw))]).samples()),
    "packed sample": lambda raw: asyncio.run(registry([b"router", raw]).samples()),
    "bytes of a packed sample": lambda raw: asyncio.run(registry([b"router", said(raw)]).samples()),
    "traffic": lambda raw: asyncio.run(registry([NOW, [b"router", raw]]).traffic()),
    "router report": lambda raw: snapshot(routers=[b"router", raw]),
    "condition": lambda raw: asyncio.run(registry([NOW, [CELL.encode(), raw, b"at", raw]]).conditions()),
    "audit entry": lambda raw: asyncio.run(registry([(b"1-0", {b"entry": raw}), (raw, {})]).audit(2)),
    "saved routing": _saved_routing,
    "process id file": _process_id_file,
    "trace context": trace_context,
    "batch": _refused(app.RefusedError)(app._decode),
    "fault": _refused(HTTPException)(lambda raw: app._decode_fault(raw, ("store",))),
    "task's metadata": place_in,
    "value of a secret": lambda raw: password_in(raw.decode("utf-8", "replace")),
    # What reads in another way
    "header of a call": _call_header,
    "forged answer": _forged_answer,
    "secret file": _secret_file,
    "names in the registry": _named_by,
    "offer": lambda raw: asyncio.run(registry([NOW, [], raw, raw]).petitions()),
    "tidied keys": _tidied,
    "lease in its place": _lease_in_its_place,
    "container": _container,
    "answer of Redis": lambda raw: asyncio.run(_from_redis(raw)),
    "answer to a queue": lambda raw: asyncio.run(_from_queue(raw)),
    "answer of SQS": _refused(*sqs_client._FAULTS)(sqs_client._answer),
    "refusal of SQS": lambda raw: sqs_client._refusal(400, {}, raw),
    "message": _parsed,
    "message by path": _parsed_by_path,
    "shape of a message": a_shape,
    "CloudEvent in attributes": attributes_of_a_cloud_event,
    "question of SNS": question_of_sns,
    "held message": _from_hold,
    "unproven message": _refused(CellRouterError)(unproven),
    "what came beside a held event": origin_in,
    "packed message": packed_message,
    "part of a dead letter": part_of_a_letter,
    "S3 pointer": _pointer,
    "address": lambda raw: host_of(raw.decode("utf-8", "replace")),
    "dead letter": lambda raw: dead_letter.read(_message(raw)),
    "body of an event": _body_of_an_event,
    "CloudTrail log": _log_object,
    "rule file": _rule_file,
    "evaluator's answer": _refused(pool.EvaluationEnded)(pool.read_reply),
    "settings file": _settings_file,
    **OF_STORES,
    **OF_OWN_TABLES,
    **OF_ECS,
    **ADMIN,
}
"""By name. A strict reader that has no entry here fails a test, and so does a module that decodes and is not named in
`fuzz_decoding.py`."""
