"""Grafana accepts the dashboard, and every metric that it queries exists."""

from __future__ import annotations

import itertools
import re
from typing import Any

import yaml

from cell_worker.metrics import WorkerMetrics
from router.adapters.metrics.controller import ControllerMetrics
from router.adapters.metrics.router import RouterMetrics
from tests.support.dashboard import DASHBOARD, PROVISIONING, expressions, filled_in

OURS = re.compile(r"\bcell(?:router)?_[a-z_]+\b")
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count")


def panels() -> list[dict[str, Any]]:
    """The panels that show data, without the rows that group them."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def test_panels_are_complete_and_do_not_overlap() -> None:
    """Each panel has its own id, a title, a description, and a place within 24 columns."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        places = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not taken & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= places
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_every_query_goes_to_the_datasource_that_is_provisioned() -> None:
    """Each panel and target names the datasource's uid, and the dashboard lies where the provider looks."""
    [source] = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    want = {"type": source["type"], "uid": source["uid"]}
    assert all(panel["datasource"] == want for panel in panels())
    assert all(target["datasource"] == want for panel in panels() for target in panel["targets"])
    [provider] = yaml.safe_load((PROVISIONING / "dashboards" / "cellrouter.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


def test_every_metric_that_is_asked_for_exists() -> None:
    """Each is in a router's or controller's registry, or in a worker's."""
    router, controller = RouterMetrics(), ControllerMetrics()
    router.watch_lanes(list)
    router.watch_loop(lambda: 0.0)
    controller.watch_fleet(lambda: None)
    registries = (router.registry, controller.registry, WorkerMetrics().registry)
    known = {family.name + end for registry in registries for family in registry.collect() for end in SUFFIXES}
    noted = [filled_in(each["expr"]) for each in DASHBOARD["annotations"]["list"]]
    offered = [variable["definition"] for variable in DASHBOARD["templating"]["list"]]
    asked = {name for expression in [*expressions(), *noted, *offered] for name in OURS.findall(expression)}
    assert asked - known == set()
    assert len(asked) > 20


def test_every_variable_is_filled_in() -> None:
    """A query with a variable that nobody defines finds nothing, and Grafana says nothing of it."""
    noted = [filled_in(each["expr"]) for each in DASHBOARD["annotations"]["list"]]
    assert [expression for expression in [*expressions(), *noted] if "$" in expression] == []
