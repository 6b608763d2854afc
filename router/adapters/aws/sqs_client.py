"""SQS by its JSON protocol, without botocore in each call: that would cost more CPU than all the rest of the router.

botocore still decides where credentials come from and when they are renewed, which endpoint a region has, which
certificates are trusted, and whether there is a proxy.
"""

from __future__ import annotations

import io
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from email.utils import parsedate_to_datetime
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final, Protocol

import aiohttp
import msgspec
import structlog
from botocore.exceptions import BotoCoreError
from botocore.httpsession import ProxyConfiguration
from botocore.utils import get_environ_proxies
from yarl import URL

from cell_worker.contract.aws_session import CurrentCredentials, aws_session
from router.adapters.aws.session import AwsConfig, told_as_settings, trusted_by
from router.adapters.aws.sigv4 import Credentials, Signer
from router.adapters.clock import SystemClock
from router.adapters.http_session import http_session
from router.adapters.lean_http.connection import LeanAnswer
from router.adapters.lean_http.session import LeanSession
from router.core.errors import ConfigError
from router.ports import Clock

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Ten bodies of 1 MiB whose every byte is escaped with six; a lower limit would leave some messages unreceivable."""
CONNECT_TIMEOUT_S: Final = 5.0

_KEEP_ALIVE_S: Final = 12.0  # as aiobotocore has it
_RACE_S: Final = 1.0
"""A call that begins on an idle connection may cross with its end, which the server decides. It fails at once, unread,
and is made again on another connection: otherwise a healthy queue would be told of as out of reach."""
_MAX_DIRECT_BYTES: Final = 1024 * 1024  # aiohttp warns about a larger body that is given as bytes
_MAX_MESSAGE_CHARS: Final = 500
_OK: Final = 200
_SKEWED: Final = {
    "InvalidSignatureException",
    "RequestExpired",
    "RequestInTheFuture",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_FAULTS: Final = (aiohttp.ClientError, BotoCoreError, TimeoutError, OSError, ValueError, RecursionError)
"""ValueError stands for msgspec's DecodeError and for a header that can't be sent, RecursionError for deep nesting."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(dict[str, Any])


class CredentialSource(Protocol):
    """Gives the credentials to sign with, and is told when AWS takes them no more."""

    async def get_frozen_credentials(self) -> Credentials:
        """Return the credentials that are valid now."""
        ...

    def refused(self, code: str) -> None:
        """Note an error code of AWS."""
        ...


class SqsError(Exception):
    """A call failed. Without a `code` from SQS, whether it had an effect is not known; `__cause__` says more."""

    def __init__(self, message: str, code: str = "", status: int = 0) -> None:
        self.code = code  # such as AWS.SimpleQueueService.NonExistentQueue; empty where SQS gave none
        self.message = message
        self.status = status  # of HTTP; 0 without an answer
        super().__init__(f"{code}: {message}" if code else message)


