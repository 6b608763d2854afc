"""Opens the queues of an environment, and makes what events arrive on, as its settings say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from cell_worker.contract.redis_client import why_no_client
from router.adapters.aws.intake import Intake
from router.adapters.aws.resources import ResourceNames, why_of_another
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import SqsClient, open_sqs_client
from router.adapters.clock import SystemClock
from router.bootstrap.registry import keyring_of
from router.core.errors import ConfigError, ProvisionError, SourceUnavailableError
from router.core.intake.plan import OWNER
from router.core.models import Reason
from router.core.queue_names import QueueName, queue_name
from router.core.telemetry import BadInput, GroupsRefused
from router.services.dead_letters import DeadLetters
from router.settings import QUEUE_KEYS, Settings

_CLOCK = SystemClock()


def names_of(settings: Settings) -> ResourceNames:
    """Return the names of the AWS resources of this environment."""
    source, archive = settings.source, settings.archive
    return ResourceNames(
        settings.aws.prefix,
        settings.environment,
        source.queue,
        source.dead_letter_queue,
        source.quarantine_queue,
        archive.days if archive.enabled and not archive.bucket else 0,
        settings.cells.table,
        settings.cells.emitted_path,
    )


def aws_of(settings: Settings) -> AwsConfig:
    """Return the region and endpoint by which AWS is reached."""
    return AwsConfig(settings.aws.region, settings.aws.endpoint_url, lean_http=settings.lean_http)


async def queues_of(
    stack: AsyncExitStack, settings: Settings, tell: Callable[[BadInput | GroupsRefused], None] = lambda _: None
) -> tuple[SqsSource, Callable[[str], SqsSource]]:
    """Open the source queue, and return it with a function that opens any other queue by its name, URL or ARN.

    `tell` gets each message that can't be read. The function raises SourceUnavailableError for a URL or an ARN that no
    setting names: who can write to the dead-letter queue must not say to which account events are sent.
    """
    given = {queue.text: queue for queue in _named(settings).values()}
    clients = {region: await _clients(stack, settings, region) for region in _regions(settings)}

    def opened(name: str) -> SqsSource:
        queue = queue_name(name)
        if not queue.is_plain and name not in given:
            raise SourceUnavailableError(f"queue {name}: no setting names it, so nothing is sent there")
        return SqsSource(name, *clients[queue.region or settings.aws.region], tell)

    return opened(settings.source.queue), opened


async def _clients(stack: AsyncExitStack, settings: Settings, region: str) -> tuple[SqsClient, SqsClient]:
    """Open the two clients of a region, for polls and for calls."""
    aws = replace(aws_of(settings), region=region)
    # No limit of connections (0): each hold queue, the quarantine queue and each poller may have a poll open at once,
    # and cells are added while the router runs.
    poll = await open_sqs_client(stack, aws, connections=0, read_timeout_s=settings.source.wait_s + 10, clock=_CLOCK)
    return poll, await open_sqs_client(stack, aws, connections=50, read_timeout_s=30, clock=_CLOCK)


def _named(settings: Settings) -> dict[str, QueueName]:
    return {f"source.{key}": queue_name(getattr(settings.source, key)) for key in QUEUE_KEYS}


async def why_no_start(settings: Settings) -> list[Reason]:
    """Say what botocore and redis-py would refuse at the start. Calls nobody."""
    urls = {"redis.url": settings.redis.url, "cells.redis_url": settings.cells.redis_url}
    reasons = [f"{key}: {why}" for key, url in urls.items() if url and (why := why_no_client(url)) is not None]
    async with AsyncExitStack() as stack:
        for region in _regions(settings):
            aws = replace(aws_of(settings), region=region)
            try:
                client = await open_sqs_client(stack, aws, connections=1, read_timeout_s=1)
                reasons += _elsewhere(settings, client.endpoint_url) if region == settings.aws.region else []
            except ConfigError as error:
                reasons.append(str(error))
        for service in _services(settings):
            try:
                await open_client(stack, aws_of(settings), service)
            except ConfigError as error:
                reasons.append(str(error))
    return list(dict.fromkeys(reasons))


def _elsewhere(settings: Settings, endpoint_url: str) -> list[Reason]:
    """Say of each queue that is named by a URL why it can't be reached at that endpoint."""
    if not _is_of_aws(endpoint_url):
        return []
    why = f"is no URL of AWS, and AWS is asked, at {endpoint_url}: set aws.endpoint_url, or give AWS' URL"
    return [f"{key}: {why}" for key, queue in _named(settings).items() if queue.url and not _is_of_aws(queue.url)]


def _regions(settings: Settings) -> list[str]:
    return sorted({settings.aws.region, *(queue.region for queue in _named(settings).values() if queue.region)})


def _services(settings: Settings) -> list[str]:
    """List what routers and controllers need of AWS beside SQS."""
    by_stacks = settings.cells.provisioner == "ecs"
    tables = ["dynamodb"] if by_stacks or settings.cells.store == "dynamodb" or settings.cells.table else []
    return ["s3", "firehose", *tables, *(["cloudformation", "ecs"] if by_stacks else [])]


def _is_of_aws(url: str) -> bool:
    return f".{urlsplit(url).hostname}".endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonaws.eu"))


@asynccontextmanager
async def open_intake(settings: Settings) -> AsyncIterator[Intake]:
    """Open what looks at, makes and changes what events arrive on. Raises ProvisionError for somebody else's queues."""
    if foreign := [key for key, queue in _named(settings).items() if not queue.is_plain]:
        raise ProvisionError(
            f"{', '.join(foreign)}: named by URL or ARN, so it is somebody's already; nothing was made. "
            "cellrouter init makes queues that are named by their names, and the bucket that notifies the source queue"
        )
    async with AsyncExitStack() as stack:
        aws = aws_of(settings)
        sqs, s3, sts = [await open_client(stack, aws, service) for service in ("sqs", "s3", "sts")]
        # botocore's word for the region: it knows `fips-us-east-1` as us-east-1.
        yield Intake(names_of(settings), sqs, s3, sts, region=sqs.meta.region_name, clock=_CLOCK)


@asynccontextmanager
async def open_dead_letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    """Open the dead-letter queue of this environment, and the queues that its events can be redriven to."""
    names = names_of(settings)

    def is_ours(queue: str, cell_id: str) -> bool:
        return queue in (names.source_queue, names.quarantine_queue, names.hold_queue(cell_id))

    keys = keyring_of(settings)
    async with AsyncExitStack() as stack:
        source, queue = await queues_of(stack, settings)
        sqs = await open_client(stack, aws_of(settings), "sqs")

        async def why_not(name: str) -> Reason | None:
            return await why_of_another(sqs, name, names.tags[OWNER])

        yield DeadLetters(queue(names.dead_letter_queue), source.name, is_ours, queue, keys, _CLOCK, why_not)
