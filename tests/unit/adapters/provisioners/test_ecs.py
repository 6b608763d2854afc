"""The ECS provisioner on a strict stub, on virtual time: one task a generation, whoever dies and whatever ECS says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from router.adapters.provisioners.ecs import LOOK_EVERY_S, STOP_AGAIN_S, UNSEEN_S, WAIT_S, EcsProvisioner
from router.core.errors import ProvisionError
from router.core.models import InstanceView
from tests.support.aws_models import refusal
from tests.support.ecs_stub import RETIREMENT, SPOT
from tests.support.ecs_world import CONFIG, EcsRoom
from tests.support.fake_clock import FakeClock, play

CELL = "cell-0000"


def on_ecs(story: Callable[[EcsRoom], Awaitable[None]]) -> None:
    """Run a story on virtual time, in a cluster of its own."""
    clock = FakeClock()

    async def main() -> None:
        room = EcsRoom(clock)
        try:
            await story(room)
        finally:
            await room.provisioner.close()
            room.stub.close()

    play(clock, main())


async def views(room: EcsRoom, provisioner: EcsProvisioner | None = None) -> dict[tuple[str, int], InstanceView]:
    """Wait until the next look is due, and return what it finds."""
    await room.clock.sleep(LOOK_EVERY_S)
    found = await (provisioner or room.provisioner).observe()
    assert len({(v.cell_id, v.generation) for v in found}) == len(found)
    return {(v.cell_id, v.generation): v for v in found}


def test_a_task_is_known_by_what_started_it_and_its_address_is_that_of_ecs() -> None:
    """The request passes botocore's model, and its token and name are those of the generation."""

    async def story(room: EcsRoom) -> None:
        await room.provisioner.launch(CELL, 7)
        seen = (await views(room))[CELL, 7]
        assert (seen.running, seen.address, seen.ending) == (True, "10.0.0.2:8080", None)
        task = room.stub.task(CELL, 7)
        assert task.request["startedBy"] == "live/cell-0000/7"
        assert {tag["key"]: tag["value"] for tag in task.request["tags"]}["cellrouter:generation"] == "7"
        assert task.request["launchType"] == "FARGATE"

    on_ecs(story)


def test_spot_is_asked_for_by_its_capacity_provider() -> None:
    """And not by the launch type too, which ECS refuses."""

    async def story(room: EcsRoom) -> None:
        await room.another(replace(CONFIG, capacity_provider="FARGATE_SPOT")).launch(CELL, 1)
        strategy = room.stub.task(CELL, 1).request["capacityProviderStrategy"]
        assert strategy == [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]

    on_ecs(story)


def test_tasks_of_others_are_passed_over_and_described_once() -> None:
    """Services, other environments and other installations of the cluster, and what only looks like ours."""

    async def story(room: EcsRoom) -> None:
        ours = {"group": CONFIG.group, "startedBy": "live/cell-0000/1"}
        for strange in (
            {},
            {"startedBy": ours["startedBy"]},
            ours | {"startedBy": "stress/cell-0000/1"},
            ours | {"startedBy": "live/cell-0000/01"},
            ours | {"startedBy": "live/cell-0000/1/2"},
            ours | {"startedBy": "live/Cell/1"},
            ours | {"startedBy": "live/cell-0000/9999999999999999999"},
        ):
            room.stub.foreign(**strange)
        assert await views(room) == {}
        described = room.stub.calls["DescribeTasks"]
        assert await views(room) == {}
        assert room.stub.calls["DescribeTasks"] == described

    on_ecs(story)


def test_a_launch_whose_answer_is_lost_starts_one_task() -> None:
    """The same token is sent again, and ECS names the task that it has started already."""

    async def story(room: EcsRoom) -> None:
        room.stub.lost_answers = 2
        await room.provisioner.launch(CELL, 1)
        await room.clock.sleep(5)
        assert [v.running for v in (await views(room)).values()] == [True]
        assert (room.stub.calls["RunTask"], len(room.stub.tasks)) == (3, 1)

    on_ecs(story)


def test_another_controller_takes_the_task_that_runs_even_before_ecs_lists_it() -> None:
    """By its name as soon as ECS lists it, and by the token before that; also with a newer task definition."""

    async def story(room: EcsRoom) -> None:
        await room.provisioner.launch(CELL, 1)
        await room.another().launch(CELL, 1)
        assert room.stub.calls["RunTask"] == 1
        room.stub.unseen_s = 30
        await room.provisioner.launch(CELL, 2)
        await room.another().launch(CELL, 2)
        await room.another(replace(CONFIG, subnets=("subnet-89abcdef",))).launch(CELL, 2)
        assert room.stub.calls["RunTask"] == 4
        assert len(room.stub.tasks) == 2

    on_ecs(story)


def test_a_task_that_ecs_does_not_list_yet_runs_and_one_that_it_has_forgotten_has_ended() -> None:
    """ECS is eventually consistent: for a minute it may not know what it has started."""

    async def story(room: EcsRoom) -> None:
        room.stub.unseen_s = UNSEEN_S / 2
        await room.provisioner.launch(CELL, 1)
        assert (await views(room))[CELL, 1].running
        await room.clock.sleep(UNSEEN_S)
        assert (await views(room))[CELL, 1].running
        room.stub.tasks.clear()
        gone = (await views(room))[CELL, 1]
        assert (gone.running, gone.detail) == (False, "ECS knows its task no more")

    on_ecs(story)


