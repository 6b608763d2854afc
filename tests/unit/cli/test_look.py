"""What `cells`, `watch` and `audit` show: one glance, never a name cut, and JSON for machines."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from rich.live import Live

from router.cli.look.audit import chosen, unseen
from router.cli.look.status import _look, first_of, headline, held_of, statuses, table
from router.cli.texts import Screen
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.samples import CellSample, RouterSample
from router.core.errors import RegistryUnavailableError, SourceUnavailableError
from router.core.models import Depth, Rung, Treatment
from router.core.registry import AuditEntry, Condition, Snapshot
from tests.support.aio import run
from tests.support.command_line import CommandLine, Operated

if TYPE_CHECKING:
    from router.adapters.redis.registry import RedisRegistry

SICK = Treatment(Rung.REPLACING, 1, 1, "slow", "its canary takes 400 ms where 20 ms are usual")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line, on three cells of which the second is sick."""
    monkeypatch.delenv("COLUMNS", raising=False)  # parallel runs of pytest set it
    found = CommandLine(monkeypatch, Operated(3))
    has = found.contents
    has.cells["cell-0001"] = replace(has.cells["cell-0001"], launching=2, treatment=SICK)
    has.policy = has.policy.with_cordon("cell-0002", drain=True)
    now_ms = run(found.registry.snapshot()).now_ms
    slow = Assessment("cell-0001", Verdict.SLOW, rule="its canary takes 400 ms", canary_s=0.4)
    has.conditions = {"cell-0001": Condition(now_ms, 1, slow)}
    has.samples = {
        f"r{i}": RouterSample(1, 0.0, {"cell-0001": CellSample(1, events=20, oldest_s=2.0 + i)}) for i in range(2)
    }
    return found


def test_all_cells_are_shown_at_one_glance(cli: CommandLine) -> None:
    """State, verdict, load, what is done, and what to look at first."""
    text = cli("cells", columns=200)
    rows = {line.split()[1]: line for line in text.splitlines() if "cell-" in line and "│" in line}
    assert set(rows) == {"cell-0000", "cell-0001", "cell-0002"}
    for part in ("slow", "40", "3.0 s", "400.0 ms", "replacing: its canary takes 400 ms", "launching generation 2"):
        assert part in rows["cell-0001"]
    assert "draining" in rows["cell-0002"]
    assert "1 of 3 cells are well; 0 routers; led by controller-0; look at cell-0001: cellrouter explain" in text
    found = json.loads(cli("cells", "--json"))
    assert [status["cell"] for status in found] == sorted(rows)
    assert (found[1]["events_per_s"], found[1]["oldest_s"]) == (40, 3.0)


@pytest.mark.parametrize("columns", [200, 80, 60, 30])
def test_where_there_is_little_room_columns_go_and_no_name_is_cut(cli: CommandLine, columns: int) -> None:
    """The last to go is the cell's name."""
    text = cli("cells", columns=columns)
    assert all(f"cell-000{i}" in text for i in range(3))
    assert "…" not in text
    assert all(len(line) <= columns for line in text.splitlines() if "│" in line)
    assert ("10.0.0.1:80" in text) == (columns == 200)
    assert ("verdict" in text) == (columns > 30)


