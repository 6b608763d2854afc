"""What `plan`, `apply`, `undo` and `scale` say: in words, with the reason, and of what there is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from router.cli.change.scale import scaled, why_waiting
from router.core.models import RouterReport, RouterView
from router.core.policy import Quarantine
from router.core.registry import AuditEntry, PolicyVersion, RouterAction
from router.core.slot_map.slots import Move
from tests.support.aio import run
from tests.support.command_line import CommandLine, Operated


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line, on two cells."""
    return CommandLine(monkeypatch)


def test_a_plan_counts_what_would_move_in_words(cli: CommandLine) -> None:
    """Keys and slots, one or many; what changes nothing is said to."""
    home = cli.registry.contents.slot_map
    assert home is not None
    other = {"cell-0000": "cell-0001", "cell-0001": "cell-0000"}[home.cell_of("k")]
    assert "k: pinned to " + other + ": would move 1 key in 1 move\n" in cli("plan", "pin", "k", other)
    assert "cell-0001: draining: would move 8192 of 16384 slots (50.0% of the keys) in" in cli(
        "plan", "drain", "cell-0001"
    )
    assert "would move nothing" in cli("plan", "limit", "k", "--rate=1")
    assert "cell-0000 is not cordoned" in cli("plan", "uncordon", "cell-0000", code=1)
    assert "no event has an empty key" in cli("plan", "pin", "", other, code=2)
    found = json.loads(cli("plan", "drain", "cell-0001", "--json"))
    assert (found["slots"], found["refused"], found["keys"]) == (8192, [], {})
    assert found["cells"][1] == {"cell": "cell-0001", "slots_now": 8192, "slots_then": 0}
    assert json.loads(cli("scale", "--cells=3", "--dry-run", "--json"))["slots"] == 5461
    cli("apply", "cordon", "cell-0000")
    assert "Nothing to change" in cli("plan", "cordon", "cell-0000")


@pytest.mark.parametrize("edit", [("drain",), ("cordon",), ("weight",), ("pin", "k")], ids=lambda edit: edit[0])
@pytest.mark.parametrize("group", ["plan", "apply"])
def test_a_cell_that_there_is_not_is_answered_with_those_there_are(
    cli: CommandLine, group: str, edit: tuple[str, ...]
) -> None:
    """It is a mistake in the command, and is told from a refusal by the exit code."""
    more = ("2",) if edit == ("weight",) else ()
    said = cli(group, *edit, "cell-0009", *more, code=2)
    assert "there is no cell cell-0009; there are: cell-0000, cell-0001" in " ".join(said.split())
    assert cli.contents.versions == []


def test_undo_goes_further_back_each_time_and_says_what_it_takes_back(cli: CommandLine) -> None:
    """And what the next one would; at the end there is nothing left, which is an error."""
    assert "No change of a person is left" in cli("undo", code=1)
    assert "there is no version 9 yet" in cli("undo", "--to", "9", code=2)
    cli("apply", "pin", "k", "cell-0000", "--why", "a test")
    cli("apply", "cordon", "cell-0001")
    said = cli("undo")
    assert "Taken back: cordon cell-0001: cordoned (version 2" in said
    assert "The next undo takes back: pin k: pinned to cell-0000. a test (version 1" in said
    said = cli("undo")
    assert "Taken back: pin k" in said
    assert "The next undo" not in said
    cli("undo", code=1)
    assert cli.contents.policy.pins == {}
    history = cli("policy", "history")
    assert [line.split()[1] for line in history.splitlines() if "(taken back)" in line] == ["1", "2", "3"]
    assert "Taken back: undo version 1" in cli("undo", "--to", "3")
    assert cli.contents.policy.pins == {"k": "cell-0000"}


def test_undo_is_made_again_when_another_change_comes_first(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router quarantines a key between the look and the change: that stays, and the person's change goes."""
    cli("apply", "cordon", "cell-0001")
    registry, read = cli.registry, cli.registry.history

    async def history() -> list[PolicyVersion]:
        found = list(await read())
        if len(found) == 1:
            entry = AuditEntry(2, "router-0", RouterAction.QUARANTINE, "cell-0000", "it killed generation 3")
            now = registry.contents.policy
            await registry.change_policy(now.with_quarantine("bad", Quarantine("killed", 1), 1), entry)
        return found

    monkeypatch.setattr(registry, "history", history)
    assert "Taken back: cordon" in cli("undo")
    assert (cli.contents.policy.cordoned, set(cli.contents.policy.quarantined)) == (frozenset(), {"bad"})


def test_a_scaling_says_what_it_waits_for(cli: CommandLine) -> None:
    """A cell that does not start, a router that is behind, a cell that gives its slots away, a leader who is away."""
    has = cli.contents
    snapshot = run(cli.registry.snapshot())
    assert list(why_waiting(snapshot, 2)) == []
    failing = replace(has.cells["cell-0001"], launching=2, launch_failures=3, why_launch_failed="no image")
    unwell = replace(snapshot, cells={**has.cells, "cell-0001": failing}, leader="")
    assert list(why_waiting(unwell, 3)) == [
        "no controller leads: see whether one runs and reaches Redis",
        "cell-0001 did not start, 3 times in a row, the last: no image",
        "cell-0002 is not made yet",
    ]
    text, reached = scaled(unwell, 0, 3)
    assert "; waits: no controller leads: see whether one runs and reaches Redis; cell-0001 did not start" in text
    assert text.endswith("; 1 more")
    assert reached == 0
    assert has.slot_map is not None
    moving = replace(has.slot_map, epoch=5, move=Move({1: "cell-0001"}, {}))
    routers = tuple(RouterView(RouterReport(f"r{i}", 4 + i, quiet=False), live=i < 2) for i in range(3))
    assert list(why_waiting(replace(snapshot, slot_map=moving, routers=routers), 1)) == [
        "router r0 has not read the newest map yet",
        "router r1 has events under way that belong to what moves",
        "cell-0001 still has 8192 slots",
    ]


def test_a_scaling_that_is_not_done_is_followed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of being called done because the number is wanted already."""
    cli = CommandLine(monkeypatch, Operated(2))
    has = cli.contents
    assert "There are 2 cells already" in cli("scale", "--cells=2")
    has.policy = replace(has.policy, version=1, cells=3, scaling_from=2)
    has.cells["cell-0002"] = replace(has.cells["cell-0001"], cell_id="cell-0002", generation=0, launch_failures=3)
    looked = cli.registry.snapshot

    async def snapshot() -> object:
        found = await looked()
        has.policy = replace(has.policy, version=2, cells=2, scaling_from=0) if has.policy.cells == 3 else has.policy
        has.cells.pop("cell-0002", None)
        return found

    monkeypatch.setattr(cli.registry, "snapshot", snapshot)
    said = cli("scale", "--cells=3", code=1)
    assert "There shall be 3 cells already, and it is not done yet" in said
    assert "There are 2 cells" in said
