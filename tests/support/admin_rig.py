"""The Admin API on a registry in memory, asked without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from router.adapters.api_tokens import Tokens
from router.adapters.clock import SystemClock
from router.api.feed import FleetFeed
from router.bootstrap.admin import admin_api
from router.bootstrap.processes import guarded_api
from router.core.callers import Role, line_of
from router.core.fleet.overview import About
from router.core.models import ComponentView, Target
from router.ports import Clock
from router.services.dead_letters import DeadLetters
from router.services.unforeseen import Unforeseen
from router.settings import load
from tests.support.attribute_keys import KEYS
from tests.support.command_line import Operated
from tests.support.dead_letter_world import Queue
from tests.support.keys import SECRET

VIEWER: Final = "view-c7a0f1e2d3b4a5968778695a4b3c2d1e"
OPERATOR: Final = "operate-1f2e3d4c5b6a79880716253443526170"
TOKENS: Final = ",".join([line_of("vera", Role.VIEW, VIEWER), line_of("otto", Role.OPERATE, OPERATOR)])
LOOPBACK: Final = ("127.0.0.1", 40_000)
ELSEWHERE: Final = ("10.0.0.9", 40_000)


@dataclass(frozen=True)
class Said:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    body: Any  # None: no JSON

    @property
    def kind(self) -> str:
        """The last word of a problem's type."""
        return str(self.body["type"]).rpartition(":")[2]


class AdminRig:
    """An Admin API with these tokens, on some cells that serve."""

    def __init__(self, tokens: str = TOKENS, clock: Clock | None = None, **variables: str) -> None:
        self.registry = Operated()
        self.contents = self.registry.contents
        self.told: list[Any] = []
        clock = clock or SystemClock()
        unforeseen = Unforeseen(self, clock)
        settings = load({"CELLROUTER_SECRET": SECRET, "CELLROUTER_API_TOKENS": tokens, **variables})
        about = About("router", "here", "live", "0.1.0")
        self.feed = FleetFeed(about, self.registry, self, list, clock, unforeseen)
        self.dead, self.source = Queue("dead", clock), Queue("source", clock)
        queues = {"dead": self.dead, "source": self.source}
        letters = DeadLetters(self.dead, "source", lambda *_: True, queues.__getitem__, KEYS, clock)
        believers = [Tokens(settings.api.token_source(), clock)]
        self.api = admin_api(believers, self.registry, self.feed, lambda: nullcontext(letters), clock, unforeseen)
        self.app = guarded_api(self.api, settings)

    def observe(self, record: Any) -> None:
        self.told.append(record)

    async def components(self, target: Target, within_s: float) -> list[ComponentView]:
        return []

    async def restart(self, target: Target, component: str, within_s: float) -> None:
        raise AssertionError("nobody asks for this")

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Said:
        """Ask once, and return what is answered."""
        return asyncio.run(self.ask(method, path, body, **more))

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = OPERATOR,
        client: tuple[str, int] = LOOPBACK,
        raw: bytes | None = None,
        values: Mapping[str, Any] | None = None,
        **headers: str,
    ) -> Said:
        """Ask once; a header's name is given with underscores."""
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        given = {"host": "127.0.0.1:8080", "content-type": "application/json"}
        given |= {"authorization": f"Bearer {token}"} if token is not None else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        path, _, query = path.partition("?")
        query += "&".join(f"{name}={quote(str(value))}" for name, value in (values or {}).items())
        sent: list[Any] = []

        waits = False

        async def receive() -> dict[str, Any]:
            nonlocal waits
            if waits:
                await asyncio.Event().wait()  # the client stays
            waits = True
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "client": client}
        scope["headers"] = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
        await self.app(scope, receive, send)
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        text = b"".join(message.get("body", b"") for message in sent[1:])
        is_json = head["content-type"].endswith("json")
        return Said(sent[0]["status"], head, json.loads(text) if is_json else None)
