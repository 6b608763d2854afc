"""Where Redis' password comes from when it does not stand in the URL: a file, Secrets Manager, or IAM.

A part of the wire contract, since routers, controllers and workers log in by the same rules. A password that is rotated
is read again where it lies: connections that are open go on, and new ones use what Redis takes. No text of an error
holds a password.
"""

from __future__ import annotations

import asyncio
import weakref
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlencode, urlsplit

import msgspec
import structlog
from redis.credentials import UsernamePasswordCredentialProvider
from redis.exceptions import AuthenticationError

from cell_worker.contract.addresses import BY_IAM, BY_SECRET
from cell_worker.contract.secret_file import read_secrets
from cell_worker.contract.strict_reader import StrictReader, Unreadable

TOKEN_S: Final = 900
"""How long an IAM token may be used to log in: ElastiCache takes no longer one."""
LOGGED_IN_S: Final = 3600.0
"""How long a connection is used that a token has opened. ElastiCache cuts it after 12 h, in the middle of a call."""
KEPT_S: Final = 60.0
"""How long a value of Secrets Manager is kept while Redis takes it."""
REFUSED_KEPT_S: Final = 5.0
"""How long it is kept while Redis refuses it: as soon as that, a new one is looked for."""
READ_TIMEOUT_S: Final = 10.0
_MAX_PASSWORD_CHARS: Final = 300


class _SecretValue(msgspec.Struct, frozen=True):
    """A value of Secrets Manager as its own rotation writes it."""

    password: str


SECRET_VALUE: Final = StrictReader[_SecretValue]("value of a secret", _SecretValue, 64 * 1024)


class LoginRefusedError(AuthenticationError):
    """Redis takes no password that there is now. Connections that are open have nothing to do with that."""


class PasswordSource(Protocol):
    """Gives the passwords that Redis may take now."""

    async def passwords(self, *, anew: bool) -> tuple[str, ...]:
        """Return them, the likeliest first; `anew` when Redis has just refused those. Raises LoginRefusedError."""
        ...


