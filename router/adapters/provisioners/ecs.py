"""Provisioner that runs workers as tasks of an ECS cluster on Fargate: an instance is a task.

ECS is the provisioner's only memory: a task says in `startedBy` which instance it is, so that the next controller finds
it. No instance is started twice, whenever a controller dies: every launch first looks for a task of its generation, and
its `clientToken` is the same in all controllers. A task that ECS will end, and says so in advance, is marked: another
instance can be launched before it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from router.adapters.aws_errors import AWS_ERRORS, error_code, error_words
from router.adapters.provisioners.ecs_budget import LaunchBudget
from router.adapters.provisioners.ecs_failures import Trouble, described, trouble
from router.adapters.provisioners.ecs_tasks import EcsConfig, EcsTask, Key, read_task
from router.core.errors import ProvisionError
from router.core.models import InstanceView, Reason
from router.ports import Clock

WAIT_S: Final = 1.5
"""How long a caller is kept waiting for ECS: the leader has to renew its lease. What takes longer goes on alone, as a
launch does whose stack is updated first, or a look at a thousand tasks."""
CALL_TIMEOUT_S: Final = 5.0
LOOK_TIMEOUT_S: Final = 15.0
LOOK_EVERY_S: Final = 2.0
CALLS_PER_S: Final = 5.0  # of looks; ECS allows 20 reads a second for the whole account
STOP_AGAIN_S: Final = 10.0
UNSEEN_S: Final = 60.0  # how long ECS may not know a task that it has just started: it is eventually consistent
TRIES: Final = 3  # of a launch whose answer does not say whether it started anything
TRY_AGAIN_S: Final = 0.5
_CHUNK: Final = 100  # tasks in one call of DescribeTasks, and in one page of ListTasks
_KEEP_ENDED: Final = 100  # how many ended instances observe() still lists
_NO_ANSWER: Final = frozenset({Trouble.AWS, Trouble.THROTTLED})


class TaskDefinitions(Protocol):
    """Knows the task definitions of the cells."""

    async def task_definition(self, cell_id: str, image: str | None) -> str:
        """Return the ARN of a cell's task definition, after the cell's image has become `image` if one is given.

        That may take minutes. Raises ProvisionError.
        """
        ...


class EcsProvisioner:
    """Runs workers as tasks, which outlive their controller. Call `close` at the end."""

    can_launch = True
    takes_images = True

    def __init__(self, config: EcsConfig, ecs: Any, definitions: TaskDefinitions, clock: Clock) -> None:
        self._config = config
        self._ecs = ecs
        self._definitions = definitions
        self._clock = clock
        self._budget = LaunchBudget()
        self._starting: dict[Key, asyncio.Task[EcsTask]] = {}
        self._stopping: dict[Key, asyncio.Task[None]] = {}
        self._running: dict[Key, EcsTask] = {}
        self._ended: dict[Key, InstanceView] = {}
        self._started_at: dict[str, float] = {}  # by ARN, until the task is seen
        self._settled: set[str] = set()  # ARNs of tasks that aren't ours, or have ended: nothing is new about them
        self._asked_to_stop: dict[Key, float] = {}
        self._looking: asyncio.Task[None] | None = None
        self._look_at = 0.0  # when the next look is due, in monotonic seconds
        self._why_unseen: Reason | None = "ECS has not answered yet"  # why the last look failed

    async def launch(self, cell_id: str, generation: int, image: str | None = None) -> None:
        """Run the cell's task definition, unless a task of this generation is there already."""
        key = (cell_id, generation)
        task = self._starting[key] = asyncio.create_task(self._start(key, image))
        if await self._is_done_soon(task):
            del self._starting[key]
            self._running[key] = task.result()

    async def stop(self, cell_id: str, generation: int) -> None:
        """Have ECS send SIGTERM, and SIGKILL after the `stopTimeout` of the task definition."""
        key, now = (cell_id, generation), self._clock.monotonic()
        found = self._running.get(key)
        if found is None or key in self._stopping or now < self._asked_to_stop.get(key, 0.0):
            return
        self._asked_to_stop[key] = now + STOP_AGAIN_S
        task = self._stopping[key] = asyncio.create_task(self._stop(found))
        if await self._is_done_soon(task):
            self._stopping.pop(key, None)
            task.result()

    async def observe(self) -> list[InstanceView]:
        """List all that run or are being started, and the last hundred that ended; asks ECS every few seconds."""
        self._note_done()
        if self._looking is None and self._clock.monotonic() >= self._look_at:
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None and await self._is_done_soon(self._looking):
            self._looking = None
        if self._why_unseen is not None:
            raise ProvisionError(self._why_unseen)
        starting = [InstanceView(*key, running=True, detail="being launched") for key in self._starting]
        ended = [view for key, view in self._ended.items() if key not in self._running]
        return [*starting, *(task.view for task in self._running.values()), *ended]

    async def close(self) -> None:
        """Give up the launches that are not done yet; the tasks go on running."""
        looking = [self._looking] if self._looking is not None else []
        left: list[asyncio.Task[Any]] = [*self._starting.values(), *self._stopping.values(), *looking]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _stop(self, found: EcsTask) -> None:
        async with self._call(f"{found.key[0]} generation {found.key[1]} can't be stopped"):
            await self._ecs.stop_task(**self._config.stop_task(found))

    async def _start(self, key: Key, image: str | None) -> EcsTask:
        """Start the instance's task, and return it. Raises ProvisionError."""
        what = f"{key[0]} generation {key[1]} can't be launched"
        try:
            definition = await self._definitions.task_definition(key[0], image)
        except ProvisionError as error:
            raise ProvisionError(f"{what}: {error}") from error
        task = await self._found(key, what)
        if task is None:
            await self._clock.sleep(self._budget.wait_s(self._clock.monotonic()))
            task = _just_started(await self._run(self._config.run_task(key, definition), what), key)
        self._started_at[task.arn] = self._clock.monotonic()
        return task

    async def _found(self, key: Key, what: str) -> EcsTask | None:
        """Find the task of this generation that an earlier controller, or an earlier try, has started."""
        async with self._call(what):
            listed = await self._ecs.list_tasks(cluster=self._config.cluster, startedBy=self._config.started_by(key))
            found = await self._described(listed.get("taskArns", ()))
        return next((task for task in found.values() if task is not None and task.key == key), None)

    async def _run(self, request: dict[str, Any], what: str) -> str:
        """Run a task; a call without a clear answer is made again with the same token, which starts no second one."""
        for tried in range(1, TRIES + 1):
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    answer = await self._ecs.run_task(**request)
            except AWS_ERRORS as error:
                if arns := _already_started(error):
                    return arns[0]
                code, words = error_code(error), error_words(error)
                if tried < TRIES and (not code or trouble(code, words) in _NO_ANSWER):
                    await self._clock.sleep(TRY_AGAIN_S * tried)
                    continue
                raise ProvisionError(f"{what}: {described(code, words)}") from error
            if tasks := answer.get("tasks"):
                return str(tasks[0]["taskArn"])
            raise ProvisionError(f"{what}: {described('', _failures(answer))}")
        raise AssertionError("the last try returns or raises")

    async def _look(self) -> None:
        """Take in how all tasks are, or note why that can't be known."""
        self._look_at = self._clock.monotonic() + LOOK_EVERY_S
        try:
            async with self._call("the cells' tasks can't be listed", LOOK_TIMEOUT_S):
                await self._look_at_all()
        except ProvisionError as error:
            self._why_unseen = str(error)
        else:
            self._why_unseen = None

    async def _look_at_all(self) -> None:
        """Ask ECS for all tasks of the cluster, and describe those about which something may be new."""
        arns = {arn for status in ("RUNNING", "STOPPED") for arn in await self._listed(status)}
        self._settled &= arns
        asked = (arns - self._settled) | {task.arn for task in self._running.values()}
        found = await self._described(sorted(asked))
        now = self._clock.monotonic()
        self._look_at = max(self._look_at, now + (2 + 2 * len(asked) / _CHUNK) / CALLS_PER_S)
        before, self._running = self._running, {}
        for arn, task in found.items():
            if task is None or not task.view.running:
                self._settled.add(arn)
            if task is not None:
                self._note(task)
        for key, task in before.items():
            if key in self._running or key in self._ended:
                continue
            if now - self._started_at.get(task.arn, -UNSEEN_S) < UNSEEN_S:
                self._running[key] = task
            else:
                self._end(InstanceView(*key, running=False, detail="ECS knows its task no more"))

    def _note(self, task: EcsTask) -> None:
        self._started_at.pop(task.arn, None)
        if task.view.running:
            self._running[task.key] = task
        else:
            self._end(task.view)

    def _note_done(self) -> None:
        """Take note of the launches that have come to something since the last look, or to nothing, and of stops."""
        for key, stop in [(key, stop) for key, stop in self._stopping.items() if stop.done()]:
            del self._stopping[key]
            stop.exception()  # where it failed, the instance is asked to end again
        for key, task in [(key, task) for key, task in self._starting.items() if task.done()]:
            del self._starting[key]
            if (error := task.exception()) is not None:
                self._end(InstanceView(*key, running=False, detail=str(error) or repr(error)))
            else:
                self._running[key] = task.result()

    def _end(self, view: InstanceView) -> None:
        key = (view.cell_id, view.generation)
        self._ended[key] = view
        self._asked_to_stop.pop(key, None)
        while len(self._ended) > _KEEP_ENDED:
            del self._ended[next(iter(self._ended))]

    async def _listed(self, status: str) -> list[str]:
        """List the ARNs of all tasks that ECS wants to be in this state."""
        arns: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = await self._ecs.list_tasks(
                cluster=self._config.cluster, desiredStatus=status, maxResults=_CHUNK, **token
            )
            arns += page.get("taskArns", ())
            if not page.get("nextToken"):
                return arns
            token = {"nextToken": page["nextToken"]}

    async def _described(self, arns: Sequence[str]) -> dict[str, EcsTask | None]:
        """Describe tasks by ARN; None for those that are not ours. Those that ECS does not know are missing."""
        chunks = [arns[first : first + _CHUNK] for first in range(0, len(arns), _CHUNK)]
        cluster = self._config.cluster
        answers = await _all(self._ecs.describe_tasks(cluster=cluster, tasks=list(chunk)) for chunk in chunks)
        tasks = [task for answer in answers for task in answer.get("tasks", ())]
        return {str(task.get("taskArn")): read_task(task, self._config) for task in tasks}

    async def _is_done_soon(self, task: asyncio.Task[Any]) -> bool:
        """Wait for a task, but not long; whether it is done."""
        waiting = asyncio.create_task(self._clock.sleep(WAIT_S))
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return task.done()

    @asynccontextmanager
    async def _call(self, what: str, seconds: float = CALL_TIMEOUT_S) -> AsyncIterator[None]:
        """Limit the time of calls, and raise ProvisionError for every failure, in words that say what to do."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except AWS_ERRORS as error:
            raise ProvisionError(f"{what}: {described(error_code(error), error_words(error))}") from error


async def _all(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    return list(await asyncio.gather(*calls))


def _just_started(arn: str, key: Key) -> EcsTask:
    detail = f"task {arn.rpartition('/')[2]}, started"
    return EcsTask(arn, key, InstanceView(*key, running=True, detail=detail))


def _already_started(error: BaseException) -> list[str]:
    """The tasks that the same token has started with another request, of an earlier task definition, say."""
    if error_code(error) != "ConflictException":
        return []
    return [str(arn) for arn in getattr(error, "response", {}).get("resourceIds", ())]


def _failures(answer: Any) -> str:
    """Put the failures of an answer that has no task into ECS' own words."""
    failures = answer.get("failures", ())
    said = [": ".join(filter(None, [each.get("reason"), each.get("detail")])) for each in failures]
    return "; ".join(dict.fromkeys(filter(None, said)))
