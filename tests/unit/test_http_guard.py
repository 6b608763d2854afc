"""Whom the pages of routers and controllers are served to, and what they tell a browser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from cell_worker.contract.http_guard import MAX_BODY_BYTES, SAFEGUARDS, GuardedApp, why_not_served
from router.api.app import create_app
from router.api.dashboard import FILES, INDEX, add_dashboard
from router.bootstrap.processes import guarded_api
from router.settings import load
from tests.support.fake_clock import FakeClock
from tests.support.fleet_world import FleetWorld
from tests.support.keys import SECRET

FOREIGN: Final = re.compile(rb"(?:https?:)?//(?!www\.w3\.org/)[a-z0-9-]+\.[a-z]", re.IGNORECASE)
"""What may make a browser ask another host."""


async def nothing(*_: Any) -> Sequence[Any]:
    """Stands in for what the pages show."""
    return []


def api(**variables: str) -> tuple[FastAPI, GuardedApp]:
    """Make a controller's application, which has every route there is, and put the guard before it."""
    app = create_app("controller", CollectorRegistry(), list, list, nothing, nothing, nothing)
    world = FleetWorld(FakeClock())
    world.feed.close()  # its stream would have no end
    add_dashboard(app, world.feed)
    return app, guarded_api(app, load({"CELLROUTER_SECRET": SECRET, **variables}))


def ask(app: Any, path: str, *, host: str = "127.0.0.1:8080", parts: Sequence[bytes] = ()) -> tuple[int, Any, bytes]:
    """Make one request, with a body in these parts; returns its status, its headers and its body."""
    sent: list[Mapping[str, Any]] = []
    left = list(parts) or [b""]

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()  # the client stays
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST" if parts else "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", host.encode())] if host else [],
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent)


def paths(app: FastAPI) -> list[str]:
    """List every path that the application has."""
    return [route.path for route in app.routes if isinstance(route, APIRoute)]


@pytest.mark.parametrize("path", [*paths(api()[0]), "/no-such-page", "/docs", "/redoc", "/openapi.json"])
def test_every_answer_has_the_safeguards_and_names_no_other_host(path: str) -> None:
    """A browser may neither frame it, nor guess its kind, nor load anything from elsewhere for it."""
    _, headers, content = ask(api()[1], path)
    policy = headers[b"content-security-policy"].decode()
    own = {b"content-security-policy"} | ({b"cache-control"} if path.startswith("/static/") else set())
    assert {name: value for name, value in SAFEGUARDS if name not in own}.items() <= headers.items()
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert not FOREIGN.search(content), FOREIGN.search(content)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_there_are_no_pages_of_the_framework(path: str) -> None:
    """They load a script from another host."""
    assert ask(api()[1], path)[0] == 404


def test_the_dashboard_has_no_script_but_its_own_files() -> None:
    """Its policy lets only this process' files run, so that no text from outside ever becomes a script."""
    page = INDEX.decode()
    assert re.findall(r"<script[^>]*>\s*[^<\s]", page) == []
    assert re.findall(r"<style|\s(?:style|on\w+)=", page) == []
    policy = ask(api()[1], "/")[1][b"content-security-policy"].decode()
    assert set(re.findall(r"(?:script|style|connect|img)-src ([^;]+)", policy)) == {"'self'"}
    markup = rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|eval\(|new Function|setHTML|DOMParser"
    assert [name for name, content in FILES.items() if re.search(markup, content)] == []


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("", True),  # a health check by HTTP/1.0
        ("127.0.0.1:8080", True),
        ("10.0.3.7", True),  # a load balancer's health check
        ("[::1]:8080", True),
        ("[fd00::7]", True),
        ("localhost:8080", True),
        ("router-0:8080", True),  # Prometheus, in compose
        ("cells.example.org", True),
        ("CELLS.example.org.:8080", True),
        ("evil.example:8080", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("cells.example.org.evil.example", False),
        ("cells.example.org@evil.example", False),
        ("localhost.evil.example:8080", False),
        ("[::1].evil.example", False),
        ("evil.example.:8080", False),
        ("a:b.example", False),
        ("\x1b[31mevil.example", False),
    ],
)
def test_only_names_that_nobody_else_can_own_are_answered(host: str, served: bool) -> None:
    """A page of evil.example, a name that its owner makes lead here, reads nothing."""
    why = why_not_served(host, {"cells.example.org"})
    assert (why is None) == served, why
    assert "\x1b" not in (why or "")


def test_a_refused_name_is_told_where_to_allow_it() -> None:
    """An operator who asks by a name of their own finds the setting in the answer, and then is answered."""
    for path in paths(api()[0]):
        status, headers, content = ask(api()[1], path, host="cells.example.org")
        assert status == 421
        assert headers[b"x-frame-options"] == b"DENY"
        assert b"name it in api.allowed_hosts" in content
    allowed = api(CELLROUTER_API_ALLOWED_HOSTS="a.example.org, cells.example.org")[1]
    assert ask(allowed, "/healthz", host="cells.example.org:8080")[0] == 200


def test_a_long_body_is_refused_where_a_page_reads_it() -> None:
    """It is counted as it comes, so that a client that states no length is bounded too."""
    app = FastAPI(openapi_url=None)

    @app.post("/read")
    async def read(request: Request) -> int:
        return len(await request.body())

    guarded = GuardedApp(app, (), "no setting")
    assert ask(guarded, "/read", parts=[b"x" * MAX_BODY_BYTES])[0] == 200
    assert ask(guarded, "/read", parts=[b"x" * MAX_BODY_BYTES, b"x"])[0] == 413
