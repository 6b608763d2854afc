"""Opens what the commands for environments in AWS need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from router.adapters.aws.platform_copy import PlatformCopies
from router.adapters.aws.session import open_client
from router.adapters.clock import SystemClock
from router.bootstrap.queues import aws_of
from router.settings import Settings


@asynccontextmanager
async def open_platforms(settings: Settings) -> AsyncIterator[PlatformCopies]:
    """Open the platforms of all environments of the configured prefix for one command."""
    async with AsyncExitStack() as stack:
        cloudformation, s3 = [await open_client(stack, aws_of(settings), name) for name in ("cloudformation", "s3")]
        yield PlatformCopies(settings.aws.prefix, cloudformation, s3, SystemClock())
