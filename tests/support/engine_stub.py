"""A Docker engine that runs nothing: it keeps containers as records, and behaves as old, new and broken engines do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web


@dataclass
class EngineStub:
    """What the engine says, and what it was asked."""

    newest: str = "1.47"  # the version of the API
    oldest: str = "1.24"
    phantoms: set[str] = field(default_factory=set)  # names that it keeps for containers that are not there
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)  # by name
    spoken: set[str] = field(default_factory=set)  # versions that clients have spoken

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request as an engine does."""
        version, path = re.fullmatch(r"(?:/v([\d.]+))?(/.*)", request.path).groups()  # type: ignore[union-attr]
        if path == "/version":
            return web.json_response({"ApiVersion": self.newest, "MinAPIVersion": self.oldest})
        self.spoken.add(version)
        if not _numbers(self.oldest) <= _numbers(version) <= _numbers(self.newest):
            return _refused(400, f"client version {version} is too old. Minimum supported API version is {self.oldest}")
        method, parts = request.method, str(path).strip("/").split("/")
        if (method, parts) == ("POST", ["containers", "create"]):
            return self._created(request.query["name"], await request.json())
        return self._asked(method, parts)

    def _asked(self, method: str, parts: list[str]) -> web.Response:
        match method, parts:
            case "POST", ["volumes", "create"]:
                return web.json_response({"Name": "volume"}, status=201)
            case "GET", ["containers", "json"]:
                return web.json_response(list(self.containers.values()))
            case "GET", ["containers", name, "json"] if name in self.containers:
                return web.json_response(self.containers[name])
            case "POST", ["containers", _, "start"]:
                return web.Response(status=204)
        return _refused(404, "No such container")

    def _created(self, name: str, config: dict[str, Any]) -> web.Response:
        if name in self.phantoms or name in self.containers:
            message = f'Conflict. The container name "/{name}" is already in use by container "0123".'
            return _refused(409, message)
        self.containers[name] = {"Id": name, "Names": [f"/{name}"], "Labels": config["Labels"], "State": "running"}
        return web.json_response({"Id": name, "Warnings": []}, status=201)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)


@asynccontextmanager
async def engine_stub(stub: EngineStub, directory: Path) -> AsyncIterator[str]:
    """Run the engine at a socket in this directory; yields a DOCKER_HOST."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stub.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(directory / "stub.sock")).start()
        yield f"unix://{directory}/stub.sock"
    finally:
        await runner.cleanup()
