"""A cell's stack is made, updated and removed step by step, and nothing of anybody else is touched: on virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from router.adapters.aws.resources import ResourceNames
from router.adapters.aws.stack_states import why_failed
from router.adapters.aws.stacks import EMPTY_S, CellStacks, StackConfig
from router.core.errors import NotYetError, ProvisionError
from router.core.models import Reason
from tests.support.fake_clock import FakeClock, play
from tests.support.stack_stub import TEMPLATE, StackStub

CELL, NAME = "cell-0000", "cellrouter-live-cell-0000"
NAMES = ResourceNames("cellrouter", "live", "events", "dead")


@dataclass
class Parts:
    """What makes the parts of a stack, and says what is left in them."""

    missing: list[str] = field(default_factory=list)
    left: Reason | None = None

    async def ensure(self, cell_id: str) -> Sequence[str]:
        found, self.missing = self.missing, []
        return found

    async def why_not_empty(self, cell_id: str) -> Reason | None:
        return self.left


@dataclass
class Room:
    """CloudFormation, and the stacks of one installation."""

    clock: FakeClock
    secret_id: str = "aaaa"
    stub: StackStub = field(init=False)
    parts: Any = field(default_factory=Parts)
    stacks: CellStacks = field(init=False)

    def __post_init__(self) -> None:
        self.stub = StackStub(self.clock)
        config = StackConfig(
            names=NAMES,
            template=TEMPLATE,
            image="repository:1",
            cpu=512,
            memory_mb=1024,
            parameters={},
            role="",
            secret_of=lambda cell_id: f"secret of {cell_id} from {self.secret_id}",
            secret_id=lambda: self.secret_id,
        )
        self.stacks = CellStacks(config, self.stub, self.parts, self.parts, self.clock)

    async def made(self) -> None:
        """Have the cell's stack made, looking again every few seconds as the leader does."""
        for _ in range(100):
            try:
                await self.stacks.ensure(CELL)
            except NotYetError:
                await self.clock.sleep(5)
            else:
                return
        raise AssertionError("the stack was never made")


def with_stacks(story: Callable[[Room], Awaitable[None]]) -> None:
    """Run a story on virtual time, in an account of its own."""
    clock = FakeClock()

    async def main() -> None:
        await story(Room(clock))

    play(clock, main())


def test_a_stack_is_made_step_by_step_and_told_of_once() -> None:
    """No call waits for it; a later one says that it was made, and the one after that nothing."""

    async def story(room: Room) -> None:
        begun = room.clock.now
        with pytest.raises(NotYetError, match=f"{NAME} is being made"):
            await room.stacks.ensure(CELL)
        with pytest.raises(NotYetError, match="CREATE_IN_PROGRESS"):
            await room.stacks.ensure(CELL)
        assert room.clock.now == begun
        await room.clock.sleep(room.stub.takes_s)
        assert await room.stacks.ensure(CELL) == ["stack"]
        assert await room.stacks.ensure(CELL) == []
        assert room.stub.stacks[NAME].parameters() == {
            "Prefix": "cellrouter",
            "Environment": "live",
            "CellId": CELL,
            "Image": "repository:1",
            "TaskCpu": "512",
            "TaskMemory": "1024",
            "CellSecret": "secret of cell-0000 from aaaa",
        }

    with_stacks(story)


def test_what_was_deleted_from_a_complete_stack_is_made_anew() -> None:
    """CloudFormation would not do it."""

    async def story(room: Room) -> None:
        await room.made()
        room.parts.missing = ["hold queue"]
        assert await room.stacks.ensure(CELL) == ["hold queue"]

    with_stacks(story)


def test_two_leaders_that_make_a_stack_at_once_make_one() -> None:
    """The second finds it being made, even when it did not exist a moment ago."""

    async def story(room: Room) -> None:
        async def missing(**request: Any) -> Any:
            del room.stub.describe_stacks
            return await StackStub(room.clock).describe_stacks(**request)

        with pytest.raises(NotYetError):
            await room.stacks.ensure(CELL)
        room.stub.describe_stacks = missing  # type: ignore[method-assign]
        with pytest.raises(NotYetError):
            await room.stacks.ensure(CELL)
        assert len(room.stub.stacks) == 1

    with_stacks(story)