class _InFile:
    """A file with a password a line; it is read at each login."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def passwords(self, *, anew: bool) -> tuple[str, ...]:  # noqa: ARG002 - a file is always read anew
        found = read_secrets(self._path)
        if isinstance(found, Unreadable):
            raise LoginRefusedError(f"the file {self._path} gives no password: {found.why}")
        return found


class _InSecretsManager:
    """A secret of AWS Secrets Manager, read with the process' own role; its newest value is kept for a minute."""

    def __init__(self, arn: str, endpoint_url: str | None) -> None:
        self._arn = arn
        self._endpoint_url = endpoint_url
        self._password = ""
        self._why = "it was not read yet"
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def passwords(self, *, anew: bool) -> tuple[str, ...]:
        kept_s = REFUSED_KEPT_S if anew or not self._password else KEPT_S
        if asyncio.get_running_loop().time() - self._read_at > kept_s:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read(), name="password of Redis")
            await asyncio.shield(self._reading)  # who waits is cut off after 2 s; the next one finds what it brought
        if not self._password:
            raise LoginRefusedError(f"Secrets Manager gives no password: {self._why}")
        return (self._password,)

    async def _read(self) -> None:
        """Read the value. Never raises: while that fails, the last one goes on."""
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                found = password_in(await self._value())
        except Exception as error:  # noqa: BLE001 - whatever AWS and its client raise
            found = Unreadable(f"{type(error).__name__}: {error!s:.300}")
        self._read_at = asyncio.get_running_loop().time()
        if isinstance(found, Unreadable):
            self._why = found.why
            log = structlog.get_logger("redis")
            log.error("the password of Redis can't be read from Secrets Manager", secret=self._arn, why=found.why)
        else:
            self._password = found

    async def _value(self) -> str:
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - a command that needs only Redis stays quick

        from cell_worker.contract.aws_session import UnredirectedSession, aws_session  # noqa: PLC0415

        options = AioConfig(
            http_session_cls=UnredirectedSession,
            region_name=_region_of(self._arn),
            connect_timeout=3,
            read_timeout=5,
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        place = {"endpoint_url": self._endpoint_url} if self._endpoint_url else {}
        async with aws_session().create_client("secretsmanager", config=options, **place) as client:
            answer = await client.get_secret_value(SecretId=self._arn)
        return str(answer.get("SecretString") or "")


class _ByIam:
    """Tokens of ElastiCache, signed with the process' own role: each is good for one login within 15 minutes."""

    def __init__(self, user: str, cache: str, region: str, *, serverless: bool) -> None:
        self._user = user
        self._cache = cache
        self._region = region
        self._serverless = serverless
        self._credentials: Any = None

    async def passwords(self, *, anew: bool) -> tuple[str, ...]:
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - a command that needs only Redis stays quick

        from cell_worker.contract.aws_session import CurrentCredentials  # noqa: PLC0415 - as above

        if self._credentials is None:
            self._credentials = CurrentCredentials()
        if anew:
            self._credentials.refused("InvalidClientTokenId")
        try:
            found = await self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise LoginRefusedError(f"no token can be signed: {error!s:.300}") from error
        return (token(found, self._user, self._cache, self._region, serverless=self._serverless),)


def token(credentials: Any, user: str, cache: str, region: str, *, serverless: bool = False) -> str:
    """Sign a token by which ElastiCache lets an IAM user in: a presigned URL of `connect`, without its scheme."""
    from botocore.auth import SigV4QueryAuth  # noqa: PLC0415 - a command that needs only Redis stays quick
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - as above

    asked = {"Action": "connect", "User": user} | ({"ResourceType": "ServerlessCache"} if serverless else {})
    request = AWSRequest("GET", f"http://{cache}/?{urlencode(asked)}")
    SigV4QueryAuth(credentials, "elasticache", region, expires=TOKEN_S).add_auth(request)
    return str(request.url).removeprefix("http://")


class Login:
    """Logs connections in: tries what the source gives, and once more what it gives anew when Redis refuses that."""

    def __init__(self, user: str, source: PasswordSource, lasts_s: float | None = None) -> None:
        self._user = user
        self._source = source
        self._lasts_s = lasts_s
        self._taken: str | None = None  # the password that Redis took last

    async def on_connect(self, connection: Any) -> None:
        """Log a connection in that was just opened, as redis-py's `redis_connect_func`. Raises LoginRefusedError."""
        try:
            await self._log_in(connection)
        except asyncio.CancelledError:
            await connection.disconnect(nowait=True)  # redis-py would take it for one that is ready to be used
            raise

    async def _log_in(self, connection: Any) -> None:
        refused = LoginRefusedError("there is no password to try")
        tried: list[str] = []
        for anew in (False, True):
            for password in await self._source.passwords(anew=anew):
                if password in tried:
                    continue
                tried.append(password)
                connection.credential_provider = UsernamePasswordCredentialProvider(self._user, password)
                try:
                    await (connection.on_connect() if connection.is_connected else self._open_anew(connection))
                except AuthenticationError as error:
                    refused = LoginRefusedError(str(error))
                else:
                    self._took(connection, password)
                    return
        raise refused

    async def _open_anew(self, connection: Any) -> None:
        """Open a connection again that a refused login has closed, and log it in by its credential provider."""
        connection.redis_connect_func = None
        try:
            await connection.connect()
        finally:
            connection.redis_connect_func = self.on_connect

    def _took(self, connection: Any, password: str) -> None:
        if self._lasts_s is not None:
            # Marked, it is opened anew when its call has ended, which no call sees.
            end = weakref.WeakMethod(connection.mark_for_reconnect)
            asyncio.get_running_loop().call_later(self._lasts_s, lambda: (mark := end()) and mark())
        elif self._taken not in (None, password):
            structlog.get_logger("redis").info("Redis takes another password now: it was rotated")
        self._taken = password


def login_of(url: str, password_from: str, region: str, endpoint_url: str | None = None) -> Login:
    """Make the login that `why_no_login` has nothing against; AWS is at `endpoint_url`, or where botocore finds it."""
    user = unquote(urlsplit(url).username or "")
    if (iam := BY_IAM.fullmatch(password_from)) is not None:
        source = _ByIam(user, iam["cache"], region, serverless=iam["serverless"] is not None)
        return Login(user, source, LOGGED_IN_S)
    if BY_SECRET.fullmatch(password_from) is not None:
        return Login(user, _InSecretsManager(password_from, endpoint_url))
    return Login(user, _InFile(Path(password_from)))


def password_in(value: str) -> str | Unreadable:
    """Find the password in a secret's value: the whole text, or `password` of a JSON object."""
    password = value
    if value.lstrip().startswith("{"):
        found = SECRET_VALUE.read(value.encode())
        if isinstance(found, Unreadable):
            return Unreadable("its value is JSON without a password")
        password = found.password
    if not 0 < len(password) <= _MAX_PASSWORD_CHARS or not password.isprintable():
        return Unreadable(
            f"its value is no password: it is empty, has more than {_MAX_PASSWORD_CHARS} characters or signs"
        )
    return password


def _region_of(arn: str) -> str:
    found = BY_SECRET.fullmatch(arn)
    assert found is not None, "why_no_login has looked at it"
    return found["region"]