def test_what_is_no_terminal_gets_every_column_in_one_line_a_row(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that grep finds all of a row."""
    monkeypatch.delenv("COLUMNS", raising=False)
    registry = cli.registry
    found = statuses(run(registry.snapshot()), registry.contents.conditions, {})
    screen = Screen()
    assert not screen.is_terminal
    with screen.capture() as captured:
        screen.print(table(found, screen.width))
    (line,) = [line for line in captured.get().splitlines() if "cell-0001" in line]
    assert "10.0.0.1:80" in line
    assert str(SICK.why) in line


def test_no_cells_and_no_leader_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing runs yet, an empty list is one."""
    cli = CommandLine(monkeypatch, Operated(0))
    cli.contents.leader = ("", 0, 0.0)
    snapshot = run(cli.registry.snapshot())
    assert headline([], snapshot).startswith("there are no cells yet; 0 routers; NO CONTROLLER LEADS")
    assert json.loads(cli("cells", "--json")) == []
    assert json.loads(cli("audit", "--json")) == []
    assert json.loads(cli("policy", "history", "--json")) == []


def test_an_old_verdict_says_nothing_about_now(cli: CommandLine) -> None:
    """Nor does one of another instance."""
    snapshot, has = run(cli.registry.snapshot()), cli.contents
    for wrong in (replace(has.conditions["cell-0001"], at_ms=0), replace(has.conditions["cell-0001"], generation=7)):
        assert statuses(snapshot, {"cell-0001": wrong}, {})[1].verdict == ""


def test_the_audit_is_chosen_by_cell_and_by_age(cli: CommandLine) -> None:
    """The newest last, and as many as asked for."""
    entries = [AuditEntry(i * 1000, "c", f"act{i}", f"cell-000{i % 2}", "why") for i in range(10)]
    assert [entry.action for entry in chosen(entries, 9000, "cell-0001", 5.0, 2)] == ["act7", "act9"]
    assert unseen(entries, entries[:8]) == entries[8:]
    assert unseen(entries, []) == entries
    cli.contents.audit = [*entries]
    text = cli("audit", "--cell", "cell-0001", "-n", "3")
    assert [line.split()[3] for line in text.splitlines()] == ["act5", "act7", "act9"]
    cli("audit", "--since", "soon", code=2)
    assert json.loads(cli("audit", "--json", "-n", "1"))[0]["action"] == "act9"


def test_watch_in_a_pipe_says_what_changes_and_when_it_knows_nothing_new(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same line is not said twice, and what is old is said to be."""

    async def lost() -> Snapshot:
        raise RegistryUnavailableError("Redis is away")

    async def story() -> None:
        registry, screen, said = cast("RedisRegistry", cli.registry), Screen(), ""
        live = Live(console=screen, auto_refresh=False)
        said = await _look(registry, screen, live, said)
        said = await _look(registry, screen, live, said)
        monkeypatch.setattr(cli.registry, "snapshot", lost)
        await _look(registry, screen, live, said)

    run(story())
    lines = capsys.readouterr().out.splitlines()
    assert [line[:24] for line in lines] == ["1 of 3 cells are well; 0", "What is above is old: Re"]


@pytest.mark.parametrize("variable", ["NO_COLOR", "UNUSED"])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, cli: CommandLine, variable: str, *, is_terminal: bool
) -> None:
    """Neither a file nor NO_COLOR gets any."""
    found = statuses(run(cli.registry.snapshot()), cli.contents.conditions, {})
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, "1")
    Screen().print(table(found, 200))
    assert ("\x1b[32m" in stream.getvalue()) == (is_terminal and variable == "UNUSED")


def test_what_is_held_is_shown_where_sqs_says_it(cli: CommandLine) -> None:
    """Without `--held` the column is left out, and so is the figure of a queue that could not be asked."""
    assert held_of(Depth(4, 2, 1)) == 7
    assert held_of(SourceUnavailableError("denied")) is None
    found = statuses(run(cli.registry.snapshot()), {}, {})
    for held, is_shown in ((None, False), (7, True)):
        screen = Screen()
        with screen.capture() as captured:
            screen.print(table([replace(status, held=held) for status in found], 200))
        assert ("held" in captured.get()) == is_shown


def test_where_not_all_cells_have_room_the_sick_ones_come_first(cli: CommandLine) -> None:
    """They are what one watches for."""
    found = statuses(run(cli.registry.snapshot()), cli.contents.conditions, {})
    assert [status.cell for status in first_of(found, 2)] == ["cell-0001", "cell-0002"]
    assert first_of(found, 3) == found
