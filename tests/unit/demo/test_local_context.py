"""Commands in other terminals find the system that runs here, unless somebody says which one they mean."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from router.demo.local_context import adopt, context_file, to_try, written

VARIABLES = {"CELLROUTER_ENVIRONMENT": "dev", "AWS_ACCESS_KEY_ID": "local", "PATH": "/theirs"}


def test_a_command_asks_the_system_that_runs_here(tmp_path: Path) -> None:
    """It takes all of that system's variables, drops the user's own of AWS, and says so; later it finds nothing."""
    place = {"XDG_STATE_HOME": str(tmp_path)}
    environ = {**place, "AWS_PROFILE": "mine", "PATH": "/mine"}
    with written("cellrouter dev orders:handle", VARIABLES, place) as why_not:
        assert why_not is None
        said = adopt(environ)
        assert context_file(place).stat().st_mode & 0o777 == 0o600
    assert said is not None
    assert "`cellrouter dev orders:handle`" in said
    assert environ == {**place, "PATH": "/mine", "CELLROUTER_ENVIRONMENT": "dev", "AWS_ACCESS_KEY_ID": "local"}
    assert adopt(dict(place)) is None
    assert list(tmp_path.rglob("*.*")) == []


@pytest.mark.parametrize("name", ["CELLROUTER_CONFIG", "CELLROUTER_REDIS_URL", "CELLROUTER_LOG_LEVEL"])
def test_whoever_names_a_system_gets_nothing_of_another(tmp_path: Path, name: str) -> None:
    """Any variable of cellrouter is enough, and --config is one: never half of one system and half of another."""
    environ = {"XDG_STATE_HOME": str(tmp_path), name: "x"}
    with written("cellrouter dev orders:handle", VARIABLES, environ):
        assert adopt(environ) is None
    assert environ == {"XDG_STATE_HOME": str(tmp_path), name: "x"}


def test_what_a_killed_system_has_left_is_not_believed(tmp_path: Path) -> None:
    """Nor is a file that nobody can read."""
    place = {"HOME": str(tmp_path)}
    path = context_file(place)
    assert path == tmp_path / ".local" / "state" / "cellrouter" / "context.json"
    ended = subprocess.Popen(["true"])
    ended.wait()
    path.parent.mkdir(parents=True)
    for content in (f'{{"command": "c", "pid": {ended.pid}, "variables": {{}}}}', "{", "[]", "\udc80"):
        path.write_bytes(content.encode(errors="surrogateescape"))
        assert adopt(dict(place)) is None


def test_the_newest_system_is_found_and_the_older_one_takes_nothing_away(tmp_path: Path) -> None:
    """At its end a system removes only what it has written itself."""
    place = {"XDG_STATE_HOME": str(tmp_path)}
    with written("cellrouter dev a:a", VARIABLES, place):
        text = context_file(place).read_text().replace(f'"pid": {os.getpid()}', f'"pid": {os.getppid()}')
        context_file(place).write_text(text.replace("a:a", "b:b"))
    assert "`cellrouter dev b:b`" in (adopt(dict(place)) or "")


def test_where_nothing_can_be_written_the_system_runs_all_the_same(tmp_path: Path) -> None:
    """Its own terminal says why the others can't find it."""
    (tmp_path / "cellrouter").write_text("no folder")
    with written("cellrouter dev a:a", VARIABLES, {"XDG_STATE_HOME": str(tmp_path)}) as why_not:
        assert "Other terminals can't find it" in (why_not or "")


def test_what_to_try_names_the_key_and_the_cell() -> None:
    """Each line is a command and what it is good for."""
    lines = to_try("acme", "cell-0001", event='{"tenant": "acme"}')
    assert any("where acme" in line for line in lines)
    assert any("explain cell-0001" in line for line in lines)
    assert any('send \'{"tenant": "acme"}\'' in line for line in lines)
    assert all(" # " in line for line in lines[1:])
