"""`cellrouter demo --rules DIR`, with good rules and with a folder that has a bad one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

LIMIT_S: Final = 240
QUICKLY_S: Final = 120  # so long it takes at most on a busy machine
RULE_ID: Final = "5f1a3c00-2222-4333-8444-555555555555"
RULE: Final = f"""
title: Trail stopped
id: {RULE_ID}
logsource: {{product: aws, service: cloudtrail}}
detection:
  stopped: {{eventName: StopLogging}}
  condition: stopped
level: high
"""
PLACEHOLDER: Final = """
title: Someone from elsewhere
id: 5f1a3c01-2222-4333-8444-555555555555
logsource: {product: aws, service: cloudtrail}
detection:
  known: {sourceIPAddress|expand: '%office%'}
  condition: not known
"""


def demo(*arguments: str, timeout: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    return subprocess.run(
        [sys.executable, "-m", "router", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_only_the_rules_of_the_folder_are_used(tmp_path: Path) -> None:
    """All findings are of its one good rule, none are expected; unusable and bad rules are named with reasons."""
    rules, ledger = tmp_path / "rules", tmp_path / "ledger.json"
    rules.mkdir()
    (rules / "stopped.yml").write_text(RULE)
    (rules / "elsewhere.yml").write_text(PLACEHOLDER)
    (rules / "bad.yml").write_text(RULE.replace(RULE_ID, "no UUID"))
    arguments = ("--files", "80", "--accounts", "16", "--cells", "2", "--seconds", "3", "--json", str(ledger))
    done = demo("--rules", str(rules), "--skip-bad", *arguments)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    found = json.loads(ledger.read_text())
    assert (found["processed"], found["lost"]) == (80, 0)
    assert list(found["findings"]) == [RULE_ID]
    assert "nothing says how many to expect" in output
    assert "1 rules, 1 not supported: elsewhere.yml (the placeholder %office%" in output
    assert "1 bad files left out: bad.yml (id: 'no UUID' is no UUID" in output
    assert "UNEXPECTED" not in output


def test_a_bad_rule_ends_the_demo_with_its_name(tmp_path: Path) -> None:
    """The demo ends at once, because a worker that can't load its rules can't load them the next time either."""
    (tmp_path / "good.yml").write_text(RULE)
    bad = tmp_path / "bad.yml"
    bad.write_text(
        RULE.replace("condition: stopped", "condition: stopped and gone").replace(RULE_ID, RULE_ID[:-1] + "6")
    )
    done = demo("--rules", str(tmp_path), timeout=QUICKLY_S)
    assert done.returncode in {1, 2}
    assert f"{bad}: " in done.stderr
    assert "'gone' not defined" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    """A missing folder is refused, and so is any folder with --attach: a running system has its own rules."""
    for arguments, words in (
        (["--rules", str(tmp_path / "missing")], "does not exist"),
        (["--rules", str(tmp_path), "--attach", "http://127.0.0.1:1,http://127.0.0.1:2"], "has its own rules"),
    ):
        done = demo(*arguments, timeout=QUICKLY_S)
        assert done.returncode == 2, done.stderr
        said = " ".join(done.stderr.replace("│", " ").split())  # the error is in a frame
        assert words in said
        assert "--rules" in said
