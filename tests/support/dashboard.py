"""The Grafana dashboard that ships, and what it asks Prometheus."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.support.paths import REPOSITORY

GRAFANA: Final = REPOSITORY / "deploy" / "grafana"
PROVISIONING: Final = GRAFANA / "provisioning"
DASHBOARD: Final[dict[str, Any]] = json.loads((GRAFANA / "dashboards" / "cellrouter.json").read_text())


def expressions() -> list[str]:
    """Every query of the panels, with the variables filled in as they are at first."""
    targets = [target for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return [filled_in(target["expr"]) for target in targets]


def filled_in(expression: str) -> str:
    """Return a query with Grafana's own variable and ours filled in: each of ours is `All` at first."""
    filled = expression.replace("$__rate_interval", "1m")
    for variable in DASHBOARD["templating"]["list"]:
        filled = filled.replace(f"${variable['name']}", variable["allValue"])
    return filled