def test_a_stack_that_could_not_be_made_says_why_and_is_made_anew() -> None:
    """The reason is the first failure, not what was cancelled for its sake. The ghost is deleted."""

    async def story(room: Room) -> None:
        room.stub.failing[NAME] = "Role is not authorized to perform: firehose:CreateDeliveryStream"
        with pytest.raises(NotYetError):
            await room.stacks.ensure(CELL)
        await room.clock.sleep(room.stub.takes_s)
        with pytest.raises(
            ProvisionError, match=r"Stream \(AWS::KinesisFirehose.*firehose:CreateDeliveryStream"
        ) as told:
            await room.stacks.ensure(CELL)
        assert not isinstance(told.value, NotYetError)
        await room.made()
        assert room.stub.stacks[NAME].status == "CREATE_COMPLETE"

    with_stacks(story)


@pytest.mark.parametrize("missing", ["cellrouter:prefix", "cellrouter:environment", "cellrouter:cell"])
def test_a_stack_of_somebody_else_is_left_alone(missing: str) -> None:
    """Whatever its state and whatever is wanted: no call changes it, and the reason says how to make it ours."""

    async def story(room: Room) -> None:
        await room.made()
        stack = room.stub.stacks[NAME]
        stack.request["Tags"] = [tag for tag in stack.request["Tags"] if tag["Key"] != missing]
        before = room.stub.calls.copy()
        for status in ("CREATE_COMPLETE", "ROLLBACK_COMPLETE", "DELETE_FAILED"):
            stack.status = status
            for call in (
                room.stacks.ensure(CELL),
                room.stacks.remove(CELL),
                room.stacks.task_definition(CELL, "repository:2"),
            ):
                with pytest.raises(ProvisionError, match=f"is not this installation's.*tag it .*{missing}="):
                    await call
        assert (room.stub.calls - before).keys() == {"DescribeStacks"}

    with_stacks(story)


def test_a_new_image_is_in_the_stack_before_its_task_definition_is_told() -> None:
    """The same image again changes nothing, and no image means the one that the stack has."""

    async def story(room: Room) -> None:
        await room.made()
        first = await room.stacks.task_definition(CELL, None)
        second = await room.stacks.task_definition(CELL, "repository:2")
        assert (first[-2:], second[-2:]) == (":1", ":2")
        assert room.stub.stacks[NAME].parameters()["Image"] == "repository:2"
        assert [await room.stacks.task_definition(CELL, image) for image in (None, "repository:2")] == [second] * 2
        assert room.stub.calls["UpdateStack"] == 1

    with_stacks(story)


def test_while_a_stack_is_updated_an_instance_of_what_it_was_can_be_launched() -> None:
    """A cell whose instance dies meanwhile does not wait for the update."""

    async def story(room: Room) -> None:
        await room.made()
        stack = room.stub.stacks[NAME]
        stack.status, stack.then, stack.done_at = "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE", room.clock.now + 60
        now = room.clock.now
        assert (await room.stacks.task_definition(CELL, None))[-2:] == ":1"
        assert room.clock.now == now
        assert await room.stacks.ensure(CELL) == []

    with_stacks(story)


def test_an_update_that_fails_says_why_and_the_stack_goes_on() -> None:
    """The image stays what it was; another try is another update."""

    async def story(room: Room) -> None:
        await room.made()
        room.stub.failing[NAME] = "ECR: no such image"
        with pytest.raises(ProvisionError, match=r"could not be updated: Stream .*ECR: no such image"):
            await room.stacks.task_definition(CELL, "repository:2")
        assert (await room.stacks.task_definition(CELL, None))[-2:] == ":1"
        assert (await room.stacks.task_definition(CELL, "repository:2"))[-2:] == ":2"

    with_stacks(story)


def test_an_update_keeps_the_tags_that_somebody_has_added() -> None:
    """CloudFormation would remove every tag that an update does not name, and refuses those of AWS itself."""

    async def story(room: Room) -> None:
        await room.made()
        request = room.stub.stacks[NAME].request
        added = [{"Key": "team", "Value": "theirs"}, {"Key": "aws:servicecatalog:x", "Value": "y"}]
        request["Tags"] = [*added, *request["Tags"]]
        room.secret_id = "bbbb"
        await room.stacks.task_definition(CELL, "repository:2")
        tags = {tag["Key"]: tag["Value"] for tag in room.stub.stacks[NAME].request["Tags"]}
        assert tags.pop("team") == "theirs"
        assert not [key for key in tags if key.startswith("aws:")]
        assert "bbbb" in tags.values()
        assert CELL in tags.values()

    with_stacks(story)


