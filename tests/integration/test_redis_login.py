"""Logins to Redis whose password is not in the URL: a file, Secrets Manager, IAM; and what happens at a rotation."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import structlog
from botocore.credentials import ReadOnlyCredentials
from redis import Redis as SyncRedis
from redis.exceptions import AuthenticationError

from cell_worker.contract import redis_login
from cell_worker.contract.addresses import why_no_login
from cell_worker.contract.redis_client import RedisFault, connect, fault_of
from cell_worker.contract.redis_login import Login, login_of, token
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sigv4 import signing_key
from tests.support import redis_kinds as kinds
from tests.support.aio import run, until

pytestmark = pytest.mark.one_kind  # it is about our own client; each test has a server of its own

OLD: Final = "the-old-password-of-redis"
NEW: Final = "the-new-password-of-redis"
USER: Final = "cell"
SECRET_ARN: Final = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:redis-AbCdEf"


class Server:
    """A server with one ACL user, whose passwords a test adds and takes away."""

    def __init__(self, port: int, scheme: str) -> None:
        self.url = kinds.url_of(port, scheme).replace("://", f"://{USER}@")
        self._admin: Any = SyncRedis.from_url(kinds.url_of(port))
        self.users(f">{OLD}")

    def users(self, *rules: str) -> None:
        """Change the user: >password adds one, <password takes it away."""
        self._admin.execute_command("ACL", "SETUSER", USER, "on", "~*", "&*", "+@all", *rules)

    def close(self) -> None:
        self._admin.close()


@contextmanager
def server(folder: Path, scheme: str = "redis") -> Iterator[Server]:
    """Run a server of this kind."""
    options = kinds.CLUSTER_OF_ONE if "cluster" in scheme else ()
    with kinds.valkey(folder, *options) as port, closing(Server(port, scheme)) as made:
        if "cluster" in scheme:
            kinds.take_every_slot(kinds.url_of(port))
        yield made


class Load:
    """Calls through one client, on several connections at once; what fails is kept."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self.done = 0
        self.failed: list[Exception] = []

    async def run(self) -> None:
        """Call until cancelled, now and then on a connection that is new."""
        while True:
            try:
                await self._redis.hset("{h}", "f", str(self.done))
                if self.done % 20 == 0:
                    async with self._redis.pubsub() as listening:  # it has a connection of its own
                        await listening.subscribe("c")
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                self.failed.append(error)
            self.done += 1
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop

    async def goes_on(self) -> None:
        """Wait for a hundred calls more."""
        goal = self.done + 100

        async def reached() -> bool:
            return self.done >= goal

        await until(reached, "a hundred more calls")


@asynccontextmanager
async def load(redis: Any) -> AsyncIterator[Load]:
    """Have four tasks make calls."""
    made = Load(redis)
    tasks = [asyncio.create_task(made.run()) for _ in range(4)]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_rotated_file_refuses_nothing(scheme: str, tmp_path: Path) -> None:
    """While both passwords are valid the file gets the new one; then the old one goes. One line in the log."""
    file = tmp_path / "password"
    file.write_text(f"{OLD}\n")

    async def story(redis_server: Server) -> None:
        async with connect(redis_server.url, login_of(redis_server.url, str(file), "")) as redis, load(redis) as calls:
            await calls.goes_on()
            redis_server.users(f">{NEW}")
            await calls.goes_on()
            file.write_text(f"{NEW}\n")
            await calls.goes_on()
            redis_server.users(f"<{OLD}")
            await calls.goes_on()
            assert calls.failed == []

    with server(tmp_path, scheme) as made, structlog.testing.capture_logs() as log:
        run(story(made))
    assert [entry["event"] for entry in log] == ["Redis takes another password now: it was rotated"]
    assert NEW not in str(log)


def test_open_connections_go_on_with_a_password_that_is_gone(tmp_path: Path) -> None:
    """Only who opens a new one needs the new password."""
    file = tmp_path / "password"
    file.write_text(OLD)

    async def story(redis_server: Server) -> None:
        async with connect(redis_server.url, login_of(redis_server.url, str(file), "")) as redis:
            await redis.ping()
            redis_server.users(f">{NEW}", f"<{OLD}")
            await redis.ping()
            both = await asyncio.gather(redis.ping(), redis.ping(), return_exceptions=True)  # of which one is new
            (refused,) = [found for found in both if found is not True]
            assert isinstance(refused, Exception)
            assert fault_of(refused) is RedisFault.LOGIN
            file.write_text(NEW)
            await redis.ping()

    with server(tmp_path) as made:
        run(story(made))


