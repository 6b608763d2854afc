"""The security workload needs an extra, and a worker without it says which one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cell_worker.contract.keys import cell_secret
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY

HANDLER = "cell_worker.handlers.security:SecurityMonitor"


@pytest.mark.parametrize("missing", ["sigma", "yaml"])
def test_a_worker_without_the_extra_says_how_to_install_it(missing: str, tmp_path: Path) -> None:
    """The worker ends with status 1 and one line that names its handler and the extra, without a traceback."""
    script = f"import sys; sys.modules[{missing!r}] = None; from cell_worker.__main__ import main; main()"
    secret = cell_secret(SECRET, "live", "cell-0000")
    settings = {"CELL_ID": "cell-0000", "CELL_SECRET": secret, "CELL_HANDLER": HANDLER, "CELL_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert HANDLER in done.stderr
    assert "pip install 'cellrouter[security]'" in done.stderr
