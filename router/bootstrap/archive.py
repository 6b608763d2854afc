"""Opens the archive of an environment, as its settings say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from router.adapters.archive_files import MAX_STORED_BYTES, ArchiveFolder, records_of
from router.adapters.aws.s3_archive import S3ArchiveReader, S3ArchiveStore
from router.adapters.aws.s3_payloads import open_payload_client
from router.adapters.clock import SystemClock
from router.adapters.one_thread import OneThread
from router.bootstrap.queues import aws_of, names_of, queues_of
from router.bootstrap.registry import keyring_of
from router.core.messages.proofs import AttributeKeys
from router.ports import ArchiveReader, EventSource, Observer
from router.services.data_plane.archive.archivist import PARALLEL, ArchiveConfig, Archivist
from router.services.unforeseen import Unforeseen
from router.settings import Settings

_CLOCK = SystemClock()


def archive_bucket(settings: Settings) -> str:
    """Return the bucket of the archive."""
    return settings.archive.bucket or names_of(settings).archive_bucket


async def archivist_of(stack: AsyncExitStack, settings: Settings, router: str, observer: Observer) -> Archivist | None:
    """Open what a router writes the archive with; None where there is none."""
    if not settings.archive.enabled:
        return None
    client = await open_payload_client(stack, aws_of(settings), connections=PARALLEL)
    store, beside = (
        S3ArchiveStore(client, archive_bucket(settings)),
        OneThread(stack.enter_context(ExitStack()), "archive"),
    )
    config, unforeseen = ArchiveConfig(settings.environment, router), Unforeseen(observer, _CLOCK)
    return Archivist(config, store, beside, _CLOCK, observer, unforeseen)


@dataclass(frozen=True, slots=True)
class ReplayTools:
    """What `cellrouter replay` needs of an environment."""

    queue: EventSource  # its source queue
    keys: AttributeKeys
    archive: Callable[[str], ArchiveReader]  # by s3://BUCKET or a folder


@asynccontextmanager
async def open_replay(settings: Settings) -> AsyncIterator[ReplayTools]:
    """Open the source queue of the environment, and what reads archives."""
    async with AsyncExitStack() as stack:
        client = await open_payload_client(stack, aws_of(settings))

        def archive(where: str) -> ArchiveReader:
            scheme, _, bucket = where.partition("s3://")
            if scheme or not bucket:
                return ArchiveFolder(Path(where))
            return S3ArchiveReader(client, bucket.strip("/"), MAX_STORED_BYTES, records_of)

        source, _ = await queues_of(stack, settings)
        yield ReplayTools(source, keyring_of(settings), archive)
