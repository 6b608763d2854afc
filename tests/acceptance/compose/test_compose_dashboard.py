"""Grafana's dashboard over real figures. Grafana itself isn't run."""

from __future__ import annotations

from functools import partial
from typing import Final

import pytest

from tests.support.compose_world import ComposeSystem, Load, until
from tests.support.dashboard import expressions

pytestmark = pytest.mark.alone

QUIET: Final = ("shift", "dead_lettered", "quarantined", "failures", "refused", "held", "duplicate")
"""Metrics that have no figures in a healthy system, or in one with few tenants."""


def test_prometheus_understands_every_query_of_the_dashboard(system: ComposeSystem, load: Load) -> None:
    """Every query has an answer, except for those that only a fault gives figures."""
    assert load.accounted().processed > 0
    for expression in expressions():
        answer = system.get("prometheus", f"/api/v1/query?{system.encoded(expression)}", 9090)
        assert answer is not None, expression
        assert answer["status"] == "success"
        if not any(word in expression for word in QUIET):
            until(partial(system.query, expression), f"there are figures for {expression}")
