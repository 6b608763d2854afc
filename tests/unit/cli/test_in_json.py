"""What `check-config` and `init` say as JSON, for whoever runs them from a script."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from router.cli import init
from router.cli.main import app
from router.core.intake.plan import IntakePlan, IntakeStep, Part
from router.settings import Settings
from tests.support.aio import run
from tests.support.keys import SECRET


def checked(monkeypatch: pytest.MonkeyPatch, **environ: str) -> tuple[int, dict[str, Any]]:
    """Check a configuration; returns the exit code and what is said."""
    always = {"CELLROUTER_SECRET": SECRET, "CELLROUTER_CELLS_PROVISIONER": "external"}
    for name, value in {**always, **environ}.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["check-config", "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_a_good_configuration_is_said_to_be_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one object, with what is worth a warning."""
    code, said = checked(monkeypatch)
    assert (code, said["good"], said["faults"]) == (0, True, [])
    assert said.keys() == {"good", "faults", "warnings"}


def test_every_fault_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its key, and the exit code that it has without JSON too."""
    faulty = {"CELLROUTER_SOURCE_POLLERS": "0", "CELLROUTER_CELLS_COUNT": "many"}
    code, said = checked(monkeypatch, **faulty)
    assert (code, said["good"]) == (2, False)
    assert [fault.split(": ")[1] for fault in said["faults"]] == ["cells.count", "source.pollers"]


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_TRACES_SAMPLER", "xray"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_X", "1")]
)
def test_what_keeps_a_router_from_tracing_is_a_fault_once_it_shall(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of OpenTelemetry that says what there is not here; any other is not ours to judge."""
    monkeypatch.setenv(name, value)
    assert checked(monkeypatch)[1]["faults"] == []
    faults = checked(monkeypatch, CELLROUTER_TRACING_ON="true")[1]["faults"]
    assert [fault.startswith(f"tracing.on: {name}") for fault in faults] == [True] * (name != "OTEL_X")


@pytest.mark.parametrize("dry_run", [True, False])
def test_init_tells_the_plan_as_it_is(
    dry_run: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each step with before and after, what is refused and what should be known; the exit code is the same."""
    step = IntakeStep(Part.POLICY, "orders", {"Sid": "theirs"}, {"Sid": "ours"})
    plan, done = IntakePlan((step,), (), ("a note",)), list[IntakePlan]()

    class Intake:
        async def plan(self) -> IntakePlan:
            return plan

        async def carry_out(self, plan: IntakePlan) -> None:
            done.append(plan)

    @asynccontextmanager
    async def opened(_: Settings) -> AsyncIterator[Intake]:
        yield Intake()

    monkeypatch.setattr(init, "open_intake", opened)
    settings = Settings.model_validate({"secret": SECRET})
    assert run(init.run_init(settings, dry_run=dry_run, as_json=True)) == (init.WOULD_CHANGE if dry_run else 0)
    assert json.loads(capsys.readouterr().out) == {
        "dry_run": dry_run,
        "steps": [{"part": "policy of queue", "name": "orders", "before": {"Sid": "theirs"}, "after": {"Sid": "ours"}}],
        "refusals": [],
        "notes": ["a note"],
    }
    assert done == ([] if dry_run else [plan])
