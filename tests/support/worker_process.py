"""A real worker process for tests, and the requests that a router would send to it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from redis import Redis

from cell_worker.contract import protocol
from cell_worker.contract.keys import CellKeys, cell_secret
from cell_worker.contract.proofs import AnswerProofs, CallHeader, hash_of, prove_call
from tests.support.aio import run, until
from tests.support.keys import SECRET, cell_keys
from tests.support.paths import REPOSITORY

_seen: dict[str, protocol.InstanceRecord] = {}
"""By its address, each instance whose lease was read."""


class WorkerProcess:
    """A process `python -m cell_worker` with an environment of its own.

    Use it as a context manager: the process never outlives the test.
    """

    def __init__(self, redis_url: str, directory: Path, **settings: object) -> None:
        self.redis_url = redis_url
        self.directory = directory
        self.environment = str(settings.pop("environment", f"t-{uuid.uuid4().hex[:8]}"))
        self.settings = {
            "id": "cell-0000",
            "environment": self.environment,
            "secret": "",
            "handler": "tests.support.trivial:handle",
            "redis_url": redis_url,
            "data_dir": directory / "volume",
            "sink": "none",
            "lease_ttl_s": 1,
            "drain_timeout_s": 10,
            **settings,
        }
        self.settings["secret"] = settings.get("secret") or cell_secret(
            SECRET, self.environment, str(self.settings["id"])
        )
        self.log = directory / f"worker-{uuid.uuid4().hex[:4]}.log"
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "cell_worker"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=self.environ(), stdout=log, stderr=log)
        return self

    def environ(self) -> dict[str, str]:
        """The environment of the process."""
        return {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            **{f"CELL_{name.upper()}": str(value) for name, value in self.settings.items()},
        }

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what its handler has left

    def said(self) -> str:
        """The log of the process so far."""
        return self.log.read_text()

    def lease(self) -> tuple[protocol.Lease, protocol.InstanceRecord] | None:
        """The newest lease of the environment whose signature is right and that was not released, with its record."""
        with Redis.from_url(self.redis_url) as redis:
            found: Any = redis.hgetall(protocol.redis_key(self.environment, "leases"))
        leases = [msgspec.json.decode(value, type=protocol.Lease) for value in found.values()]
        records = [(lease, record) for lease in leases if not lease.ended and (record := self._record(lease))]
        return max(records, key=lambda pair: pair[1].generation, default=None)

    def _record(self, lease: protocol.Lease) -> protocol.InstanceRecord | None:
        record = protocol.verify_record(lease.record, CellKeys.of(str(self.settings["secret"])).lease)
        if record is not None:
            _seen[record.address] = record
        return record

    def ready(self) -> protocol.InstanceRecord:
        """Wait until the worker has a ready lease, and return its record."""

        async def has_lease() -> bool:
            assert self.process.poll() is None, self.said()
            found = self.lease()
            return found is not None and found[0].ready and self._is_mine(found[1])

        run(until(has_lease, f"a ready lease; its log: {self.said()}"))
        found = self.lease()
        assert found is not None
        return found[1]

    def _is_mine(self, record: protocol.InstanceRecord) -> bool:
        return record.address in self.said()

    def has_taken(self) -> None:
        """Wait until the log says that the worker has taken the cell's store."""

        async def said_so() -> bool:
            assert self.process.poll() is None, self.said()
            return "has the cell's store from now on" in self.said()

        run(until(said_so, "it has taken the store"))

    def url(self) -> str:
        """Wait until the worker is ready, and return its base URL."""
        return f"http://{self.ready().address}"

    def components(self, url: str) -> dict[str, tuple[bool, str]]:
        """Return by its name whether each component is healthy, and what it says of itself."""
        return {part["name"]: (part["healthy"], part["detail"]) for part in json.loads(get(f"{url}/components")[1])}

    def admit(self, generation: int) -> None:
        """Admit a generation of the cell in Redis, as the controller does."""
        record = json.dumps({"cell_id": "cell-0000", "generation": generation})
        with Redis.from_url(self.redis_url) as redis:
            redis.hset(protocol.redis_key(self.environment, "cells"), "cell-0000", record)

    def lines(self) -> int:
        """Count the lines that the outbox of the cell's store has."""
        with closing(sqlite3.connect(self.directory / "volume" / "store.db")) as db:
            return int(db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])

    def events(self) -> set[str]:
        """The ids of the events that are done, as the cell's store says."""
        with closing(sqlite3.connect(self.directory / "volume" / "store.db")) as db:
            rows = db.execute("SELECT substr(identity, instr(identity, '/') + 1) FROM done").fetchall()
        return {row[0] for row in rows}


def body(*ids: str, generation: int = 1, cell_id: str = "cell-0000", **more: bool) -> bytes:
    """A batch as JSON, with an event for each id, or with `canary` or `rehearse` such a probe."""
    events = [{"event_id": i, "partition_key": "k", "attempt": 1, "body": {"n": 1}, **more} for i in ids]
    batch = {"cell_id": cell_id, "generation": generation, "epoch": 1, "deadline_s": 30, "events": events}
    return json.dumps(batch).encode()


def post(url: str, data: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """POST bytes as a router does, and return status and body, without the proofs of lines that are proven.

    The status is 0 when the connection ends without an answer.
    """
    given, answers = call_header("POST", url, data) if headers is None else (dict(headers), None)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, given), timeout=30) as reply:
            return reply.status, _proven(reply.read(), answers if "x-ndjson" in reply.headers["Content-Type"] else None)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except http.client.IncompleteRead as cut_off:
        return 0, _proven(cut_off.partial, answers)
    except OSError as error:
        return 0, str(error)


def call_header(method: str, url: str, data: bytes) -> tuple[dict[str, str], AnswerProofs]:
    """Return the header of a proven call to a worker whose lease was read, and what its answer is checked with."""
    parts = urlsplit(url)
    record = _seen[parts.netloc]
    keys, audience = (
        cell_keys(record.environment, record.cell_id),
        protocol.instance_name(record.cell_id, record.generation),
    )
    call = CallHeader(time.time_ns() // 10**6, uuid.uuid4().hex[:16], 1, hash_of(data), "")
    call = prove_call(keys.call, call, method, audience, parts.path)
    return {"Authorization": call.text()}, AnswerProofs(keys.answer, call.proof)


def _proven(body: bytes, answers: AnswerProofs | None) -> str:
    if answers is None or not body:
        return body.decode()
    lines = zip_longest(answers.read_lines(body), body.splitlines())
    return "\n".join((line if proven is None else proven).decode() for proven, line in lines)


def get(url: str) -> tuple[int, str]:
    """GET a page, and return status and body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def outcomes(lines: str) -> dict[int, str]:
    """The outcome in each result line, by the event's index."""
    return {result["index"]: result["outcome"] for result in map(json.loads, lines.splitlines())}


async def in_parallel(url: str, batches: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """POST several batches at the same time, and return status and body of each answer."""
    return await asyncio.gather(
        *(asyncio.to_thread(post, f"{url}{protocol.EVENTS_PATH}", body(*ids)) for ids in batches)
    )
