"""Whatever others have sent, no command lets it steer the terminal: texts are shown, and never obeyed."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from typer.main import get_command

import router.bootstrap.queues
import router.bootstrap.registry
import router.bootstrap.workers
from router.adapters.clock import SystemClock
from router.cli.main import app, main
from router.cli.texts import Screen
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.window import TenantLoad
from router.core.fairness.turns import Fairness
from router.core.messages import dead_letter
from router.core.models import CellRecord, Event, LeaseView, Message, Rung, Traffic, Treatment
from router.core.policy import Policy, Quarantine, TenantLimit
from router.core.registry import AuditEntry, Condition, PolicyVersion
from router.core.release import Release, Wave
from router.core.slot_map.slots import SLOTS, SlotMap
from router.demo.ledger import Ledger
from router.demo.view import DemoState, LiveView
from router.services.dead_letters import DeadLetters
from tests.support.attribute_keys import KEYS
from tests.support.dead_letter_world import Queue
from tests.support.hostile_texts import HOSTILE, MARK, OWN_STYLE, STEERING, obeyed
from tests.support.keys import SECRET
from tests.support.memory_registry import MemoryRegistry
from tests.support.paths import REPOSITORY

EDITS: Final = {
    ("limit",): (HOSTILE, "--rate=1"),
    ("unlimit",): (HOSTILE,),
    ("fairness",): (HOSTILE, "--weight=4", "--priority=high"),
    ("quarantine",): (HOSTILE, "--why", HOSTILE),
    ("release",): (HOSTILE,),
    ("fifo-head",): ("skip", "--why", HOSTILE),
    ("scaling",): ("--min=1", "--max=9", "--why", HOSTILE),
    ("no-scaling",): ("--why", HOSTILE),
    ("pin",): (HOSTILE, HOSTILE),
    ("unpin",): (HOSTILE,),
    ("weight",): (HOSTILE, "2"),
    ("cordon",): (HOSTILE,),
    ("drain",): (HOSTILE,),
    ("uncordon",): (HOSTILE,),
}
WHY: Final = ("--why", HOSTILE)
COMMANDS: Final[dict[tuple[str, ...], tuple[str, ...]]] = {
    **{("plan", *name): arguments for name, arguments in EDITS.items()},
    **{("apply", *name): arguments for name, arguments in EDITS.items()},
    ("undo",): WHY,
    ("scale",): ("--cells=3", "--dry-run"),
    ("where",): (HOSTILE,),
    ("cell-secret",): (HOSTILE,),
    ("token",): (HOSTILE,),
    ("secrets",): (),
    ("version",): (),
    ("explain",): (HOSTILE,),
    **dict.fromkeys((("cells",), ("audit",)), ()),
    ("freeze",): (HOSTILE, *WHY),
    ("unfreeze",): (HOSTILE, *WHY),
    ("eject",): (HOSTILE, *WHY),
    ("readmit",): (HOSTILE, *WHY),
    ("evict",): (HOSTILE, *WHY, "--wait=0.1"),
    ("replace",): (HOSTILE, *WHY, "--wait=0.1"),
    ("deploy", "cells"): ("--image", HOSTILE),
    ("deploy", "platform"): ("--image", HOSTILE),
    ("blast-radius",): ("--assert=max=0.1",),
    ("policy", "show"): (),
    ("policy", "history"): (),
    ("dlq", "list"): (),
    ("dlq", "show"): (HOSTILE,),
    **{("dlq", name): ("--all", "--dry-run") for name in ("redrive", "drop")},
    ("replay",): (f"--env={HOSTILE}", "--from=2026-01-01", "--to=2026-01-02"),
    ("shadow",): (f"--env={HOSTILE}",),
    ("chaos", "slow"): (HOSTILE, "--ms=1"),
    ("chaos", "hang"): (HOSTILE,),
    ("chaos", "errors"): (HOSTILE,),
    ("chaos", "garbage"): (HOSTILE,),
    ("chaos", "component"): (HOSTILE, HOSTILE),
    ("chaos", "crash"): (HOSTILE,),
    **dict.fromkeys((("check-config",), ("doctor",)), ()),
    ("demo",): ("--data", HOSTILE),
    ("demo", "shop"): ("--json", f"{HOSTILE}/ledger"),
    ("shop", "query"): ("SELECT 1", f"--shop={HOSTILE}"),
    ("dev",): (HOSTILE,),
    ("new",): (HOSTILE,),
    ("send",): ("--file", HOSTILE),
    **{("env", name): (HOSTILE,) for name in ("create", "destroy", "run")},
    ("env", "list"): ("--on", HOSTILE),
    ("stress",): ("--env", HOSTILE),
    ("drill",): ("kill", "--env", HOSTILE),
}
NAMING_NONE: Final = {  # they show only words of ours
    *(("scale",), ("cell-secret",), ("token",), ("secrets",), ("version",), ("deploy", "platform"), ("new",)),
    *(("plan", "fifo-head"), ("apply", "fifo-head"), ("plan", "scaling"), ("apply", "scaling")),
    *(("plan", "no-scaling"), ("apply", "no-scaling")),
}
PROCESSES: Final = (("router",), ("controller",), ("init",), ("destroy",), ("tail",), ("watch",), ("shop", "serve"))
"""They print their log, what AWS says, and why they can't start."""
IN_JSON: Final = (  # and the arguments that JSON is asked of
    ("where", HOSTILE),
    ("explain", HOSTILE),
    ("blast-radius",),
    ("cells",),
    ("audit",),
    ("policy", "show"),
    ("policy", "history"),
    ("dlq", "list"),
    ("dlq", "show", HOSTILE),
)
MISTAKES: Final = (  # that typer, or one of our own checks, complains about
    (HOSTILE,),
    ("where", HOSTILE, HOSTILE),
    ("where", f"--{HOSTILE}"),
    ("explain", f"no-{HOSTILE}"),
    ("apply", "fifo-head", HOSTILE),
    ("blast-radius", "--what-if", f"zone={HOSTILE}{HOSTILE}"),
    ("blast-radius", "--by", HOSTILE),
    ("dlq", "list", "--older-than", HOSTILE),
    ("dlq", "show", f"no-{HOSTILE}"),
)


