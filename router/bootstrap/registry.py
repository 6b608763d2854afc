"""The registry of an environment, from its settings. A command that needs no more imports no more, and is quick."""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network

from cell_worker.redis_client import connect
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry
from router.core.policy import Policy
from router.core.registry import AuditEntry
from router.core.telemetry import LeaseRefused
from router.services import policy
from router.settings import Settings

_CLOCK = SystemClock()


def registry_of(
    stack: AsyncExitStack, settings: Settings, tell: Callable[[LeaseRefused], None] = lambda _: None
) -> RedisRegistry:
    """Connected when it is first asked; `tell` hears of leases that are refused."""
    redis = connect(settings.redis.url)
    stack.push_async_callback(redis.aclose)
    networks = [ip_network(part.strip()) for part in settings.cells.networks.split(",")]
    return RedisRegistry(redis, settings.environment, settings.secret.get_secret_value(), _CLOCK, networks, tell)


@asynccontextmanager
async def open_registry(settings: Settings) -> AsyncIterator[RedisRegistry]:
    """The registry of this environment, for people."""
    async with AsyncExitStack() as stack:
        yield registry_of(stack, settings)


async def change_policy(
    settings: Settings, action: str, why: str, edit: Callable[[Policy, int], Policy], cell_id: str = ""
) -> Policy:
    """Have the policy of this environment changed by hand; `edit` gets it and the time in ms."""
    now_ms, who = _CLOCK.time_ms(), f"{getpass.getuser()}@{socket.gethostname()}"
    async with open_registry(settings) as registry:
        audit = AuditEntry(now_ms, who, action, cell_id, why)
        return await policy.change(registry, lambda policy: edit(policy, now_ms), audit)
