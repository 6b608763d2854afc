"""PayloadStore that reads bodies from S3."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final

from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError

from cell_worker.contract.aws_session import (
    CREDENTIALS_REFUSED,
    UnredirectedSession,
    aws_session,
    is_object_denied,
)
from router.adapters.aws.session import AwsConfig, told_as_settings
from router.adapters.aws_errors import AWS_ERRORS, error_code
from router.core.errors import PayloadMissingError, PayloadTooLargeError, SourceDeniedError, SourceUnavailableError

READ_TIMEOUT_S: Final = 60.0  # for a whole object: a slow one must not keep its place for ever
_CHUNK_BYTES: Final = 256 * 1024
# S3 has looked, and there is no object by that name or can't be one. Every other error may pass: a missing right, a
# bucket that does not exist yet, an object that is being restored from an archive.
_MISSING: Final = {"NoSuchKey", "NoSuchVersion", "404", "KeyTooLongError", "InvalidURI"}


class S3PayloadStore:
    """Reads whole objects through one S3 client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def read(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """GetObject; its answer begins with the size, so that no body that is too large is read."""
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                reply = await self._client.get_object(Bucket=bucket, Key=key)
                async with reply["Body"] as body:
                    return await _read(body, int(reply.get("ContentLength") or 0), max_bytes)
        except ClientError as error:
            if error_code(error) in _MISSING:
                raise PayloadMissingError(str(error)) from error
            raise _kind_of(error)(f"s3://{bucket}/{key}: {error}") from error
        except (NoCredentialsError, CredentialRetrievalError) as error:
            raise SourceDeniedError(f"s3://{bucket}/{key}: {error}") from error
        except AWS_ERRORS as error:
            raise SourceUnavailableError(f"s3://{bucket}/{key}: {type(error).__name__}: {error}") from error


def _kind_of(error: ClientError) -> type[SourceUnavailableError]:
    code = error_code(error)
    return SourceDeniedError if is_object_denied(code) or code in CREDENTIALS_REFUSED else SourceUnavailableError


async def open_payload_client(stack: AsyncExitStack, config: AwsConfig, *, connections: int = 10) -> Any:
    """Open an S3 client that closes with the stack; as all of the router's clients, it retries nothing itself."""
    options = AioConfig(
        http_session_cls=UnredirectedSession,
        region_name=config.region,
        max_pool_connections=connections,
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": 1},
        user_agent="cellrouter",
        # No emulator has a host name for each bucket; with AWS itself the default stays.
        s3={"addressing_style": "path"} if config.endpoint_url else None,
    )
    with told_as_settings("s3", config.region):
        return await stack.enter_async_context(
            aws_session().create_client("s3", endpoint_url=config.endpoint_url, config=options)
        )


async def _read(body: Any, size: int, max_bytes: int) -> bytes:
    payload = bytearray()
    while size <= max_bytes and (chunk := await body.read(_CHUNK_BYTES)):
        payload += chunk
        size = max(size, len(payload))
    if size > max_bytes:
        raise PayloadTooLargeError(f"{size} bytes, more than {max_bytes}")
    return bytes(payload)
