"""Secrets: which are refused, and what a process makes of a file of them that changes while it works."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from cell_worker.contract.strict_reader import Unreadable
from router.adapters.keyring import Keyring
from router.adapters.secret_source import SecretSource, SecretWatch
from router.core.weak_secrets import MIN_CHARS, why_weak
from router.settings import Settings, check
from tests.support.fake_clock import FakeClock
from tests.support.keys import OTHER_SECRET, SECRET

PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=",")


@pytest.mark.parametrize(
    "weak",
    [
        "change-me-change-me-and-change-me-again",
        "a-development-secret-of-no-worth",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "0123456789abcdef0123456789abcdef0123456789abcdef",
        "0123456789abcdefghijklmnopqrstuv",
        "P@ssword-9f3c07b1e55d42a8-Q7x",
        SECRET[:31],
    ],
)
def test_a_secret_that_can_be_guessed_is_refused_where_it_matters(weak: str) -> None:
    """Elsewhere it is only warned of; no text shows it."""
    settings, faults = check({"CELLROUTER_SECRET": weak})
    assert settings is None
    assert weak not in str(faults)
    assert "openssl rand -hex 32" in str(faults)
    settings, faults = check({"CELLROUTER_SECRET": weak, "CELLROUTER_ENVIRONMENT": "dev"})
    assert settings is not None, faults
    assert settings.secrets.warnings()
    assert weak not in str(settings.secrets.warnings())
    assert weak not in f"{settings!r} {settings.secrets!r}"


@given(part=st.text(PRINTABLE, min_size=1), n=st.integers(2, 40))
def test_what_repeats_itself_is_weak(part: str, n: int) -> None:
    """However long it is."""
    assert why_weak(part * n) is not None


def test_what_openssl_makes_is_never_weak() -> None:
    """Neither as hex nor as base64."""
    for _ in range(20_000):
        assert why_weak(secrets.token_hex(32)) is None
        assert why_weak(secrets.token_hex(MIN_CHARS // 2)) is None


def test_a_watched_file_is_used_when_it_changes_and_a_bad_one_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told of once, until it is another one or good again."""
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    ring = Keyring("live", [SECRET])
    first = ring.ids
    watch = SecretWatch(SecretSource("", path, refuse_weak=True), ring, FakeClock())
    for bad in (None, "", "short", "change-me" * 5, "x" * 5000, "\x00" * 40):
        path.unlink() if bad is None else path.write_text(bad)
        for _ in range(3):
            watch.look()
        assert ring.ids == first
        assert capsys.readouterr().out.count("the file is bad") == 1
        path.touch()
    path.write_text(f"{OTHER_SECRET}\n{SECRET}\n")
    watch.look()
    assert ring.ids[1:] == first
    assert ring.cell_secret("c") == Keyring("live", [OTHER_SECRET]).cell_secret("c")
    said = capsys.readouterr().out
    assert ring.ids[0] in said
    assert not {SECRET, OTHER_SECRET} & set(said.split())


def test_both_or_none_is_a_fault_and_nothing_shows_a_secret(tmp_path: Path) -> None:
    """A file and a setting at once would leave open which one counts."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o444)
    assert isinstance(SecretSource(SECRET, path, refuse_weak=True).read(), Unreadable)
    settings, faults = check({"CELLROUTER_SECRET_FILE": str(path), "CELLROUTER_SECRET": ""})
    assert settings is not None, faults
    assert settings.secrets.read() == (SECRET,)
    assert "everybody on this machine may read it" in settings.secrets.warnings()[0]
    shown = f"{settings!r} {settings.secrets!r} {Keyring('live', [SECRET])!r} {Settings(secret=SecretStr(SECRET))!r}"
    assert SECRET not in shown
