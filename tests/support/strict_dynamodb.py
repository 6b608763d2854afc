"""A server that follows what AWS documents of DynamoDB more strictly than MiniStack does, for the store's suite.

Beyond MiniStack: transactions take time and cancel each other where they meet on an item, a token is known to be in
progress, reads and deletions may be done in part, answers get lost, and write units are counted. Every request is
checked against botocore's service model. It also keeps objects as S3 does, as far as a store's bucket needs it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from botocore.session import get_session
from botocore.validate import ParamValidator

Item = dict[str, Any]
MODEL: Final = get_session().get_service_model("dynamodb")
MAX_ITEM: Final = 400 * 1024
MAX_TRANSACTION: Final = 4 * 1024 * 1024
MAX_READ: Final = 16 * 1024 * 1024


class RefusedError(Exception):
    """DynamoDB refuses a request: its code, and what else the answer says."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.code = code
        self.more = more


@dataclass
class Told:
    """What a test tells the server to do wrong, and what the server has counted."""

    faults: deque[tuple[str, str]] = field(default_factory=deque)
    """The next faults: operation, and `lost` (done, no answer), `unheard` (not done, no answer) or an error's code."""
    in_flight_s: float = 0.0  # how long a transaction takes
    forgets_tokens: bool = False
    at_most: int = 1000  # items that one call reads or deletes
    calls: list[str] = field(default_factory=list)
    write_units: int = 0
    read_units: int = 0
    most_in_flight: int = 0  # transactions at once


class StrictDynamo:
    """The server's state: one table for every name, with the key `id`."""

    def __init__(self) -> None:
        self.told = Told()
        self.items: dict[str, Item] = {}
        self.objects: dict[str, bytes] = {}
        self._held: set[str] = set()  # ids of items in transactions under way
        self._in_flight = 0
        self._tokens: dict[str, tuple[str, bool]] = {}  # by token: the request, and whether it is done

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request of either service."""
        raw = await request.read()
        if "X-Amz-Target" not in request.headers:
            return self._s3(request.method, request.path.split("/", 2)[-1], raw)
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        self.told.calls.append(operation)
        fault = self.told.faults.popleft()[1] if self.told.faults and self.told.faults[0][0] == operation else ""
        try:
            found = await self._do(operation, json.loads(raw), fault)
        except RefusedError as error:
            if error.code == "unheard":
                return _cut(request)
            body = {"__type": f"com.amazonaws.dynamodb.v20120810#{error.code}", "message": error.code, **error.more}
            return web.json_response(body, status=500 if error.code == "InternalServerError" else 400)
        return _cut(request) if fault == "lost" else web.json_response(found)

    async def _do(self, operation: str, asked: Any, fault: str) -> Item:
        if fault and fault != "lost":
            raise RefusedError(fault)
        report = ParamValidator().validate(asked, MODEL.operation_model(operation).input_shape)
        if report.has_errors():
            raise RefusedError("ValidationException", reason=report.generate_report())
        match operation:
            case "TransactWriteItems":
                return await self._transact(asked["TransactItems"], asked["ClientRequestToken"])
            case "UpdateItem":
                return self._update(asked)
            case "BatchGetItem":
                return self._read(asked["RequestItems"])
            case "BatchWriteItem":
                return self._delete(asked["RequestItems"])
        raise RefusedError("UnknownOperationException")

    async def _transact(self, actions: Sequence[Item], token: str) -> Item:
        if len(actions) > 100 or len(token) > 36:
            raise RefusedError("ValidationException")
        writes = [next(iter(action.items())) for action in actions]
        ids = [_id_of(write.get("Key") or write["Item"]) for _, write in writes]
        if len(set(ids)) < len(ids):
            raise RefusedError("ValidationException")
        if (known := self._tokens.get(token)) and not self.told.forgets_tokens:
            return self._replay(known, json.dumps(actions))
        self._tokens[token] = (json.dumps(actions), False)
        try:
            self._check_conflicts(ids)
            self._held |= set(ids)
            self._in_flight += 1
            self.told.most_in_flight = max(self.told.most_in_flight, self._in_flight)
            try:
                await asyncio.sleep(self.told.in_flight_s)  # noqa: TID251 - the server's own time
                self._write_all(writes, ids)
            finally:
                self._in_flight -= 1
                self._held -= set(ids)
        except RefusedError:
            del self._tokens[token]
            raise
        self._tokens[token] = (json.dumps(actions), True)
        return {}

    @staticmethod
    def _replay(known: tuple[str, bool], actions: str) -> Item:
        request, done = known
        if request != actions:
            raise RefusedError("IdempotentParameterMismatchException")
        if not done:
            raise RefusedError("TransactionInProgressException")
        return {}

    def _check_conflicts(self, ids: Sequence[str]) -> None:
        if self._held & set(ids):
            met = [index for index, each in enumerate(ids) if each in self._held]
            raise _cancelled(dict.fromkeys(met, "TransactionConflict"), ids)

    def _write_all(self, writes: Sequence[tuple[str, Item]], ids: Sequence[str]) -> None:
        failed = {
            index: "ConditionalCheckFailed"
            for index, (item_id, (_, write)) in enumerate(zip(ids, writes, strict=True))
            if not _meets(self.items.get(item_id, {}), write)
        }
        if failed:
            old = {
                index: self.items[ids[index]]
                for index in failed
                if writes[index][1].get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and ids[index] in self.items
            }
            raise _cancelled(failed, ids, old)
        before = [self.items.get(item_id, {}) for item_id in ids]
        after = [_written(*write, old) for write, old in zip(writes, before, strict=True)]
        if sum(map(_size, after)) > MAX_TRANSACTION:
            raise RefusedError("ValidationException")
        for item in after:
            self._put(item, 2)

    def _put(self, item: Item, factor: int) -> None:
        if (size := _size(item)) > MAX_ITEM:
            raise RefusedError("ValidationException")
        self.told.write_units += factor * -(-max(size, _size(self.items.get(_id_of(item), {}))) // 1024)
        self.items[_id_of(item)] = item

    def _update(self, asked: Item) -> Item:
        item_id = _id_of(asked["Key"])
        if item_id in self._held:
            raise RefusedError("TransactionConflictException")
        if not _meets(self.items.get(item_id, {}), asked):
            raise RefusedError("ConditionalCheckFailedException")
        self._put(_written("Update", asked, self.items.get(item_id, {})), 1)
        return {}

    def _read(self, tables: Mapping[str, Any]) -> Item:
        (name, asked), *others = tables.items()
        ids = [_id_of(key) for key in asked["Keys"]]
        if others or not 0 < len(ids) <= 100 or len(set(ids)) < len(ids) or not asked.get("ConsistentRead"):
            raise RefusedError("ValidationException")
        found: list[Item] = []
        size = done = 0
        for item_id in ids[: self.told.at_most]:
            item = self.items.get(item_id, {})
            size += _size(item)
            if size > MAX_READ:
                break
            done += 1
            self.told.read_units += max(1, -(-_size(item) // 4096))
            found += [item] if item else []
        left = {name: asked | {"Keys": asked["Keys"][done:]}} if done < len(ids) else {}
        return {"Responses": {name: found}, "UnprocessedKeys": left}

    def _delete(self, tables: Mapping[str, Any]) -> Item:
        ((name, requests),) = tables.items()
        if not 0 < len(requests) <= 25:
            raise RefusedError("ValidationException")
        for request in requests[: self.told.at_most]:
            gone = self.items.pop(_id_of(request["DeleteRequest"]["Key"]), {})
            self.told.write_units += max(1, -(-_size(gone) // 1024))
        left = requests[self.told.at_most :]
        return {"UnprocessedItems": {name: left} if left else {}}

    def _s3(self, method: str, key: str, raw: bytes) -> web.Response:
        self.told.calls.append(f"{method} object")
        if method == "PUT":
            self.objects[key] = raw
            return web.Response()
        if method == "DELETE":
            self.objects.pop(key, None)
            return web.Response(status=204)
        if key not in self.objects:
            return web.Response(status=404, body=b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")
        return web.Response(body=self.objects[key])


def _cancelled(codes: Mapping[int, str], ids: Sequence[str], old: Mapping[int, Item] | None = None) -> RefusedError:
    reasons: list[Item] = [{"Code": codes.get(index, "None")} for index in range(len(ids))]
    for index, item in (old or {}).items():
        reasons[index]["Item"] = item
    return RefusedError("TransactionCanceledException", CancellationReasons=reasons)


def _cut(request: web.Request) -> web.Response:
    """End the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def _id_of(item: Mapping[str, Any]) -> str:
    match item.get("id"):
        case {"S": str(found)} if 0 < len(found.encode()) <= 2048:
            return found
    raise RefusedError("ValidationException")