class Terminal(io.StringIO):
    """What is printed, to a terminal or to a pipe."""

    def __init__(self, *, tty: bool) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


class HostileRegistry(MemoryRegistry):
    """A registry in which every text is hostile, with a leader that accepts every change."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        has, now_ms = self.contents, round(SystemClock().monotonic() * 1000)
        treatment = Treatment(Rung.GUARDED, now_ms, 1, HOSTILE, HOSTILE, ejected=True)
        lease = LeaseView(
            HOSTILE, 1, HOSTILE, HOSTILE, 8, ready=True, live=True, zone=HOSTILE, region=HOSTILE, note=HOSTILE
        )
        entry = AuditEntry(now_ms, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
        found = Assessment(HOSTILE, Verdict.SLOW, rule=HOSTILE, load=TenantLoad(HOSTILE, 0.25, 0.03, 0.23))
        has.leader = (HOSTILE, 1, 1e12)
        has.policy = Policy(
            version=2,
            limits={HOSTILE: TenantLimit(1)},
            fairness={HOSTILE: Fairness(4)},
            quarantined={HOSTILE: Quarantine(HOSTILE, now_ms, killed=(1,))},
            pins={HOSTILE: HOSTILE, f"{HOSTILE}2": "b"},
            weights={HOSTILE: 3.0},
            cordoned=frozenset({HOSTILE}),
            ejected=frozenset({HOSTILE}),
            image=HOSTILE,
            release=Release(HOSTILE, (Wave(percent=100.0),), number=1, before=HOSTILE, waits=HOSTILE, why=HOSTILE),
        )
        for cell_id in (HOSTILE, "b"):
            has.cells[cell_id] = CellRecord(cell_id, generation=1, launched=1, treatment=treatment)
        has.slot_map = SlotMap(1, (HOSTILE, "b") * (SLOTS // 2), pins=has.policy.pins)
        has.leases = {(HOSTILE, 1): (lease, 1e12)}
        has.versions = [PolicyVersion(Policy(version=1), entry), PolicyVersion(has.policy, entry)]
        has.audit = [entry]
        has.conditions = {HOSTILE: Condition(now_ms, 1, found, HOSTILE), "b": Condition(now_ms, 1, found, HOSTILE)}

    async def change_policy(self, policy: Policy, audit: AuditEntry) -> bool:
        self.contents.policy = policy
        return True

    async def traffic(self) -> list[dict[str, Traffic]]:
        return [{HOSTILE: Traffic(1, 1)}]


class Letters(Queue):
    """A dead-letter queue that says at once when it is empty."""

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        return await super().receive(max_messages, 0, visibility_s)


@pytest.fixture(autouse=True)
def _hostile_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stands for Redis, SQS and the cells, and gives the streams back that `main` takes."""

    @asynccontextmanager
    async def open_registry(_: object) -> AsyncIterator[MemoryRegistry]:
        yield HostileRegistry()

    @asynccontextmanager
    async def open_dead_letters(_: object) -> AsyncIterator[DeadLetters]:
        clock = SystemClock()
        dead = Letters("dead", clock)
        event = Event(HOSTILE, HOSTILE, json.dumps({"text": f"{HOSTILE}\ud800"}).encode(), 5)
        message = Message(HOSTILE, HOSTILE, f"{HOSTILE}\ud800", 1, 1, {HOSTILE: HOSTILE})
        letter = dead_letter.of_event(event, message, reason="rejected", error=HOSTILE, source="source", dead_at_ms=1)
        await dead.send(dead_letter.to_drafts(letter))
        yield DeadLetters(dead, "source", lambda *_: True, lambda name: Queue(name, clock), KEYS, clock)

    async def inject_fault(*_: object) -> None:
        return

    monkeypatch.setattr(router.bootstrap.registry, "open_registry", open_registry)
    monkeypatch.setattr(router.bootstrap.queues, "open_dead_letters", open_dead_letters)
    monkeypatch.setattr(router.bootstrap.workers, "inject_fault", inject_fault)
    monkeypatch.setenv("COLUMNS", "2000")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("CELLROUTER_SECRET", SECRET)
    streams = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = streams


