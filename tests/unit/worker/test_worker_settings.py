"""What is wrong with a worker's environment is said in words, whatever stands there."""

from __future__ import annotations

import os

import pytest

from cell_worker.contract.keys import cell_secret
from cell_worker.settings import SettingsError, WorkerSettings, load
from tests.support.keys import SECRET


@pytest.mark.parametrize("name", [*WorkerSettings.model_fields, "security_rules", "nope"])
def test_a_variable_that_is_no_text_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would otherwise end the worker when it is first written, as a zone is in the lease."""
    for variable in [each for each in os.environ if each.startswith("CELL_")]:
        monkeypatch.delenv(variable)
    good = {"ID": "cell-0000", "HANDLER": "a:b", "SECRET": cell_secret(SECRET, "live", "cell-0000")}
    for variable, value in (good | {name.upper(): "redis://a\udcff"}).items():
        monkeypatch.setenv(f"CELL_{variable}", value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == f"CELL_{name.upper()}: must be UTF-8, and is not"