def test_a_new_secret_is_in_the_stack_before_the_next_instance_is_launched() -> None:
    """The image stays; the tag says which secret the stack has, since CloudFormation shows no secret."""

    async def story(room: Room) -> None:
        await room.made()
        room.secret_id = "bbbb"
        await room.stacks.task_definition(CELL, None)
        parameters = room.stub.stacks[NAME].parameters()
        assert (parameters["CellSecret"], parameters["Image"]) == ("secret of cell-0000 from bbbb", "repository:1")
        await room.stacks.task_definition(CELL, None)
        assert room.stub.calls["UpdateStack"] == 1

    with_stacks(story)


def test_a_removed_cells_stack_goes_when_nothing_has_been_left_in_it_for_a_while() -> None:
    """SQS counts approximately. Whatever turns up meanwhile starts the time anew."""

    async def story(room: Room) -> None:
        await room.made()
        room.parts.left = "events wait in its hold queue"
        assert await room.stacks.remove(CELL) == "events wait in its hold queue"
        await room.clock.sleep(2 * EMPTY_S)
        room.parts.left = None
        assert "nothing is left in it" in str(await room.stacks.remove(CELL))
        await room.clock.sleep(EMPTY_S - 1)
        room.parts.left = "lines wait in its outbox"
        assert await room.stacks.remove(CELL) == "lines wait in its outbox"
        room.parts.left = None
        await room.stacks.remove(CELL)
        await room.clock.sleep(EMPTY_S - 1)
        assert "nothing is left in it" in str(await room.stacks.remove(CELL))
        assert room.stub.calls["DeleteStack"] == 0
        await room.clock.sleep(1)
        assert "is being deleted" in str(await room.stacks.remove(CELL))
        assert "DELETE_IN_PROGRESS" in str(await room.stacks.remove(CELL))
        with pytest.raises(NotYetError, match="DELETE_IN_PROGRESS"):
            await room.stacks.ensure(CELL)
        await room.clock.sleep(room.stub.takes_s)
        assert await room.stacks.remove(CELL) is None

    with_stacks(story)


def test_a_stack_that_can_not_be_deleted_is_left_to_a_person() -> None:
    """It is not tried again and again, and it says why."""

    async def story(room: Room) -> None:
        await room.made()
        room.stub.failing[NAME] = "The bucket is not empty"
        await room.stacks.remove(CELL)
        await room.clock.sleep(EMPTY_S)
        await room.stacks.remove(CELL)
        await room.clock.sleep(room.stub.takes_s)
        assert "DELETE_FAILED, and a person has to look: Stream" in str(await room.stacks.remove(CELL))
        with pytest.raises(ProvisionError, match="The bucket is not empty"):
            await room.stacks.ensure(CELL)
        assert room.stub.calls["DeleteStack"] == 1

    with_stacks(story)


def test_a_template_that_is_not_a_cells_is_named() -> None:
    """CloudFormation says which parameters are wrong; an output that is missing is named here."""

    async def story(room: Room) -> None:
        strange = replace(room.stacks.config, template=TEMPLATE.replace("  TaskCpu: {Type: String}\n", ""))
        stacks = CellStacks(strange, room.stub, room.parts, room.parts, room.clock)
        with pytest.raises(ProvisionError, match=r"can't be made: .*TaskCpu"):
            await stacks.ensure(CELL)

    with_stacks(story)


def test_the_reason_of_a_failure_is_the_first_of_the_last_operation() -> None:
    """Events come newest first; those of earlier operations say nothing."""

    def event(resource: str, status: str, why: str, kind: str = "AWS::S3::Bucket") -> dict[str, str]:
        return {
            "LogicalResourceId": resource,
            "ResourceType": kind,
            "ResourceStatus": status,
            "ResourceStatusReason": why,
        }

    stack = "AWS::CloudFormation::Stack"
    events = [
        event("x", "ROLLBACK_COMPLETE", "", stack),
        event("Queue", "CREATE_FAILED", "Resource creation cancelled"),
        event("Table", "CREATE_FAILED", "second"),
        event("Bucket", "CREATE_FAILED", "first"),
        event("Stream", "CREATE_FAILED", "Resource creation cancelled"),  # at the same moment
        event("x", "CREATE_IN_PROGRESS", "User Initiated", stack),
        event("Old", "CREATE_FAILED", "of long ago"),
    ]
    assert why_failed(events) == "Bucket (AWS::S3::Bucket): first"
    assert why_failed([]) == "its events do not say why"
