"""Opens AWS clients."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, EndpointVariantError, ProfileNotFound
from botocore.httpsession import get_cert_path

from cell_worker.contract.aws_session import UnredirectedSession, aws_session
from router.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AwsConfig:
    """The region and endpoint of AWS. Credentials come from the environment, as for every AWS tool."""

    region: str
    endpoint_url: str | None = None  # None: AWS itself
    lean_http: bool = True  # SQS is called by the lean HTTP client


async def open_client(
    stack: AsyncExitStack, config: AwsConfig, service: str, *, connections: int = 10, read_timeout_s: float = 30
) -> Any:
    """Open a client of one AWS service; it closes with the stack.

    It retries nothing itself, since the caller decides about that. Leaving out parameter validation and the long user
    agent makes a call about 30 % cheaper in CPU.
    """
    options = AioConfig(
        http_session_cls=UnredirectedSession,
        region_name=config.region,
        max_pool_connections=connections,
        connect_timeout=5,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": 1},
        parameter_validation=False,
        user_agent="cellrouter",
    )
    with told_as_settings(service, config.region):
        session = aws_session()
        trusted_by(session)
        return await stack.enter_async_context(
            session.create_client(service, endpoint_url=config.endpoint_url, config=options)
        )


@contextmanager
def told_as_settings(service: str, region: str) -> Iterator[None]:
    """Turn what botocore refuses, when a client is opened, into ConfigError: a sentence that names the setting."""
    try:
        yield
    except ProfileNotFound as error:
        raise ConfigError(f"AWS_PROFILE: {error}: see the files of AWS_CONFIG_FILE and ~/.aws") from error
    except EndpointVariantError as error:
        raise ConfigError(
            f"AWS has no endpoint of {service} in {region} that is {' and '.join(error.kwargs['tags'])}: take back "
            "AWS_USE_FIPS_ENDPOINT or AWS_USE_DUALSTACK_ENDPOINT, or the same in ~/.aws/config"
        ) from error
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"the variables AWS_* or a file in ~/.aws can't be used: {error!s:.300}") from error


def trusted_by(session: Any) -> ssl.SSLContext:
    """Trust what botocore would: AWS_CA_BUNDLE, or the certificates that come with botocore. Raises ConfigError."""
    trusted = Path(session.get_config_variable("ca_bundle") or get_cert_path(verify=True))
    try:
        if trusted.is_dir():
            return ssl.create_default_context(capath=str(trusted))
        return ssl.create_default_context(cafile=str(trusted))
    except OSError as error:  # ssl.SSLError too
        raise ConfigError(f"AWS_CA_BUNDLE={trusted}: {error.strerror or 'holds no certificates'}") from error
