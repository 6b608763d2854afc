"""`cellrouter shadow`: what it refuses before it sends anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from router.cli.main import app
from tests.support.keys import SECRET

REPLAY = {"CELLROUTER_ENVIRONMENT": "replay"}


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["--env", "live"], {}, "nothing is ever replayed into live"),
        (["--env", "replay"], {}, "the configuration is that of live"),
        (["--env", "replay"], REPLAY, "set archive.enabled"),
        (["--env", "replay", "--of", "replay"], {**REPLAY, "CELLROUTER_ARCHIVE_ENABLED": "true"}, "is the environment"),
        (["--env", "replay", "--for", "long"], {**REPLAY, "CELLROUTER_ARCHIVE_ENABLED": "true"}, "--for"),
        (["--env", "replay", "--share", "5"], REPLAY, "--share"),
    ],
)
def test_a_shadow_that_nobody_can_want_is_refused(
    arguments: list[str], environ: dict[str, str], said: str, tmp_path: Path
) -> None:
    """Above all none that would bring events into live; the text says what to do."""
    ours = {"CELLROUTER_SECRET": SECRET, "XDG_STATE_HOME": str(tmp_path), "COLUMNS": "200", **environ}
    found = CliRunner().invoke(app, ["shadow", *arguments], env=ours)
    assert found.exit_code == 2, found.output
    assert said in found.output
