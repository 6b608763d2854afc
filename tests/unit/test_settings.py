"""The configuration: variables win over the file, and every fault is named at once, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.bootstrap.workers import worker_environment
from router.core.errors import ConfigError
from router.settings import _SECTIONS, Settings, check, load
from tests.support import keys

SECRET = {"CELLROUTER_SECRET": keys.SECRET}


def in_file(tmp_path: Path, text: str) -> dict[str, str]:
    """Return an environment that names a file with this text."""
    path = tmp_path / "cellrouter.toml"
    path.write_text(text)
    return {"CELLROUTER_CONFIG": str(path)}


def test_only_the_secret_is_needed() -> None:
    """Everything else has a default that works on a laptop."""
    settings = load(SECRET)
    assert (settings.environment, settings.cells.count) == ("live", 4)
    assert keys.SECRET not in repr(settings)


def test_the_page_asks_for_a_token_where_any_kind_of_token_is_believed(tmp_path: Path) -> None:
    """A file of tokens counts though it holds none, so that nobody is let in without one meanwhile."""
    (tmp_path / "tokens").write_text("")
    provider = {"CELLROUTER_API_OIDC_ISSUER": "https://idp.example", "CELLROUTER_API_OIDC_AUDIENCE": "cellrouter"}
    for variables in ({"CELLROUTER_API_TOKENS_FILE": str(tmp_path / "tokens")}, provider):
        assert load({**SECRET, **variables}).api.sign_in
    assert not load(SECRET).api.sign_in


@pytest.mark.parametrize(
    ("environment", "chaos", "allowed"),
    [
        ("live", None, False),
        ("live", "true", True),
        ("live", "false", False),
        ("stress", None, True),
        ("stress", "false", False),
    ],
)
def test_chaos_is_allowed_everywhere_but_in_live(environment: str, chaos: str | None, allowed: bool) -> None:
    """The setting overrides this default, and workers are told the result."""
    given = {} if chaos is None else {"CELLROUTER_CELLS_CHAOS": chaos}
    settings = load(SECRET | {"CELLROUTER_ENVIRONMENT": environment} | given)
    assert worker_environment(settings)["CELL_CHAOS"] == str(allowed).lower()


def variables() -> list[str]:
    """List the variables of all settings, and some that are none."""
    names = [f"{name}_{key}" for name, kind in _SECTIONS.items() for key in kind.model_fields]
    names += [name for name in Settings.model_fields if name not in _SECTIONS]
    return [f"CELLROUTER_{name}".upper() for name in (*names, "nope", "cells_nope", "nope\udcff")]


@pytest.mark.parametrize("name", variables(), ids=ascii)
def test_a_variable_that_is_no_text_is_named(name: str) -> None:
    """It would otherwise end a process only when it is first written somewhere."""
    settings, (fault,) = check(SECRET | {name: "redis://a\udcff"})
    assert settings is None
    assert fault.startswith(f"{name}: ")
    assert fault.endswith(": must be UTF-8, and is not")


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    """A variable replaces one key, and the file's other keys stay."""
    environ = in_file(tmp_path, f"secret = '{keys.OTHER_SECRET}'\n[cells]\ncount = 2\nconcurrency = 3\n")
    settings = load(environ | {"CELLROUTER_CELLS_COUNT": "7", "CELLROUTER_AWS_ENDPOINT_URL": "http://aws:4566"})
    assert (settings.cells.count, settings.cells.concurrency, settings.aws.endpoint_url) == (7, 3, "http://aws:4566")
    assert settings.secret.get_secret_value() == keys.OTHER_SECRET


def test_every_fault_is_named_with_its_key_and_line(tmp_path: Path) -> None:
    """All faults at once, in the order of the lines; the secret's value is never shown."""
    text = """environment = "Bad Env"
secret = "too-short-secr"

[redis]
urll = "redis://x"
url = "http://x"

[source]
partition_key = "a ||| b"
visibility_s = "many"

[nope]
x = 1
"""
    environ = in_file(tmp_path, text)
    path = environ["CELLROUTER_CONFIG"]
    variables = {"CELLROUTER_CELLS_COUNT": "0", "CELLROUTER_AWS_REGIN": "x", "CELLROUTER_FOO": "1"}
    settings, faults = check(environ | variables)
    assert settings is None
    found = [fault.split(": ")[:2] for fault in faults]
    assert found == [
        [f"{path}:1", "environment"],
        [f"{path}:2", "secret"],
        [f"{path}:5", "redis.urll"],
        [f"{path}:6", "redis.url"],
        [f"{path}:9", "source.partition_key"],
        [f"{path}:10", "source.visibility_s"],
        [f"{path}:12", "nope"],
        ["CELLROUTER_AWS_REGIN", "aws.regin"],
        ["CELLROUTER_CELLS_COUNT", "cells.count"],
        ["CELLROUTER_FOO", "foo"],
    ]
    text_of_all = "\n".join(faults)
    assert "did you mean redis.url?" in text_of_all
    assert "too-short-secr" not in text_of_all
    assert all("\n" not in fault for fault in faults)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a = ", "is not TOML"), ("cells = 5", "cells"), ("[cells.deep]\nx = 1", "cells.deep")],
)
def test_broken_files_are_named(tmp_path: Path, text: str, words: str) -> None:
    """Text that is not TOML, a value in place of a section, and a section too deep."""
    with pytest.raises(ConfigError, match=words):
        load(SECRET | in_file(tmp_path, text))


def test_a_file_that_is_not_there_is_named() -> None:
    """The fault names the file and the reason."""
    with pytest.raises(ConfigError, match=r"no/such\.toml: can't be read"):
        load(SECRET | {"CELLROUTER_CONFIG": "no/such.toml"})


def test_a_missing_secret_says_how_to_set_it() -> None:
    """The fault gives the name of the variable and of the key in the file."""
    _, faults = check({})
    assert faults == ["environment: secret: is required: set CELLROUTER_SECRET, or CELLROUTER_SECRET_FILE"]


def test_settings_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    """Each value is valid by itself, but a drain shorter than a long poll could never end in time."""
    path = tmp_path / "c.toml"
    path.write_text("[source]\nwait_s = 20\n\n[cells]\ndrain_timeout_s = 21\n")
    settings, faults = check({"CELLROUTER_CONFIG": str(path), "CELLROUTER_SECRET": keys.SECRET})
    assert settings is None
    assert len(faults) == 1
    assert f"{path}:5: cells.drain_timeout_s: must be at least 2 s more than source.wait_s (20)" in faults[0]
