"""The component of the rules: what is wrong with a folder's files is listed, logged and counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry

from cell_worker.api import Cell
from cell_worker.handlers.security.components import RulesComponent
from cell_worker.handlers.security.settings import load_settings
from cell_worker.handlers.security.sigma import RuleError, load_rules

GOOD = """
title: good
id: 00000001-2222-4333-8444-555555555555
logsource: {product: aws, service: cloudtrail}
detection: {s: {eventName: A}, condition: s}
"""


def files(folder: Path) -> None:
    """Write two good rules, one that is for something else, and a bad file with two faults."""
    (folder / "good.yml").write_text(f"{GOOD}---{GOOD.replace('00000001', '00000002')}")
    (folder / "foreign.yml").write_text(GOOD.replace("00000001", "00000003").replace("aws", "gcp"))
    (folder / "bad.yml").write_text(GOOD.replace("condition: s", "condition: s AND s").replace("00000001-", ""))


def counted(registry: CollectorRegistry) -> dict[str, float | None]:
    """The metric by its label."""
    return {
        state: registry.get_sample_value("cell_security_rules", {"state": state})
        for state in ("used", "unsupported", "bad")
    }


def a_cell() -> Cell:
    """A cell as `start` gets it."""
    return replace(Cell("cell-0007", 3, "test", False, structlog.stdlib.get_logger()), metrics=CollectorRegistry())


def test_bad_files_that_are_left_out_are_listed_logged_and_counted(tmp_path: Path) -> None:
    """None is left out silently: the component, the log and the metric each say so. A reload does it again."""
    files(tmp_path)
    cell = a_cell()
    assert cell.metrics is not None
    with structlog.testing.capture_logs() as logs:
        component = RulesComponent(partial(load_rules, tmp_path, skip_bad=True), cell)
    assert [(line["path"].rsplit("/", 1)[-1], line["log_level"]) for line in logs] == [
        ("foreign.yml", "warning"),
        ("bad.yml", "error"),
        ("bad.yml", "error"),
    ]
    detail = asyncio.run(component.check())
    assert detail.startswith("2 rules, 1 not supported: foreign.yml (")
    assert "1 bad files left out: bad.yml (detection.condition: " in detail
    assert counted(cell.metrics) == {"used": 2, "unsupported": 1, "bad": 1}
    (tmp_path / "bad.yml").unlink()
    asyncio.run(component.restart())
    assert counted(cell.metrics) == {"used": 2, "unsupported": 1, "bad": 0}


def test_a_bad_file_ends_the_load_unless_the_setting_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CELL_SECURITY_SKIP_BAD_RULES is off by default."""
    files(tmp_path)
    assert load_settings().skip_bad_rules is False
    with pytest.raises(RuleError, match=r"bad\.yml: detection"):
        RulesComponent(partial(load_rules, tmp_path), a_cell())
    monkeypatch.setenv("CELL_SECURITY_SKIP_BAD_RULES", "true")
    assert load_settings().skip_bad_rules is True
