"""Lines of a cell's outbox that are too long for its table: they lie in the cell's bucket, below `outbox/`.

A body is written before the item that points to it, and deleted after it. So a crash leaves a body that nothing points
to, never an item that points to nothing; a lifecycle rule of the bucket deletes what is left.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, Final

from cell_worker.store.store import StoreError
from cell_worker.store.table_calls import CALL_TIMEOUT_S, StoreCaller
from cell_worker.store.table_items import MAX_BODY_BYTES, MalformedItemError, body_of
from cell_worker.store.table_plan import StoredBody

PREFIX: Final = "outbox/"


class Bodies(StoreCaller):
    """Calls that write, read and delete bodies of chunks in one bucket."""

    def __init__(self, bucket: str) -> None:
        super().__init__("s3", f"the cell's store, bucket {bucket}")
        self._bucket = bucket

    async def put(self, bodies: Sequence[Sequence[bytes]]) -> list[StoredBody]:
        """Write bodies, each under a key that nobody else uses. Raises StoreError."""
        return list(await asyncio.gather(*(self._put(lines) for lines in bodies)))

    async def _put(self, lines: Sequence[bytes]) -> StoredBody:
        key = f"{PREFIX}{uuid.uuid4().hex}"
        await self.call("put_object", Bucket=self._bucket, Key=key, Body=body_of(lines))
        return StoredBody(key, len(lines))

    async def get(self, key: str) -> bytes:
        """Read a body. Raises StoreError, and MalformedItemError when it is not there or too long."""
        what = f"the object {key} of the bucket {self._bucket}"
        try:
            answer = await self.call("get_object", Bucket=self._bucket, Key=key)
            raw = await self._all_of(answer)
        except StoreError as error:
            if "NoSuchKey" in str(error):
                raise MalformedItemError(what, "is gone, though lines in it wait for delivery") from error
            raise
        if len(raw) > MAX_BODY_BYTES:
            raise MalformedItemError(what, f"has more than {MAX_BODY_BYTES} bytes")
        return raw

    async def _all_of(self, answer: Any) -> bytes:
        """Read an object, and at most a byte more than a body may have."""
        raw = bytearray()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S), answer["Body"] as body:
                while len(raw) <= MAX_BODY_BYTES and (part := await body.read(MAX_BODY_BYTES + 1 - len(raw))):
                    raw += part
        except Exception as error:
            raise self.refused(error) from error
        return bytes(raw)

    async def delete(self, keys: Collection[str]) -> None:
        """Delete bodies as far as that can be done now; what stays, the lifecycle rule deletes."""
        with suppress(StoreError):
            await asyncio.gather(*(self.call("delete_object", Bucket=self._bucket, Key=key) for key in keys))
