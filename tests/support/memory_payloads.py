"""A payload store in memory, for tests."""

from __future__ import annotations

from router.core.errors import PayloadMissingError, PayloadTooLargeError, SourceDeniedError, SourceUnavailableError


class MemoryPayloads:
    """A PayloadStore in memory: objects by bucket and key, and a list of what was read."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.reads: list[tuple[str, str]] = []
        self.failure: Exception | None = None
        self.unreadable: set[str] = set()  # keys of objects that S3 won't give out, as those in an archive
        self.denied: set[str] = set()  # keys of objects that a policy denies us

    async def read(self, bucket: str, key: str, max_bytes: int) -> bytes:
        self.reads.append((bucket, key))
        if self.failure is not None:
            raise self.failure
        if key in self.unreadable:
            raise SourceUnavailableError(f"s3://{bucket}/{key}: InvalidObjectState")
        if key in self.denied:
            raise SourceDeniedError(f"s3://{bucket}/{key}: AccessDenied")
        stored = self.objects.get((bucket, key))
        if stored is None:
            raise PayloadMissingError(f"no {key} in {bucket}")
        if len(stored) > max_bytes:
            raise PayloadTooLargeError(f"{len(stored)} bytes, more than {max_bytes}")
        return stored