@pytest.mark.parametrize("notice", [SPOT, RETIREMENT])
def test_a_task_that_ecs_will_end_is_marked_while_it_runs(notice: tuple[str, str]) -> None:
    """Fargate Spot and task retirement: the mark has ECS' words. The exit is told when it has ended."""

    async def story(room: EcsRoom) -> None:
        room.stub.drain_s = 100
        await room.provisioner.launch(CELL, 1)
        await views(room)
        room.stub.end(room.stub.task(CELL, 1), *notice)
        seen = (await views(room))[CELL, 1]
        assert (seen.running, seen.address) == (True, "10.0.0.2:8080")
        assert notice[1] in str(seen.ending)
        await room.clock.sleep(100)
        seen = (await views(room))[CELL, 1]
        assert (seen.running, seen.ending) == (False, None)
        assert seen.detail.startswith("exit code 0")
        assert notice[1] in seen.detail

    on_ecs(story)


def test_a_hung_task_is_killed_after_its_stop_timeout_and_asked_only_now_and_then() -> None:
    """Whoever asks ten times a second makes one call in ten seconds. ECS deletes the tags, and it is known still."""

    async def story(room: EcsRoom) -> None:
        room.stub.stop_timeout_s = 2 * STOP_AGAIN_S - 1
        await room.provisioner.launch(CELL, 1)
        await views(room)
        room.stub.task(CELL, 1).hung = True
        for _ in range(round(10 * STOP_AGAIN_S)):
            await room.provisioner.stop(CELL, 1)
            await room.clock.sleep(0.1)
        assert room.stub.calls["StopTask"] == 1
        assert (await views(room))[CELL, 1].running
        await room.clock.sleep(STOP_AGAIN_S)
        assert (await views(room))[CELL, 1].detail.startswith("killed by signal 9")
        assert room.stub.task(CELL, 1).tags == []

    on_ecs(story)


def test_a_stop_that_takes_long_keeps_nobody_waiting() -> None:
    """As with an ECS that answers only when the task has ended. One that fails is asked for again."""

    async def story(room: EcsRoom) -> None:
        await room.provisioner.launch(CELL, 1)
        room.stub.answers_after_s = 2 * WAIT_S
        begun = room.clock.monotonic()
        await room.provisioner.stop(CELL, 1)
        await room.provisioner.stop(CELL, 1)
        assert room.clock.monotonic() - begun <= WAIT_S
        room.stub.refused["StopTask"] = [refusal("ServerException", "try again")]
        await room.clock.sleep(2 * STOP_AGAIN_S)
        room.stub.answers_after_s = 0
        assert (room.stub.calls["StopTask"], (await views(room))[CELL, 1].running) == (1, True)
        await room.provisioner.stop(CELL, 1)
        assert not (await views(room))[CELL, 1].running

    on_ecs(story)


def test_many_tasks_are_read_in_pages_and_chunks_and_seldom() -> None:
    """250 running ones take six calls a look, and a look is due as seldom as ECS' rates want it."""

    async def story(room: EcsRoom) -> None:
        for number in range(250):
            room.stub.foreign(group=CONFIG.group, startedBy=f"live/cell-{number:04d}/1")
        assert len(await views(room)) == 250
        calls = room.stub.calls.copy()
        assert (calls["ListTasks"], calls["DescribeTasks"]) == (3 + 1, 3)
        for _ in range(100):
            await room.provisioner.observe()
            await room.clock.sleep(0.1)
        assert sum((room.stub.calls - calls).values()) <= 5 * 10

    on_ecs(story)


def test_launches_keep_within_fargates_rates() -> None:
    """No second has more than 20, however many are wanted at once."""

    async def story(room: EcsRoom) -> None:
        for number in range(60):
            await room.provisioner.launch(f"cell-{number:04d}", 1)
        at = room.stub.run_at
        assert len(at) == 60
        assert all(sum(1 for other in at if moment <= other < moment + 1) <= 20 for moment in at)

    on_ecs(story)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        ("RunTask", refusal("AccessDeniedException", "not authorized to perform: ecs:RunTask"), "denied, which needs"),
        ("RunTask", refusal("ClientException", "unable to assume the role 'x'"), "role, which needs a person"),
        ("ListTasks", refusal("ClusterNotFoundException", "Cluster not found."), "cluster, .* see ecs.cluster"),
        ("ListTasks", OSError("no route"), "unknown, which may pass"),
    ],
)
def test_a_launch_that_ecs_refuses_says_why_in_its_words(call: str, error: BaseException, says: str) -> None:
    """It is refused once, and not asked for again by itself."""

    async def story(room: EcsRoom) -> None:
        room.stub.refused[call] = [error]
        with pytest.raises(ProvisionError, match=f"cell-0000 generation 1 can't be launched: {says}"):
            await room.provisioner.launch(CELL, 1)
        assert room.stub.tasks == {}
        assert await views(room) == {}

    on_ecs(story)


