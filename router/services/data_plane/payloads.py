"""Fetches the bodies that lie in S3, in place of the pointers that a queue delivered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from router.core.errors import MalformedMessageError, PayloadMissingError, PayloadTooLargeError
from router.core.messages.pointers import S3Pointer, pointer_of
from router.core.models import Message
from router.ports import PayloadStore

MAX_KEY_BYTES: Final = 1024  # S3's limit. With a longer one a server may close the connection, as if it were down
MAX_READS: Final = 8  # at once: so many payloads are in memory before anything has counted their bytes


@dataclass(frozen=True, slots=True)
class PayloadConfig:
    """Which S3 pointers are followed, and how large a payload may be."""

    bucket: str = ""  # the only bucket that is read; empty: pointers are not accepted
    max_bytes: int = 4 * 1024 * 1024  # of one payload; it has to fit in a batch


class Payloads:
    """Follows S3 pointers to the bodies of messages.

    Guarantees: only objects of the one bucket are read, whatever a message names. A sender who may write to the queue
    must not make the router read, with its own rights, what the sender may not.
    """

    def __init__(self, config: PayloadConfig, store: PayloadStore) -> None:
        self._config = config
        self._store = store
        self._reads = asyncio.Semaphore(MAX_READS)
        self.fetched = 0  # bodies since the start

    async def resolve(self, message: Message) -> Message:
        """Return the message with its body from S3 and its pointer remembered; unchanged when it has no pointer.

        Raises MalformedMessageError with a reason for people when the pointer will never lead to an event, and
        SourceUnavailableError when it may yet.
        """
        pointer = pointer_of(message)
        if pointer is None:
            return message
        self._check(pointer)
        async with self._reads:
            body = await self._read(pointer)
        self.fetched += 1
        return replace(message, body=body, pointer=message.body)

    def _check(self, pointer: S3Pointer) -> None:
        if not self._config.bucket:
            raise MalformedMessageError(
                f"the body is an S3 pointer to {pointer:.200}: set source.payload_bucket to accept it"
            )
        if pointer.bucket != self._config.bucket:
            raise MalformedMessageError(
                f"the S3 pointer to {pointer:.200} leads out of source.payload_bucket, which is {self._config.bucket}",
            )
        if len(pointer.key.encode()) > MAX_KEY_BYTES:
            raise MalformedMessageError(f"the S3 pointer to {pointer:.200} has a key of over {MAX_KEY_BYTES} bytes")
        if not {".", ".."}.isdisjoint(pointer.key.split("/")):  # a proxy on the way may take it for another bucket
            raise MalformedMessageError(f"the S3 pointer to {pointer:.200} has a dot for a part of its key")

    async def _read(self, pointer: S3Pointer) -> str:
        try:
            payload = await self._store.read(pointer.bucket, pointer.key, self._config.max_bytes)
            return payload.decode()
        except PayloadMissingError as error:
            raise MalformedMessageError(
                f"the S3 pointer leads to {pointer:.200}, and that is not there: {error}"
            ) from error
        except PayloadTooLargeError as error:
            raise MalformedMessageError(
                f"the S3 pointer leads to {pointer:.200}, and that is too large: {error}"
            ) from error
        except UnicodeDecodeError as error:
            raise MalformedMessageError(
                f"the S3 pointer leads to {pointer:.200}, and that is not UTF-8: {error}"
            ) from error
