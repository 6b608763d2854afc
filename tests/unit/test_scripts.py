"""The scripts that pin and audit what others publish, with stand-ins for the servers that they ask."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.paths import REPOSITORY

FILES: Final = ("Dockerfile", "docker-compose.yml", "deploy/compose/shop.yml", "deploy/compose/socket-proxy.yml")
OURS: Final = ("CELLROUTER_IMAGE:-", "CELLROUTER_SHOP_IMAGE:-")
OLD, NEW = (f"sha256:{digit * 64}" for digit in "12")
FIXED: Final = {"name": "a", "version": "1", "vulns": [{"id": "V-1", "fix_versions": ["2"]}]}
UNFIXED: Final = {"name": "b", "version": "1", "vulns": [{"id": "V-2", "fix_versions": []}]}
SKIPPED: Final = {"name": "c", "skip_reason": "not found"}
SOUND: Final = {"name": "d", "version": "1", "vulns": []}


def stand_in(path: Path, text: str) -> None:
    """Write a program that prints a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}\nEOF\n")
    path.chmod(0o755)


def script(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a directory as if that were the repository."""
    (directory / "script").mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "script" / command[0], directory / "script")
    environ = {**os.environ, "PATH": f"{directory / 'bin'}:{os.environ['PATH']}"}
    run = [str(directory / "script" / command[0]), *command[1:]]
    return subprocess.run(run, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_every_image_is_pinned_by_its_digest_and_pinned_anew(tmp_path: Path) -> None:
    """In the Dockerfile and in the compose files; a name from the environment still wins."""
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, tmp_path / file)
    for digest in (OLD, NEW):
        stand_in(tmp_path / "bin" / "docker", digest)
        done = script(tmp_path, "lock", "images")
        assert done.returncode == 0, done.stderr
    text = "".join((tmp_path / file).read_text() for file in FILES)
    assert OLD not in text
    assert f"ARG PYTHON_IMAGE=python:3.13-slim@{NEW}\n" in text
    assert f"image: ${{REDIS_IMAGE:-redis:7-alpine@{NEW}}}\n" in text
    ours = sum(map(text.count, OURS))
    assert text.count(f"@{NEW}") == text.count("_IMAGE:-") + text.count("_IMAGE=python") - ours
    assert ours == len(re.findall(r"cellrouter(?:-shop)?:dev(?!@)", text)), "no registry has what is built here"


def test_no_image_is_named_where_it_could_not_be_pinned() -> None:
    """Each is a default that `script/lock images` finds, or our own image."""
    for file in FILES:
        named = [line.split()[1] for line in (REPOSITORY / file).read_text().splitlines() if "image: " in line[:13]]
        assert [name for name in named if "_IMAGE:-" not in name and name not in {"&image", "*image"}] == []
    bases = [line.split()[1] for line in (REPOSITORY / "Dockerfile").read_text().splitlines() if line[:5] == "FROM "]
    assert set(bases) == {"${PYTHON_IMAGE}"}


def test_what_is_no_digest_pins_nothing(tmp_path: Path) -> None:
    """A registry that can't be reached, or answers something else, changes no file."""
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, tmp_path / file)
    stand_in(tmp_path / "bin" / "docker", "error")
    assert script(tmp_path, "lock", "images").returncode == 1
    assert [file for file in FILES if (tmp_path / file).read_text() != (REPOSITORY / file).read_text()] == []


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([FIXED, SOUND], 1, "a 1 has V-1, mended by: 2"),
        ([UNFIXED, SOUND], 0, "b 1 has V-2, mended by: nothing yet"),
        ([SKIPPED, SOUND], 0, "1 of 2 locked packages were audited."),
        ([SKIPPED], 0, "can't be reached from here: no package was audited"),
        (None, 0, "can't be reached from here: no package was audited"),
    ],
)
def test_the_audit_fails_only_on_what_can_be_mended_and_says_when_it_saw_nothing(
    packages: list[Any] | None, code: int, says: str, tmp_path: Path
) -> None:
    """An audit that could look nothing up is no clean bill of health."""
    stand_in(tmp_path / "script" / "setup", "")
    found = "" if packages is None else json.dumps({"dependencies": packages})
    stand_in(tmp_path / ".venv-audit" / "bin" / "pip-audit", found)
    (tmp_path / ".venv-audit" / "bin" / "python").symlink_to(sys.executable)
    done = script(tmp_path, "audit")
    assert (done.returncode, done.stderr.strip()) == (code, "Raise their versions: script/lock" if code else "")
    assert says in done.stdout