class SqsClient:
    """Calls one endpoint through a connection pool of its own.

    It retries nothing but what crossed with the end of its connection: the caller decides about all else.

    A call ends within CONNECT_TIMEOUT_S + read_timeout_s, a wait for a free connection included. A renewal of
    credentials by botocore, which is rare, comes on top. It is made by the lean HTTP client, or by aiohttp where a
    proxy is between, or where `lean` is false.
    """

    def __init__(
        self,
        endpoint_url: str,
        region: str,
        credentials: CredentialSource,
        clock: Clock,
        *,
        connections: int,
        read_timeout_s: float,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        lean: bool = True,
    ) -> None:
        self.endpoint_url = endpoint_url
        self.takes_groups = True  # on standard queues, as far as is known
        self._url = URL(endpoint_url)
        # What is signed must be what is sent, so this client sets the header itself and aiohttp does not.
        self._host = self._url.host_port_subcomponent or ""
        self._path = self._url.raw_path
        self._signer = Signer(region)
        self._credentials = credentials
        self._clock = clock
        self._offset_s = 0.0  # how far the server's clock is ahead of ours
        limits = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_S + read_timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | LeanSession
        if lean and proxy is None:
            self._session = LeanSession(limit=connections, keepalive_timeout=_KEEP_ALIVE_S, ssl=tls, timeout=limits)
        else:
            self._session = http_session(
                limit=connections,
                keepalive_timeout=_KEEP_ALIVE_S,
                ssl=tls or True,
                timeout=limits,
                headers={"Accept-Encoding": "identity", "User-Agent": "cellrouter"},
                skip_auto_headers=("Accept",),
                auto_decompress=False,  # no compression was asked for; so a small answer can't become a huge one
                proxy=proxy,
            )

    async def call(self, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """POST one operation, such as `ReceiveMessage`, and return its answer. Raises SqsError for every failure."""
        try:
            status, headers, body = await self._post(f"AmazonSQS.{operation}", _encoder.encode(parameters))
            if status == _OK:
                return _answer(body)
        except _FAULTS as error:
            raise SqsError(f"{type(error).__name__}: {error}"[:_MAX_MESSAGE_CHARS]) from error
        refusal = _refusal(status, headers, body)
        self._learn(refusal.code, headers)
        raise refusal

    async def close(self) -> None:
        """Close all connections; calls in progress fail."""
        await self._session.close()

    async def _post(self, target: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        began = self._clock.monotonic()
        try:
            return await self._post_once(target, body)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if self._clock.monotonic() - began > _RACE_S:
                raise
            return await self._post_once(target, body)

    async def _post_once(self, target: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        if self._session.closed:
            raise ConnectionError("the client is closed")
        credentials = await self._credentials.get_frozen_credentials()
        now = self._clock.time_ms() / 1000 + self._offset_s
        headers = self._signer.headers(credentials, self._host, self._path, target, body, now)
        data: Any = body
        if len(body) > _MAX_DIRECT_BYTES and isinstance(self._session, aiohttp.ClientSession):
            data = io.BytesIO(body)
        session = self._session
        async with session.request("POST", self._url, data=data, headers=headers, allow_redirects=False) as response:
            read = await _read(response)
            # The headers are read only of a refusal.
            return response.status, {} if response.status == _OK else response.headers, read

    def _learn(self, code: str, headers: Mapping[str, str]) -> None:
        """Learn from a refusal, for the next call: ask for other credentials, and follow the server's clock."""
        self._credentials.refused(code)
        server = _date_s(headers.get("Date", ""))
        if code in _SKEWED and server is not None:
            self._offset_s = server - self._clock.time_ms() / 1000


async def open_sqs_client(
    stack: AsyncExitStack,
    config: AwsConfig,
    *,
    connections: int,
    read_timeout_s: float,
    clock: Clock | None = None,
) -> SqsClient:
    """Open a client that closes with the stack. Raises ConfigError."""
    clock = clock or SystemClock()
    credentials = CurrentCredentials(clock.monotonic)
    session = aws_session(credentials)
    with told_as_settings("sqs", config.region):
        async with session.create_client("sqs", region_name=config.region, endpoint_url=config.endpoint_url) as model:
            endpoint_url, region = await _endpoint_of(model), model.meta.region_name
        tls = trusted_by(session)
    proxies = get_environ_proxies(endpoint_url)
    asked = proxies.get(URL(endpoint_url).scheme, "")  # the others, such as ALL_PROXY, botocore asks no more than we do
    if "://" in asked and not asked.startswith(("http://", "https://")):
        raise ConfigError("HTTPS_PROXY, HTTP_PROXY: AWS is reached by no other proxies than http:// and https://")
    proxy = ProxyConfiguration(proxies).proxy_url_for(endpoint_url)
    if config.lean_http and proxy is not None:
        _tell_of_proxy(endpoint_url)
    client = SqsClient(
        endpoint_url,
        region,
        credentials,
        clock,
        connections=connections,
        read_timeout_s=read_timeout_s,
        tls=tls,
        proxy=proxy,
        lean=config.lean_http,
    )
    stack.push_async_callback(client.close)
    return client


@lru_cache(maxsize=8)
def _tell_of_proxy(endpoint_url: str) -> None:
    """Say, once of an endpoint, that the lean HTTP client can't reach it."""
    structlog.get_logger("sqs").info(
        "SQS is called through a proxy, so by aiohttp, at more than three times the CPU a call",
        endpoint=endpoint_url,
    )


async def _endpoint_of(model: Any) -> str:
    """Return where botocore would send a call, which in some regions is not what `meta.endpoint_url` says.

    Nothing is sent: the call is answered before it is signed.
    """
    found: list[str] = []

    def answer(params: Mapping[str, Any], **_: Any) -> Any:
        found.append(params["url"])
        return SimpleNamespace(status_code=_OK), {}

    model.meta.events.register("before-call.sqs.ListQueues", answer)
    await model.list_queues()
    return found[0]


async def _read(response: aiohttp.ClientResponse | LeanAnswer) -> bytes:
    """Read a whole answer. Raises ValueError for one of more than MAX_ANSWER_BYTES."""
    chunks: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise ValueError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return b"".join(chunks)


def _answer(body: bytes) -> dict[str, Any]:
    """Decode an answer and leave out its nulls, which mean the same as a missing field."""
    found = _decoder.decode(body) if body else {}
    return {name: value for name, value in found.items() if value is not None}


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> SqsError:
    found: dict[str, Any] = {}
    cause: Exception | None = None
    try:
        found = _answer(body)
    except (ValueError, RecursionError) as error:
        cause = error
    old_code = headers.get("x-amzn-query-error", "").partition(";")[0]
    code = old_code or str(found.get("__type", "")).rpartition("#")[2]
    message = str(found.get("message") or found.get("Message") or f"HTTP {status}")
    # Only the first line: where a signature is wrong, the others repeat all that was signed, the token included.
    refusal = SqsError(message.partition("\n")[0][:_MAX_MESSAGE_CHARS], code, status)
    refusal.__cause__ = cause
    return refusal


def _date_s(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
