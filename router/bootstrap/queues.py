"""The queues of an environment and what events arrive on, from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from router.adapters.aws.resources import ResourceNames, ensure_intake
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import open_sqs_client
from router.adapters.clock import SystemClock
from router.services.dead_letters import DeadLetters
from router.settings import Settings

_CLOCK = SystemClock()


def names_of(settings: Settings) -> ResourceNames:
    """How everything of this environment is called."""
    source = settings.source
    return ResourceNames(
        settings.aws.prefix, settings.environment, source.queue, source.dead_letter_queue, source.quarantine_queue
    )


def aws_of(settings: Settings) -> AwsConfig:
    """How AWS is reached."""
    return AwsConfig(settings.aws.region, settings.aws.endpoint_url)


async def queues_of(stack: AsyncExitStack, settings: Settings) -> tuple[SqsSource, Callable[[str], SqsSource]]:
    """The source, and a way to every other queue."""
    aws = aws_of(settings)
    # 0: as many as there are polls. One of every hold queue, of the quarantine queue and of every poller may be open
    # at once, and cells are added while the router runs.
    poll = await open_sqs_client(stack, aws, connections=0, read_timeout_s=settings.source.wait_s + 10, clock=_CLOCK)
    call = await open_sqs_client(stack, aws, connections=50, read_timeout_s=30, clock=_CLOCK)
    return SqsSource(settings.source.queue, poll, call), lambda name: SqsSource(name, poll, call)


async def run_init(settings: Settings) -> None:
    """Make what events arrive on: queue, dead-letter queue, bucket and notification."""
    async with AsyncExitStack() as stack:
        aws = aws_of(settings)
        sqs, s3 = [await open_client(stack, aws, service) for service in ("sqs", "s3")]
        await ensure_intake(names_of(settings), sqs, s3, settings.aws.region)


@asynccontextmanager
async def open_dead_letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    """The dead-letter queue of this environment, and the way back from there."""
    names = names_of(settings)

    def is_ours(queue: str, cell_id: str) -> bool:
        return queue in (names.source_queue, names.quarantine_queue, names.hold_queue(cell_id))

    async with AsyncExitStack() as stack:
        source, queue = await queues_of(stack, settings)
        yield DeadLetters(queue(names.dead_letter_queue), source.name, is_ours, queue, _CLOCK)
