"""`cellrouter drill`: what it refuses before it looks at anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from router.cli.main import app
from tests.support.keys import SECRET


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "said"),
    [
        (["kill", "--env", "live"], {}, 3, "no drill is done in live: drills.in_live = true allows it"),
        (["evacuate", "--env", "live", "--every", "week"], {}, 3, "no drill is done in live"),
        (["slow", "--env", "live"], {"CELLROUTER_DRILLS_IN_LIVE": "true"}, 3, "cells.chaos = true allows them"),
        (["kill", "--env", "stress"], {}, 2, "the configuration is that of live"),
        (["kill"], {}, 2, "--env"),
        (["explode", "--env", "stress"], {}, 2, "explode"),
        (["kill", "--env", "live", "--between", "10:00-16:00"], {}, 2, "it is about --every"),
        (["kill", "--env", "live", "--every", "week", "--between", "10-16"], {}, 2, "as 10:00-16:00"),
        (["kill", "--env", "live", "--every", "hour"], {}, 2, "hour"),
        (["kill", "--env", "live", "--for", "soon"], {}, 2, "must be a time"),
        (["kill", "--env", "live", "--for", "2h"], {}, 2, "must be 600 s at most"),
        (["kill", "--env", "live", "--json", "nowhere/report.json"], {}, 2, "there is no folder nowhere"),
    ],
)
def test_a_drill_that_nobody_can_want_is_refused(
    arguments: list[str], environ: dict[str, str], code: int, said: str, tmp_path: Path
) -> None:
    """The exit code tells a mistake in the command from a drill that is not done here, and the text what to do."""
    ours = {"CELLROUTER_SECRET": SECRET, "XDG_STATE_HOME": str(tmp_path), "COLUMNS": "200", **environ}
    found = CliRunner().invoke(app, ["drill", *arguments], env=ours)
    assert found.exit_code == code, found.output
    assert said in found.output
