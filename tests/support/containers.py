"""Real servers for tests, in Docker: LocalStack as AWS, and Redis 7, each on a loopback port that Docker chooses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.support.docker import require_engine

LOCALSTACK: Final = "localstack/localstack:4.14.0"  # later ones ask for a licence token
REDIS: Final = "redis:7-alpine"
AWS_PORT: Final = 4566
HEALTH: Final = "/_localstack/health"
REDIS_PORT: Final = 6379
SERVICES: Final = ("sqs", "s3", "firehose", "iam", "sts", "ec2")
START_S: Final = 120

# No container of its own that cleans up: the context managers do. And published ports are on this host.
# testcontainers reads these when it is imported, so that is done late.
os.environ |= {"TESTCONTAINERS_RYUK_DISABLED": "true", "TESTCONTAINERS_CONNECTION_MODE": "docker_host"}


@contextmanager
def localstack() -> Iterator[str]:
    """Run one; yields its endpoint URL. Skips, or with CI=true fails, without Docker."""
    with localstack_container() as container:
        yield endpoint_of(container)


@contextmanager
def localstack_container() -> Iterator[Any]:
    """The same; yields its testcontainers object, for who wants to do something to it."""
    require_engine()
    # testcontainers.community.localstack would ask for boto3, which nothing else here needs.
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - see above
    from testcontainers.core.wait_strategies import HttpWaitStrategy  # noqa: PLC0415 - see above

    container = DockerContainer(LOCALSTACK).with_exposed_ports(AWS_PORT)
    container = container.with_env("SERVICES", ",".join(SERVICES)).with_env("EAGER_SERVICE_LOADING", "1")
    container = container.with_env("SQS_ENDPOINT_STRATEGY", "dynamic").with_env("LS_LOG", "warn")
    container.ports[f"{AWS_PORT}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment] # what Docker takes, too
    container = container.waiting_for(HttpWaitStrategy(AWS_PORT, HEALTH).with_startup_timeout(START_S))
    with container:
        yield container


def restart(container: Any) -> None:
    """Of a LocalStack; returns when it answers again."""
    from testcontainers.core.wait_strategies import HttpWaitStrategy  # noqa: PLC0415 - see above

    container.get_wrapped_container().restart()
    HttpWaitStrategy(AWS_PORT, HEALTH).with_startup_timeout(START_S).wait_until_ready(container)


def endpoint_of(container: Any) -> str:
    """Where it is now: a restart may give it another port."""
    return f"http://127.0.0.1:{container.get_exposed_port(AWS_PORT)}"


@contextmanager
def redis() -> Iterator[str]:
    """Run one with nothing kept on disk; yields its redis:// URL. Skips, or with CI=true fails, without Docker."""
    require_engine()
    from testcontainers.community.redis import RedisContainer  # noqa: PLC0415 - see above

    container = RedisContainer(REDIS).with_command(["redis-server", "--save", ""])
    container.ports[f"{REDIS_PORT}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment] # as above
    with container:
        yield f"redis://127.0.0.1:{container.get_exposed_port(REDIS_PORT)}"
