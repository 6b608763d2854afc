"""A LocalStack in Docker for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.docker import require_docker

IMAGE: Final = "localstack/localstack:4.14.0"  # later ones ask for a licence token
PORT: Final = 4566


@contextmanager
def localstack(*services: str) -> Iterator[str]:
    """Run one with these services only; yields its endpoint URL. Skips, or with CI=true fails, without Docker."""
    require_docker()
    # No container of its own that cleans up: the context manager does. And published ports are on this host.
    os.environ |= {"TESTCONTAINERS_RYUK_DISABLED": "true", "TESTCONTAINERS_CONNECTION_MODE": "docker_host"}
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - reads the environment on import
    from testcontainers.core.wait_strategies import HttpWaitStrategy  # noqa: PLC0415 - as above

    container = DockerContainer(IMAGE).with_env("SERVICES", ",".join(services))
    container = container.with_env("SQS_ENDPOINT_STRATEGY", "path").with_exposed_ports(PORT)
    container.ports[f"{PORT}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment] # what Docker takes, too
    container = container.waiting_for(HttpWaitStrategy(PORT, "/_localstack/health").with_startup_timeout(120))
    with container:
        yield f"http://127.0.0.1:{container.get_exposed_port(PORT)}"
