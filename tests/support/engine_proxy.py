"""A proxy before the Docker engine that lets through what docs/how-to/containers.md lists, and notes what was asked."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from tests.support.paths import REPOSITORY

SOCKET: Final = "/var/run/docker.sock"
PAGE: Final = REPOSITORY / "docs" / "how-to" / "containers.md"


def documented() -> dict[str, re.Pattern[str]]:
    """Read the page's lines such as `GET /containers/{id}/json`, each as a pattern of what it allows."""
    calls = re.findall(r"^\| `(GET|POST|DELETE) (/[^`]*)` \|", PAGE.read_text(), re.MULTILINE)
    any_id = {path: path.replace("{id}", "[^/]+") for _, path in calls}
    return {f"{method} {path}": re.compile(rf"{method} (/v[\d.]+)?{any_id[path]}") for method, path in calls}


@asynccontextmanager
async def engine_proxy(directory: Path) -> AsyncIterator[tuple[str, set[str]]]:
    """Run the proxy; yields a DOCKER_HOST and the documented calls made so far. It refuses all other calls with 403."""
    used: set[str] = set()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(SOCKET)) as engine:

        async def forward(request: web.Request) -> web.StreamResponse:
            asked = f"{request.method} {request.path}"
            allowed = [name for name, pattern in documented().items() if pattern.fullmatch(asked)]
            if not allowed:
                return web.json_response({"message": f"{asked} is not in {PAGE.name}"}, status=403)
            used.update(allowed)
            headers = {"Content-Type": "application/json"}
            url = f"http://engine{request.rel_url}"
            async with engine.request(request.method, url, data=await request.read(), headers=headers) as reply:
                body = await reply.read()
                return web.Response(body=body, status=reply.status, content_type=reply.content_type)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.UnixSite(runner, str(directory / "engine.sock")).start()
            yield f"unix://{directory}/engine.sock", used
        finally:
            await runner.cleanup()
