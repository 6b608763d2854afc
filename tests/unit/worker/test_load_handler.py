"""The handler of stress runs takes as long as an event says, and refuses what is no event of a stress run."""

from __future__ import annotations

import pytest

from cell_worker.handlers.load import MAX_WORK_MS, handle
from cell_worker.testing import Harness


def test_an_event_of_a_stress_run_is_emitted_by_its_number() -> None:
    """That is all of its effect."""
    with Harness(handle) as cell:
        done = cell.give({"tenant": "t", "n": 7, "work_ms": 1.5})
    assert done.emitted == [{"n": 7}]


@pytest.mark.parametrize(
    "body", [{"work_ms": "much"}, {"work_ms": -1}, {"work_ms": MAX_WORK_MS + 1}, {"work_ms": True}]
)
def test_an_event_of_others_is_refused(body: dict[str, object]) -> None:
    """Real events that were sent to a stress environment by mistake are not said to be done."""
    with Harness(handle) as cell:
        assert "cellrouter stress" in (cell.give(body).reason or "")
