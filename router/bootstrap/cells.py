"""Picks what makes cells, their durable components and their instances, from the settings."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from router.adapters.aws.cell_contents import CellContents
from router.adapters.aws.resources import AwsCellResources
from router.adapters.aws.session import open_client
from router.adapters.aws.stacks import CellStacks, StackConfig
from router.adapters.keyring import Keyring
from router.adapters.provisioners.ecs import EcsProvisioner
from router.adapters.provisioners.ecs_tasks import EcsConfig
from router.bootstrap.queues import aws_of, names_of
from router.bootstrap.workers import provisioner_of
from router.core.errors import ConfigError
from router.core.intake.emitted import emitted_path
from router.ports import CellResources, Clock, Observer, Provisioner
from router.settings import Settings
from router.settings_ecs import read_template


@dataclass(frozen=True, slots=True)
class CellMakers:
    """What makes cells: their durable components, and their instances."""

    resources: CellResources
    provisioner: Provisioner


async def cell_makers(
    stack: AsyncExitStack, settings: Settings, keyring: Keyring, clock: Clock, observer: Observer
) -> CellMakers:
    """Make what the settings name; it closes with the stack. Raises ConfigError."""
    aws, names = aws_of(settings), names_of(settings)
    sqs, s3, firehose = [await open_client(stack, aws, service) for service in ("sqs", "s3", "firehose")]
    by_stacks = settings.cells.provisioner == "ecs"
    # A table that a stack has lost is made by nobody: what it knew has to be restored into it.
    stores = not by_stacks and settings.cells.store == "dynamodb"
    own = not by_stacks and bool(settings.cells.table)
    tables = await open_client(stack, aws, "dynamodb") if stores or own else None
    parts = AwsCellResources(
        *(names, sqs, s3, firehose),
        tables if stores else None,
        region=settings.aws.region,
        firehose_role=settings.aws.firehose_role,
        own_tables=tables if own else None,
    )
    if not by_stacks:
        return CellMakers(parts, provisioner_of(stack, settings, keyring, clock, observer.observe))
    dynamodb, cloudformation, ecs = [
        await open_client(stack, aws, service) for service in ("dynamodb", "cloudformation", "ecs")
    ]
    contents = CellContents(names, sqs, s3, dynamodb)
    stacks = CellStacks(stack_config(settings, keyring), cloudformation, parts, contents, clock)
    provisioner = EcsProvisioner(ecs_config(settings), ecs, stacks, clock)
    stack.push_async_callback(provisioner.close)
    return CellMakers(stacks, provisioner)


def ecs_config(settings: Settings) -> EcsConfig:
    """Return where workers' tasks run."""
    ecs = settings.ecs
    return EcsConfig(
        prefix=settings.aws.prefix,
        environment=settings.environment,
        cluster=ecs.cluster,
        subnets=_listed(ecs.subnets),
        security_groups=_listed(ecs.security_groups),
        capacity_provider=ecs.capacity_provider,
    )


def stack_config(settings: Settings, keyring: Keyring) -> StackConfig:
    """Return what all stacks of cells have in common. Raises ConfigError when the template can't be read."""
    ecs, cells = settings.ecs, settings.cells
    try:
        template = read_template(ecs.template_file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"ecs.template: can't be used: {error}") from error
    of_workers = {
        "Handler": cells.handler,
        "Concurrency": str(cells.concurrency),
        "SideEffects": str(cells.side_effects).lower(),
        "Chaos": str(settings.chaos).lower(),
        "LeaseTtlS": str(cells.lease_ttl_s),
        "EventTimeoutS": str(cells.event_timeout_s),
        "DrainTimeoutS": str(cells.drain_timeout_s),
    }
    if cells.table:
        of_workers["WorkloadTable"] = cells.table
    if (folders := emitted_path(cells.emitted_path)) is not None:
        of_workers |= {"EmittedPrefix": folders.prefix, "EmittedQuery": folders.query}
    given = dict(pair.split("=", 1) for pair in ecs.parameters.split(";") if pair)
    return StackConfig(
        names=names_of(settings),
        template=template,
        image=ecs.image,
        cpu=ecs.cpu,
        memory_mb=ecs.memory_mb,
        parameters=of_workers | given,
        role=ecs.stack_role,
        secret_of=keyring.cell_secret,
        secret_id=lambda: keyring.ids[0],
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
