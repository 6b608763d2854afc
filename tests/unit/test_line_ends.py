"""A clone has the line ends that scripts and containers need, whatever Git is told on the machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import REPOSITORY

SAMPLE: Final = (
    "script/setup",
    ".ci/run",
    "Dockerfile",
    ".env",
    "deploy/redis/users.acl",
    "router/api/static/index.html",
)
"""Files that break with CRLF, some of a name that tells Git nothing."""


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no Git")
def test_a_clone_with_crlf_line_ends_has_none(tmp_path: Path) -> None:
    r"""Git for Windows sets core.autocrlf, and bash in a container takes \r for a part of each word."""

    def git(*arguments: str) -> None:
        name = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "core.autocrlf=true", "-c", "core.safecrlf=false")
        subprocess.run(["git", *name, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--quiet", "origin")
    for file in (".gitattributes", *SAMPLE):
        copy = tmp_path / "origin" / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((REPOSITORY / file).read_bytes())
    git("-C", "origin", "add", "--all", "--force")
    git("-C", "origin", "commit", "--quiet", "--message=all")
    git("clone", "--quiet", "origin", "clone")
    assert [file for file in SAMPLE if b"\r" in (tmp_path / "clone" / file).read_bytes()] == []