def test_failures_in_an_answer_without_error_are_failures() -> None:
    """Capacity above all: ECS answers 200, and there is no task."""

    async def story(room: EcsRoom) -> None:
        room.stub.failures = [{"reason": "Capacity is unavailable at this time.", "detail": "us-east-1a"}]
        with pytest.raises(ProvisionError, match=r"no capacity, which may pass.*Capacity is unavailable .*us-east-1a"):
            await room.provisioner.launch(CELL, 1)

    on_ecs(story)


def test_throttling_passes_unseen_and_its_end_is_told() -> None:
    """It is tried three times in all."""

    async def story(room: EcsRoom) -> None:
        throttled = refusal("ThrottlingException", "Rate exceeded")
        room.stub.refused["RunTask"] = [throttled, throttled]
        await room.provisioner.launch(CELL, 1)
        await room.clock.sleep(5)
        room.stub.refused["RunTask"] = [throttled] * 3
        await room.provisioner.launch(CELL, 2)
        seen = await views(room)
        assert (seen[CELL, 1].running, seen[CELL, 2].running) == (True, False)
        assert "throttled, which may pass" in seen[CELL, 2].detail

    on_ecs(story)


@pytest.mark.parametrize(
    ("code", "reason", "container", "says"),
    [
        (-1, "CannotPullContainerError: manifest unknown", "", "no exit code; image, which needs a person"),
        (-1, "ResourceInitializationError: unable to pull secrets", "", "no exit code; secrets, which needs"),
        (137, "Essential container in task exited", "OutOfMemoryError: Container killed", "killed by signal 9; memory"),
        (2, "Essential container in task exited", "", "exit code 2; exited, which may pass"),
    ],
)
def test_a_task_that_ended_at_its_start_says_why(code: int, reason: str, container: str, says: str) -> None:
    """As last words, until ECS forgets the task, and a hundred of them after that."""

    async def story(room: EcsRoom) -> None:
        await room.provisioner.launch(CELL, 1)
        room.stub.exit(room.stub.task(CELL, 1), code, reason, container)
        for _ in range(2):
            seen = (await views(room))[CELL, 1]
            assert not seen.running
            assert seen.detail.startswith(says)
            assert reason in seen.detail
            room.stub.forget()

    on_ecs(story)


def test_a_launch_that_waits_for_its_stack_keeps_nobody_waiting() -> None:
    """An update of the stack takes a minute: the instance is being launched for so long, and its end is told."""

    async def story(room: EcsRoom) -> None:
        room.definitions.takes_s = 60

        async def launch(generation: int) -> None:
            await room.provisioner.launch(CELL, generation, image="repository@sha256:1")

        await launch(1)
        assert (await views(room))[CELL, 1] == InstanceView(CELL, 1, running=True, detail="being launched")
        assert room.definitions.asked == [(CELL, "repository@sha256:1")]
        await room.clock.sleep(60)
        assert (await views(room))[CELL, 1].address
        room.definitions.fault = ProvisionError("the stack could not be updated: Role is not valid")
        await launch(2)
        await room.clock.sleep(60)
        seen = (await views(room))[CELL, 2]
        assert (seen.running, "could not be updated: Role is not valid" in seen.detail) == (False, True)

    on_ecs(story)


def test_a_look_that_fails_says_why() -> None:
    """The controller goes on with what it saw last. However often it asks, ECS is asked every two seconds."""

    async def story(room: EcsRoom) -> None:
        room.stub.refused["ListTasks"] = [refusal("ThrottlingException", "Rate exceeded")] * 5
        for _ in range(round(10 * 4.5 * LOOK_EVERY_S)):
            with pytest.raises(ProvisionError, match="the cells' tasks can't be listed: throttled, which may pass"):
                await room.provisioner.observe()
            await room.clock.sleep(0.1)
        assert room.stub.calls["ListTasks"] == 5
        assert await views(room) == {}

    on_ecs(story)


def test_a_look_that_takes_long_keeps_nobody_waiting() -> None:
    """What was seen last counts until it is done; before the first one nothing is known, which is said."""

    async def story(room: EcsRoom) -> None:
        room.stub.answers_after_s = 3 * WAIT_S
        begun = room.clock.monotonic()
        with pytest.raises(ProvisionError, match="has not answered yet"):
            await room.provisioner.observe()
        assert room.clock.monotonic() - begun <= WAIT_S
        room.stub.foreign(group=CONFIG.group, startedBy="live/cell-0000/1")
        await room.clock.sleep(10 * WAIT_S)
        await room.provisioner.observe()
        room.stub.foreign(group=CONFIG.group, startedBy="live/cell-0000/2")
        await room.clock.sleep(LOOK_EVERY_S)
        begun = room.clock.monotonic()
        assert [v.generation for v in await room.provisioner.observe()] == [1]
        assert room.clock.monotonic() - begun <= WAIT_S
        await room.clock.sleep(20 * WAIT_S)
        assert {v.generation for v in await room.provisioner.observe()} == {1, 2}

    on_ecs(story)