def printed(monkeypatch: pytest.MonkeyPatch, *arguments: str, tty: bool = False) -> str:
    """Run the command line as its entry point does; return what it prints on both streams."""
    terminal = Terminal(tty=tty)
    monkeypatch.setattr(sys, "argv", ["cellrouter", *arguments])
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(SystemExit) as ended:
        main()
    if isinstance(ended.value.code, str):
        print(ended.value.code, file=sys.stderr)  # noqa: T201 - as Python does
    return terminal.getvalue()


def names(group: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """List all commands of the command line, those of groups too."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield (*path, name)
            yield from names(command, *path, name)
        else:
            yield (*path, name)


def test_every_command_is_tried_here() -> None:
    """Whoever adds a command finds out that it belongs into the table."""
    assert {*COMMANDS, *PROCESSES} == {*names(get_command(app))}


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_text_in_a_commands_output_steers_the_terminal(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, *, tty: bool
) -> None:
    """Keys, cells, reasons, actors, notes, zones, ids and errors are shown, with escapes for what would be obeyed."""
    if command in (("check-config",), ("doctor",)):
        monkeypatch.setenv("CELLROUTER_CELLS_HANDLER", HOSTILE)
        monkeypatch.setenv(f"CELLROUTER_X{MARK}[red]{STEERING[1]}", HOSTILE)  # no value is shown
    monkeypatch.setattr("router.demo.dev.check_packages", lambda *_: None)  # a plain installation says which it lacks
    text = printed(monkeypatch, *command, *COMMANDS[command], tty=tty)
    assert obeyed(text) == []
    shown = OWN_STYLE.sub("", text)
    assert f"{MARK}[red]" in shown or command in NAMING_NONE, shown


@pytest.mark.parametrize("command", IN_JSON, ids=lambda command: " ".join(command[:2])[:12])
def test_json_is_ascii_and_says_exactly_what_was_sent(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is escaped there is so by JSON's own rules."""
    text = printed(monkeypatch, *command, "--json")
    assert text.isascii()
    assert HOSTILE in walk(json.loads(text.splitlines()[0]))


def walk(value: Any) -> Iterator[str]:
    """List the texts in a JSON value, keys too."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from walk(each)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize(
    "arguments", MISTAKES, ids=lambda words: " ".join(words)[:16].encode("ascii", "ignore").decode()
)
def test_no_text_in_a_complaint_steers_the_terminal(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, *, tty: bool
) -> None:
    """The messages about a command's arguments quote them, and names that the registry holds."""
    text = printed(monkeypatch, *arguments, tty=tty)
    assert obeyed(text) == []
    assert MARK in text


NO_TEXT: Final = "key-\udcff"
"""What Python makes of the bytes `key-\\xff` on a command line, which are no UTF-8."""


@pytest.mark.parametrize("command", [*COMMANDS, *PROCESSES], ids=" ".join)
def test_an_argument_that_is_no_text_gets_a_sentence(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stands: as key, cell, reason, file or option."""
    given = [word.replace(HOSTILE, NO_TEXT) for word in COMMANDS.get(command, ())]
    for arguments in ((*command, *given, NO_TEXT), ("--config", NO_TEXT, *command), (*command, f"--why={NO_TEXT}")):
        text = printed(monkeypatch, *arguments)
        assert text.startswith("cellrouter: every argument must be UTF-8, and this is not: ")
        assert "key-\\udcff" in text
        assert obeyed(text) == []


def test_an_argument_and_a_setting_of_bytes_get_a_sentence_from_a_real_process() -> None:
    """As a shell gives them for `$'…'`."""
    environ = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
    environ |= {b"PYTHONPATH": os.fsencode(REPOSITORY), b"CELLROUTER_SECRET": SECRET.encode()}
    for argument, more in ((b"\xff", {}), (b"key", {b"CELLROUTER_AWS_REGION": b"\xff"})):
        command = [os.fsencode(sys.executable), b"-m", b"router", b"where", argument]
        done = subprocess.run(command, env=environ | more, capture_output=True, timeout=60, check=False)
        assert done.returncode == 2, done.stderr
        assert b"must be UTF-8" in done.stderr
        assert b"Traceback" not in done.stderr


def test_a_user_whose_name_is_no_text_is_named_in_the_audit_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name comes from the environment."""
    monkeypatch.setenv("LOGNAME", NO_TEXT)
    assert router.bootstrap.registry.entry_by_hand("freeze", "why").who.startswith("key-\\udcff@")


@pytest.mark.parametrize("role", PROCESSES, ids=" ".join)
def test_a_process_that_cant_start_says_so_without_steering_the_terminal(role: tuple[str, ...]) -> None:
    """The faults of its configuration quote what is configured."""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CELLROUTER_CELLS_HANDLER": HOSTILE}
    command = [sys.executable, "-m", "router", *role]
    done = subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False)
    text = done.stderr.decode()
    assert (done.returncode, obeyed(text), obeyed(done.stdout.decode())) == (2, [], [])
    assert "CELLROUTER_CELLS_HANDLER" in text


LOGGING: Final = """
import sys
import structlog
from cell_worker.contract.process import configure_logs, guard_streams
hostile = sys.argv[1]
guard_streams()
configure_logs(sys.argv[2])
try:
    raise ValueError(hostile)
except ValueError as error:
    structlog.get_logger().error(hostile, key=hostile, several=[hostile], error=error, exc_info=error)
print(hostile)
raise ValueError(hostile)
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_text_in_a_log_steers_the_terminal(form: str, tmp_path: Path) -> None:
    """Neither a value, nor a traceback, nor what a handler prints by itself."""
    command = [sys.executable, "-c", LOGGING, HOSTILE, form]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=60, check=False)
    text = (done.stdout + done.stderr).decode()
    assert obeyed(text) == []
    assert text.count(MARK) >= 6
    assert "\n" + MARK not in done.stderr.decode()


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "terminal"])
def test_nothing_that_the_demo_shows_steers_the_terminal(monkeypatch: pytest.MonkeyPatch, *, tty: bool) -> None:
    """It shows reasons, cells and titles of rules of a system that it is attached to."""
    terminal = Terminal(tty=tty)
    monkeypatch.setattr(sys, "stdout", terminal)
    screen = Screen()
    view = LiveView(screen)
    numbers = dict.fromkeys(("generation", "slots", "p50_ms", "p99_ms", "in_flight", "waiting"), 1)
    with view:
        view.show(1, DemoState(lanes=[{"cell_id": HOSTILE, "state": HOSTILE, **numbers}]))
        view.news(1, HOSTILE)
    view.ledger(Ledger(1, 1, 0, 0, 0, 0, None, None, [HOSTILE], None, {"a": 1}), {"a": HOSTILE})
    shown = terminal.getvalue()
    live = re.compile(r"\x1b\[(\?25[lh]|1A|2K)|\r")  # by which rich draws the live view anew
    assert obeyed(live.sub("", shown)) == []
    assert MARK in shown