def _size(item: Mapping[str, Any]) -> int:
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "B":
            return len(base64.b64decode(content, validate=True))
        case "N":
            return len(content) // 2 + 2
        case "NS" if content and len(set(content)) == len(content):
            return sum(len(each) // 2 + 2 for each in content)
    raise RefusedError("ValidationException")


def _written(kind: str, write: Item, old: Item) -> Item:
    """Return the item as a write leaves it."""
    if kind == "Put":
        return dict(write["Item"])
    values = write.get("ExpressionAttributeValues", {})
    item: Item = old | write["Key"]
    for clause, body in re.findall(r"(SET|ADD|REMOVE) (.*?)(?= SET | ADD | REMOVE |$)", write["UpdateExpression"]):
        for part in re.split(r", (?![^(]*\))", body):
            if clause == "REMOVE":
                item.pop(part, None)
            elif clause == "ADD":
                name, value = part.split(" ")
                item[name] = {"N": str(int(item.get(name, {"N": "0"})["N"]) + int(values[value]["N"]))}
            else:
                name, _, value = part.partition(" = ")
                default = re.fullmatch(r"if_not_exists\((\w+), (:\w+)\)", value)
                item[name] = item.get(default[1], values[default[2]]) if default else values[value]
    return item


def _meets(item: Item, write: Item) -> bool:
    """Whether an item meets a write's condition: comparisons of numbers and existence, AND before OR."""
    condition = write.get("ConditionExpression")
    values: Collection[Any] = write.get("ExpressionAttributeValues", {})
    if condition is None:
        return True
    return any(all(_holds(item, term, values) for term in each.split(" AND ")) for each in condition.split(" OR "))


def _holds(item: Item, term: str, values: Any) -> bool:
    if (exists := re.fullmatch(r"attribute_(not_)?exists\((\w+)\)", term)) is not None:
        return (exists[2] in item) != bool(exists[1])
    name, sign, value = term.split(" ")
    if name not in item:
        return False
    found, wanted = int(item[name]["N"]), int(values[value]["N"])
    return {"=": found == wanted, "<=": found <= wanted}[sign]


@contextmanager
def strict_dynamo() -> Iterator[tuple[StrictDynamo, str]]:
    """Run the server in a thread of its own; yields it and its endpoint URL."""
    server, started, loop = StrictDynamo(), threading.Event(), asyncio.new_event_loop()
    ports: list[int] = []

    async def serve() -> None:
        app = web.Application(client_max_size=32 * 1024 * 1024)
        app.router.add_route("*", "/{any:.*}", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        started.set()
        await stop.wait()
        await runner.cleanup()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        assert started.wait(30), "the server starts"
        yield server, f"http://127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
