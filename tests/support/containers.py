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

# The context managers clean up, so testcontainers needs no cleaning container of its own. Ports are on this host.
# testcontainers reads these variables when it is imported, so the functions below import it late.
os.environ |= {"TESTCONTAINERS_RYUK_DISABLED": "true", "TESTCONTAINERS_CONNECTION_MODE": "docker_host"}


@contextmanager
def localstack() -> Iterator[str]:
    """Run LocalStack; yields its endpoint URL. Skips, or with CI=true fails, without Docker."""
    with localstack_container() as container:
        yield endpoint_of(container)


@contextmanager
def localstack_container() -> Iterator[Any]:
    """Run LocalStack; yields its testcontainers object, which can be restarted. Without Docker: as `localstack`."""
    require_engine()
    # testcontainers.community.localstack needs boto3, which nothing else here does.
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - see above
    from testcontainers.core.wait_strategies import HttpWaitStrategy  # noqa: PLC0415 - see above

    container = DockerContainer(LOCALSTACK).with_exposed_ports(AWS_PORT)
    container = container.with_env("SERVICES", ",".join(SERVICES)).with_env("EAGER_SERVICE_LOADING", "1")
    container = container.with_env("SQS_ENDPOINT_STRATEGY", "dynamic").with_env("LS_LOG", "warn")
    container.ports[f"{AWS_PORT}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment] # None: any free port
    container = container.waiting_for(HttpWaitStrategy(AWS_PORT, HEALTH).with_startup_timeout(START_S))
    with container:
        yield container


def restart(container: Any) -> None:
    """Restart a LocalStack container, and wait until it answers again."""
    from testcontainers.core.wait_strategies import HttpWaitStrategy  # noqa: PLC0415 - see above

    container.get_wrapped_container().restart()
    HttpWaitStrategy(AWS_PORT, HEALTH).with_startup_timeout(START_S).wait_until_ready(container)


def endpoint_of(container: Any) -> str:
    """Return the present endpoint URL of a container: a restart may give it another port."""
    return f"http://127.0.0.1:{container.get_exposed_port(AWS_PORT)}"


@contextmanager
def redis() -> Iterator[str]:
    """Run Redis 7 with nothing kept on disk; yields its redis:// URL. Skips, or with CI=true fails, without Docker."""
    require_engine()
    from testcontainers.community.redis import RedisContainer  # noqa: PLC0415 - see above

    container = RedisContainer(REDIS).with_command(["redis-server", "--save", ""])
    container.ports[f"{REDIS_PORT}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment] # None: any free port
    with container:
        yield f"redis://127.0.0.1:{container.get_exposed_port(REDIS_PORT)}"