def test_the_second_password_of_a_file_counts_too(tmp_path: Path) -> None:
    """Whoever rotates may write both, and take the old one away when it is gone everywhere."""
    file = tmp_path / "password"
    file.write_text(f"{NEW}\n{OLD}\n")

    async def story(redis_server: Server) -> None:
        async with connect(redis_server.url, login_of(redis_server.url, str(file), "")) as redis:
            assert await redis.ping()

    with server(tmp_path) as made:
        run(story(made))


class Source:
    """A source that gives an old password until it is asked anew."""

    asked: list[bool]

    def __init__(self) -> None:
        self.asked = []

    async def passwords(self, *, anew: bool) -> tuple[str, ...]:
        self.asked.append(anew)
        return (NEW,) if anew else ("one-that-nobody-takes",)


def test_a_refused_password_is_looked_for_anew_before_anybody_sees_it(tmp_path: Path) -> None:
    """What is kept may be older than what Redis takes."""
    source = Source()

    async def story(redis_server: Server) -> None:
        redis_server.users(f">{NEW}")
        async with connect(redis_server.url, Login(USER, source)) as redis:
            assert await redis.ping()

    with server(tmp_path) as made:
        run(story(made))
    assert source.asked == [False, True]


class SlowSource:
    """A source that gives no password for as long as nobody lets it."""

    def __init__(self) -> None:
        self.lets = asyncio.Event()

    async def passwords(self, *, anew: bool) -> tuple[str, ...]:
        await self.lets.wait()
        return (OLD,)


def test_a_login_that_is_cut_off_leaves_no_half_open_connection(tmp_path: Path) -> None:
    """The next call opens one anew; redis-py would take the first for one that is logged in."""
    source = SlowSource()

    async def story(redis_server: Server) -> None:
        async with connect(redis_server.url, Login(USER, source)) as redis:
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                async with asyncio.timeout(0.1):
                    await redis.ping()
            source.lets.set()
            assert await redis.ping()

    with server(tmp_path) as made:
        run(story(made))


@pytest.mark.parametrize("content", [None, "", "short", "x" * 5000])
def test_a_file_that_gives_no_password_is_a_refused_login(content: str | None, tmp_path: Path) -> None:
    """It says which file and what is wrong with it, and shows nothing of it."""
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)

    async def story(redis_server: Server) -> None:
        async with connect(redis_server.url, login_of(redis_server.url, str(file), "")) as redis:
            with pytest.raises(AuthenticationError, match=f"{file} gives no password: ") as caught:
                await redis.ping()
            assert not content or content not in str(caught.value)

    with server(tmp_path) as made:
        run(story(made))


@pytest.mark.parametrize("value", ["{}", '{{"username": "cell", "password": "{}"}}'], ids=["text", "JSON"])
def test_a_rotated_secret_of_secrets_manager_refuses_nothing(value: str, aws_endpoint: str, tmp_path: Path) -> None:
    """With two valid passwords at once, as ElastiCache's rotation has it, and at once when the old one is refused."""

    async def story(redis_server: Server) -> None:
        async with AsyncExitStack() as stack:
            aws = await open_client(stack, AwsConfig("us-east-1", aws_endpoint), "secretsmanager")
            secret = {"SecretString": value.format(OLD)}
            arn = (await aws.create_secret(Name=f"redis-{uuid.uuid4().hex[:8]}", **secret))["ARN"]
            login = login_of(redis_server.url, arn, "us-east-1", aws_endpoint)
            redis = await stack.enter_async_context(connect(redis_server.url, login))
            calls = await stack.enter_async_context(load(redis))
            await calls.goes_on()
            redis_server.users(f">{NEW}")
            await aws.put_secret_value(SecretId=arn, SecretString=value.format(NEW))
            redis_server.users(f"<{OLD}")
            await calls.goes_on()
            assert calls.failed == []

    with server(tmp_path) as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_login, "REFUSED_KEPT_S", 0.0)
        run(story(made))


def test_a_secret_that_cant_be_read_is_a_refused_login_and_one_line(aws_endpoint: str, tmp_path: Path) -> None:
    """Redis is asked for nothing, and Secrets Manager not at every call."""

    async def story(redis_server: Server) -> None:
        arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:none-AbCdEf"
        async with connect(redis_server.url, login_of(redis_server.url, arn, "us-east-1", aws_endpoint)) as redis:
            for _ in range(10):
                with pytest.raises(AuthenticationError, match="Secrets Manager gives no password: "):
                    await redis.ping()

    with server(tmp_path) as made, structlog.testing.capture_logs() as log:
        run(story(made))
    assert [entry["event"] for entry in log] == ["the password of Redis can't be read from Secrets Manager"]


