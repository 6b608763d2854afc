"""ArchiveStore and ArchiveReader on S3."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError

from cell_worker.contract.aws_session import CREDENTIALS_REFUSED, is_object_denied
from router.adapters.aws.s3_payloads import S3PayloadStore
from router.adapters.aws_errors import AWS_ERRORS, error_code
from router.core.archive.records import ArchivedEvent
from router.core.errors import (
    PayloadMissingError,
    PayloadTooLargeError,
    SourceDeniedError,
    SourceMissingError,
    SourceUnavailableError,
)
from router.core.models import Reason

PUT_TIMEOUT_S: Final = 30.0  # for a whole object: a slow one must not keep its memory for ever


class S3ArchiveStore:
    """Writes whole objects into one bucket, through one S3 client."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def put(self, key: str, body: bytes) -> None:
        """PutObject, which needs no other right."""
        try:
            async with asyncio.timeout(PUT_TIMEOUT_S):
                await self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/zstd")
        except ClientError as error:
            raise _kind_of(error)(f"bucket {self._bucket}: {error}") from error
        except (NoCredentialsError, CredentialRetrievalError) as error:
            raise SourceDeniedError(f"bucket {self._bucket}: {error}") from error
        except AWS_ERRORS as error:
            raise SourceUnavailableError(f"bucket {self._bucket}: {type(error).__name__}: {error}") from error


class S3ArchiveReader:
    """Lists and reads the objects of one bucket, through one S3 client."""

    def __init__(
        self, client: Any, bucket: str, max_bytes: int, records: Callable[[bytes], Iterator[ArchivedEvent | Reason]]
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._max_bytes = max_bytes
        self._payloads = S3PayloadStore(client)
        self.records = records

    async def names(self, prefix: str) -> list[str]:
        """ListObjectsV2, page by page."""
        found: list[str] = []
        try:
            async for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            ):
                found += [str(each["Key"]) for each in page.get("Contents", ())]
        except ClientError as error:
            raise _kind_of(error)(f"bucket {self._bucket}: {error}") from error
        except AWS_ERRORS as error:
            raise SourceUnavailableError(f"bucket {self._bucket}: {type(error).__name__}: {error}") from error
        return sorted(found)

    async def read(self, name: str) -> bytes:
        """GetObject; nothing longer than a router writes."""
        try:
            return await self._payloads.read(self._bucket, name, self._max_bytes)
        except (PayloadMissingError, PayloadTooLargeError) as error:
            raise SourceUnavailableError(f"s3://{self._bucket}/{name}: {error}") from error


def _kind_of(error: ClientError) -> type[SourceUnavailableError]:
    code = error_code(error)
    if code == "NoSuchBucket":
        return SourceMissingError
    return SourceDeniedError if is_object_denied(code) or code in CREDENTIALS_REFUSED else SourceUnavailableError
