"""Opens the registry of an environment, as its settings say.

This module is apart from the others so that a command that needs only the registry imports little and starts quickly.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network

from cell_worker.contract.redis_client import connect, why_no_client
from cell_worker.contract.redis_login import Login, login_of
from cell_worker.contract.strict_reader import Unreadable
from router.adapters.clock import SystemClock
from router.adapters.keyring import Keyring
from router.adapters.redis.registry import RedisRegistry, Told
from router.core.errors import ConfigError
from router.core.registry import AuditEntry
from router.settings import Settings

_CLOCK = SystemClock()


def keyring_of(settings: Settings) -> Keyring:
    """Make the keyring of the secrets as they are now. Raises ConfigError when they can't be used any more."""
    found = settings.secrets.read()
    if isinstance(found, Unreadable):
        raise ConfigError(f"secret_file: {found.why}")
    return Keyring(settings.environment, found)


def registry_of(
    stack: AsyncExitStack, settings: Settings, keyring: Keyring, tell: Callable[[Told], None] = lambda _: None
) -> RedisRegistry:
    """Make the registry's client, which connects at its first call. `tell` gets what it has to say.

    Raises ConfigError for a URL that redis-py can't use.
    """
    if (why := why_no_client(settings.redis.url)) is not None:
        raise ConfigError(f"redis.url: {why}")
    redis = connect(settings.redis.url, _login_of(settings))
    stack.push_async_callback(redis.aclose)
    networks = [ip_network(part.strip()) for part in settings.cells.networks.split(",")]
    return RedisRegistry(redis, settings.environment, keyring, _CLOCK, networks, tell)


def _login_of(settings: Settings) -> Login | None:
    """Make the login to Redis; None where the URL says all."""
    redis, aws = settings.redis, settings.aws
    return login_of(redis.url, redis.password_from, aws.region, aws.endpoint_url) if redis.password_from else None


@asynccontextmanager
async def open_registry(settings: Settings) -> AsyncIterator[RedisRegistry]:
    """Open the registry of this environment for one command, and close it afterwards."""
    async with AsyncExitStack() as stack:
        yield registry_of(stack, settings, keyring_of(settings))


def by_hand() -> str:
    """Name the user of this process as `user@host`, for the audit."""
    return f"{getpass.getuser()}@{socket.gethostname()}".encode(errors="backslashreplace").decode()


def entry_by_hand(action: str, why: str, cell_id: str = "", back_to: int | None = None) -> AuditEntry:
    """An audit entry for what the user of this process does now, named as `user@host`."""
    return AuditEntry(_CLOCK.time_ms(), by_hand(), action, cell_id, why, back_to)
