"""The Grafana dashboard that ships, and what it asks Prometheus."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.support.paths import REPOSITORY

GRAFANA: Final = REPOSITORY / "deploy" / "grafana"
PROVISIONING: Final = GRAFANA / "provisioning"
DASHBOARD: Final[dict[str, Any]] = json.loads((GRAFANA / "dashboards" / "cellrouter.json").read_text())


def expressions() -> list[str]:
    """Every query, with Grafana's own variable filled in."""
    targets = [target for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return [target["expr"].replace("$__rate_interval", "1m") for target in targets]
