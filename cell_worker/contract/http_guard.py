"""What stands before every page of routers, controllers and workers: whom it is served to, and what a browser may do.

A part of the wire contract. A page of another site may ask these processes through its visitor's browser, under a name
of its own that leads here (DNS rebinding). So only names that nobody else can own are answered.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final

from starlette.exceptions import HTTPException

from cell_worker.contract.protocol import Reason

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BODY_BYTES: Final = 64 * 1024
"""No page but that for events takes a longer body."""
NOTHING_LOADS: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The content security policy of what is no page for people."""
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""What every answer says to a browser, beside its content security policy."""
SAFEGUARDS: Final = (*_HEADERS, (b"content-security-policy", NOTHING_LOADS.encode()))
"""What an answer that is no page for people says to a browser."""
OWN_FILES: Final = f"{NOTHING_LOADS}; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'"
"""The content security policy of a page for people: it loads files of this process, and has no inline script."""
_MAX_NAME: Final = 80  # characters of a name that is shown


class GuardedApp:
    """An ASGI application that answers only under its own names, takes no long body and sends browsers' safeguards.

    `setting` is where its names are set, `policies` has the content security policy of each path that needs another one
    than NOTHING_LOADS.
    """

    def __init__(
        self, app: AsgiApp, hosts: Collection[str], setting: str, policies: Mapping[str, str] | None = None
    ) -> None:
        self._app = app
        self._setting = setting
        self._hosts = frozenset(host.lower().rstrip(".") for host in hosts)
        self._policies = policies or {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI asks."""
        left = MAX_BODY_BYTES
        policy = self._policies.get(scope["path"], NOTHING_LOADS).encode()

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [*message.get("headers", ())]
                named = {name for name, _ in given}  # a file that never changes may be kept
                own = [(name, value) for name, value in _HEADERS if name not in named]
                message = {**message, "headers": [*given, *own, (b"content-security-policy", policy)]}
            await send(message)

        async def receive_bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY_BYTES} bytes are taken here"
                )
            return message

        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if (why := why_not_served(host, self._hosts)) is None:
            await self._app(scope, receive_bounded, send_guarded)
        else:
            await _refuse(send_guarded, f"{why}; if it is its own, name it in {self._setting}")


def why_not_served(host: str, hosts: Collection[str]) -> Reason | None:
    """Say why a request with this Host header is refused; None when it is served.

    IP addresses are served, names without a dot (localhost, a service of compose), and the names in `hosts`. Nobody can
    make those lead here who does not own them. Browsers always send the header; health checks may leave it out.
    """
    name = host.rpartition(":")[0] if re.search(r":\d*$", host) and not host.endswith("]") else host
    name = name.lower().rstrip(".")
    if "." not in name.strip("[]") and ":" not in name:
        return None
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        if name in hosts:
            return None
    else:
        return None
    shown = ascii(name[:_MAX_NAME])
    return f"this process does not answer under the name {shown}"


async def _refuse(send: Send, why: Reason) -> None:
    head = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": HTTPStatus.MISDIRECTED_REQUEST, "headers": head})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})
