"""The tokens of the Admin API: how they are given out, read anew and taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from router.adapters.api_tokens import LOOK_EVERY_S, Tokens, TokenSource
from router.cli.main import app
from router.core.callers import MAX_TOKENS, ApiCaller, Role, line_of, tokens_in
from router.settings import check
from tests.support.fake_clock import FakeClock, play
from tests.support.keys import SECRET

LINE = line_of("vera", Role.VIEW, "a-token")


def test_a_file_of_tokens_is_read_anew_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    """A token is taken back by its line; who edits the file wrongly locks nobody out, and is told once."""
    path, clock = tmp_path / "tokens", FakeClock()
    path.write_text(f"# who may ask\n\n{LINE}\n")

    async def story() -> None:
        tokens = Tokens(TokenSource("", path), clock)
        assert await tokens.caller_of("a-token") == ApiCaller("vera", Role.VIEW)
        assert await tokens.caller_of("a-token ") is None
        path.write_text(f"{LINE}\nnonsense")
        with capture_logs() as logs:
            for _ in range(3):
                await clock.sleep(LOOK_EVERY_S)
                assert await tokens.caller_of("a-token") == ApiCaller("vera", Role.VIEW)
        assert [entry["why"].partition(":")[0] for entry in logs] == ["token 2 of 2 is not NAME"]
        path.write_text(line_of("otto", Role.OPERATE, "another"))
        await clock.sleep(LOOK_EVERY_S)
        assert await tokens.caller_of("a-token") is None
        assert await tokens.caller_of("another") == ApiCaller("otto", Role.OPERATE)
        path.unlink()
        await clock.sleep(LOOK_EVERY_S)
        assert (await tokens.caller_of("another"), tokens.is_set) == (ApiCaller("otto", Role.OPERATE), True)

    play(clock, story())


def test_an_emptied_file_lets_nobody_in_and_nobody_without_a_token_either(tmp_path: Path) -> None:
    """Tokens are asked for as long as the setting says so."""
    path, clock = tmp_path / "tokens", FakeClock()
    path.write_text("")

    async def story() -> None:
        tokens = Tokens(TokenSource("", path), clock)
        assert (await tokens.caller_of("a-token"), tokens.is_set) == (None, True)

    play(clock, story())


@pytest.mark.parametrize("text", ["vera", "vera:root:sha256-0", LINE.upper(), LINE[:-1], f"{LINE}0", "a-token"])
def test_what_is_no_line_of_a_token_is_a_fault_of_the_configuration(text: str) -> None:
    """It may be a token itself, so that it is not shown."""
    settings, faults = check({"CELLROUTER_SECRET": SECRET, "CELLROUTER_API_TOKENS": text})
    assert settings is None
    assert len(faults) == 1
    assert "cellrouter token NAME makes one" in faults[0]
    assert text not in faults[0]
    assert isinstance(tokens_in("\n".join([LINE] * (MAX_TOKENS + 1))), str)


def test_a_token_is_shown_once_and_its_line_is_believed() -> None:
    """The line holds no token, and no two tokens are alike."""
    made = [json.loads(CliRunner().invoke(app, ["token", "otto", "--role=operate", "--json"]).output) for _ in range(2)]
    assert made[0]["token"] != made[1]["token"]
    found = tokens_in(made[0]["line"])
    assert not isinstance(found, str)
    assert found[0].caller == ApiCaller("otto", Role.OPERATE)
    assert made[0]["token"] not in made[0]["line"]
    assert CliRunner().invoke(app, ["token", "a:b"]).exit_code == 2