CREDENTIALS: Final = ReadOnlyCredentials("AKIAEXAMPLE", "secret/key+", "session/token==")


@pytest.mark.parametrize("serverless", [False, True])
@pytest.mark.parametrize("session_token", ["session/token==", None])
def test_a_token_is_what_the_documents_of_sigv4_say(session_token: str | None, serverless: bool) -> None:
    """Signed anew here from the parts of the token, by the key derivation of our own SQS client."""
    credentials = CREDENTIALS._replace(token=session_token)
    made = token(credentials, "iam-user", "my-cache", "eu-west-1", serverless=serverless)
    assert "://" not in made
    place = urlsplit(f"http://{made}")
    said = dict(parse_qsl(place.query, strict_parsing=True))
    signature = said.pop("X-Amz-Signature")
    now, scope = said["X-Amz-Date"], said["X-Amz-Credential"].partition("/")[2]
    assert (place.netloc, place.path) == ("my-cache", "/")
    assert (said["Action"], said["User"], said["X-Amz-Expires"]) == ("connect", "iam-user", "900")
    assert said.get("ResourceType") == ("ServerlessCache" if serverless else None)
    assert said.get("X-Amz-Security-Token") == session_token
    assert scope == f"{now[:8]}/eu-west-1/elasticache/aws4_request"
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(said.items()))
    canonical = f"GET\n/\n{query}\nhost:my-cache\n\nhost\n{sha256(b'').hexdigest()}"
    to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    key = signing_key(credentials.secret_key, now[:8], "eu-west-1", "elasticache")
    assert signature == digest(key, to_sign.encode(), "sha256").hex()


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_login_by_iam_is_made_again_before_it_ends(scheme: str, tmp_path: Path) -> None:
    """ElastiCache cuts a connection that a token has opened, in the end: it is replaced before, between two calls."""
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    ids: set[int] = set()

    async def story(redis_server: Server) -> None:
        login = login_of(redis_server.url, "iam:my-cache", "eu-west-1")
        async with connect(redis_server.url, login) as redis, load(redis) as calls:

            async def replaced() -> bool:
                target = {"target_nodes": redis.get_random_node()} if scheme.endswith("+cluster") else {}  # type: ignore[attr-defined]
                ids.add(int(await redis.execute_command("CLIENT", "ID", **target)))  # type: ignore[no-untyped-call]
                return len(ids) > 8

            await calls.goes_on()
            await until(replaced, "connections are replaced")
            assert calls.failed == []

    with server(tmp_path, scheme) as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda: at)
        patch.setattr(redis_login, "LOGGED_IN_S", 0.2)
        credentials = ReadOnlyCredentials("test", "test", None)
        made.users(f"<{OLD}", f">{token(credentials, USER, 'my-cache', 'eu-west-1')}")
        run(story(made))


FAULTS: Final[list[tuple[str, str, str]]] = [
    ("redis://u:p@h", "/file", "a password too"),
    ("redis://u@h", "iam:my-cache", "needs TLS"),
    ("rediss://h", "iam:my-cache", "needs the user"),
    ("rediss://u@h", "iam:My_Cache", "must be iam:CACHE"),
    ("redis://u@h", "file", "must be iam:CACHE"),
    ("redis://u@h", "/nonexistent/file", "can't be had from that file: it can't be read"),
    ("redis://u@h", SECRET_ARN.replace("secretsmanager", "ssm"), "must be iam:CACHE"),
]


@pytest.mark.parametrize(("url", "password_from", "why"), FAULTS)
def test_what_cant_be_is_refused_at_the_start(url: str, password_from: str, why: str) -> None:
    """A sentence says so, before anything runs."""
    assert why in str(why_no_login(url, password_from, "eu-west-1"))


@pytest.mark.parametrize(
    ("url", "password_from"),
    [("rediss://u@h", "iam:my-cache"), ("rediss+cluster://u@h", "iam-serverless:c"), ("redis://h", SECRET_ARN)],
)
def test_what_can_be_is_not_refused(url: str, password_from: str) -> None:
    """Tokens need the region, which nothing else does."""
    assert why_no_login(url, password_from, "eu-west-1") is None
    assert (why_no_login(url, password_from, "") is None) is (password_from == SECRET_ARN)
