"""Opens what `cellrouter deploy platform` and `cellrouter destroy` need of AWS, the registry and the cells."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from router.adapters.aws.cell_contents import CellContents
from router.adapters.aws.intake import Intake
from router.adapters.aws.platform import PlatformStack
from router.adapters.aws.session import open_client
from router.adapters.aws.stack_removal import StackRemoval
from router.adapters.aws.teardown import Teardown
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.control import HttpCellControl
from router.adapters.clock import SystemClock
from router.adapters.http_session import http_session
from router.bootstrap.queues import aws_of, names_of
from router.bootstrap.registry import keyring_of, registry_of
from router.bootstrap.workers import ends_of
from router.core.errors import CellRefusedError, CellUnavailableError, ProvisionError, RegistryUnavailableError
from router.core.leftovers import Leftovers
from router.core.models import Reason, cell_ids
from router.core.policy import MAX_CELLS
from router.core.registry import Snapshot
from router.ports import InstanceControl
from router.settings import Settings

ASK_S: Final = 5.0  # for an instance to say what waits in its outbox
_SINK: Final = "sink"
_EMPTY: Final = re.compile(r"none|.*, 0 lines wait")
"""What the sink of a cell says of itself when its outbox is empty, or when it has no stream to deliver lines to."""
_CLOCK = SystemClock()


def platform_stack(settings: Settings) -> str:
    """Return the name of the stack of what all cells share."""
    return names_of(settings).cell("platform")


@asynccontextmanager
async def open_platform(settings: Settings, stack_name: str) -> AsyncIterator[PlatformStack]:
    """Open the platform's stack for one command."""
    async with AsyncExitStack() as stack:
        yield PlatformStack(stack_name, await open_client(stack, aws_of(settings), "cloudformation"), _CLOCK)


class Environment:
    """Everything that an environment consists of, for the command that destroys it."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._names = names_of(settings)
        self._contents: CellContents
        self.teardown: Teardown
        self.intake: Intake
        self.stacks: StackRemoval

    async def open(self, stack_name: str) -> None:
        """Open the clients of AWS."""
        aws = aws_of(self._settings)
        sqs, s3, sts, firehose, cloudformation, ecs, dynamodb = [
            await open_client(self._stack, aws, service)
            for service in ("sqs", "s3", "sts", "firehose", "cloudformation", "ecs", "dynamodb")
        ]
        self._contents = CellContents(self._names, sqs, s3, dynamodb)
        tables = dynamodb if self._settings.cells.store == "dynamodb" or self._settings.cells.table else None
        self.teardown = Teardown(self._names, sqs, s3, firehose, tables)
        self.intake = Intake(self._names, sqs, s3, sts, region=sqs.meta.region_name, clock=_CLOCK)
        self.stacks = StackRemoval(stack_name, self._names, cloudformation, ecs, sqs, _CLOCK)

    async def look(self) -> Leftovers:
        """Look at every queue, every cell's outbox, and which routers and controllers live."""
        queues, cells = await self.teardown.queues(), set(await self.teardown.cells())
        stacks = set(await self.stacks.stacks())
        urls = {url.rpartition("/")[2]: url for url in await self.stacks.queues()}
        queues |= {name: await self.teardown.messages(url) for name, url in urls.items() if name not in queues}
        cells |= {cell_id for cell_id in cell_ids(MAX_CELLS) if self._names.cell(cell_id) in stacks}
        snapshot, why_unknown, running = await self._registered()
        cells |= snapshot.cells.keys() if snapshot is not None else set()
        # A cell that is a stack keeps its outbox in a table, which can be read when no instance of it lives.
        of = self._settings.cells
        if stacks or of.provisioner == "ecs" or of.store == "dynamodb":
            asked = {cell_id: await self._in_table(cell_id) for cell_id in sorted(cells)}
        elif snapshot is not None:
            asked = await self._told(cells, snapshot)
        else:
            asked = dict.fromkeys(cells, why_unknown)
        outboxes = {cell_id: why for cell_id, why in asked.items() if why is not None}
        return Leftovers(queues, self._settings.source.dead_letter_queue, outboxes, running)

    async def _registered(self) -> tuple[Snapshot | None, Reason | None, list[str]]:
        """Return what the registry says, or why it says nothing, and which processes live."""
        registry = registry_of(self._stack, self._settings, keyring_of(self._settings))
        try:
            snapshot = await registry.snapshot()
        except RegistryUnavailableError as error:
            return None, str(error), [f"not known ({error})"]
        return snapshot, None, processes(snapshot)

    async def _in_table(self, cell_id: str) -> Reason | None:
        try:
            return await self._contents.why_outbox_waits(cell_id)
        except ProvisionError as error:
            return str(error)

    async def _told(self, cells: Collection[str], snapshot: Snapshot) -> dict[str, Reason | None]:
        """Return what the cells' instances say of their outboxes."""
        session = await self._stack.enter_async_context(http_session())
        ends = ends_of(self._stack, self._settings, _CLOCK)
        control = HttpCellControl(CellCalls(session, keyring_of(self._settings), _CLOCK, ends=ends))
        return {cell_id: await why_outbox(cell_id, snapshot, control) for cell_id in cells}


def processes(snapshot: Snapshot) -> list[str]:
    """List the routers that live, and the controller that leads."""
    routers = [f"router {router.report.router_id}" for router in snapshot.routers if router.live]
    return routers + [f"controller {snapshot.leader}"] * bool(snapshot.leader)


async def why_outbox(cell_id: str, snapshot: Snapshot, control: InstanceControl) -> Reason | None:
    """Say what waits in a cell's outbox, or why that is not known; None when nothing does."""
    record = snapshot.cells.get(cell_id)
    if record is None or not record.generation:
        return None  # no instance ever had an event
    lease = snapshot.lease(cell_id, record.generation)
    if lease is None or not lease.live:
        return "no instance of it lives that could be asked"
    try:
        components = await control.components(lease.target(), ASK_S)
    except (CellUnavailableError, CellRefusedError) as error:
        return f"its instance does not say: {error}"
    sink = next((component for component in components if component.name == _SINK), None)
    if sink is None:
        return "its instance does not say"
    return None if sink.healthy and _EMPTY.fullmatch(sink.detail) else sink.detail


@asynccontextmanager
async def open_environment(settings: Settings, stack_name: str) -> AsyncIterator[Environment]:
    """Open all that an environment consists of for one command."""
    async with AsyncExitStack() as stack:
        found = Environment(settings, stack)
        await found.open(stack_name)
        yield found
