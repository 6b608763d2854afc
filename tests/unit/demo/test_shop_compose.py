"""The shop in Docker: `deploy/compose/shop.yml` fits the compose file, the image's packages and the demo."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import pytest
import yaml
from rich.console import Console

from router.demo.shop.run import FOLDERS, HANDLER, TABLE, ShopDemoError, ShopDemoOptions, run_shop_demo
from router.demo.stack import EXTRAS
from router.settings import load
from tests.support.fake_clock import FakeClock
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY

BASE: Final[dict[str, Any]] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SHOP: Final[dict[str, Any]] = yaml.safe_load((REPOSITORY / "deploy" / "compose" / "shop.yml").read_text())["services"]


def test_every_controller_launches_cells_of_the_shop_as_the_demo_wants_them() -> None:
    """Handler, table and folders are the demo's own; no other process is told anything else."""
    controllers = {name for name in BASE["services"] if name.startswith("controller-")}
    assert SHOP.keys() == controllers | {"shop", "demo"}
    for name in controllers:
        cells = load({**SHOP[name]["environment"], "CELLROUTER_SECRET": SECRET}).cells
        assert (cells.handler, cells.table, cells.emitted_path) == (HANDLER, TABLE, FOLDERS)


def test_the_order_api_is_of_the_same_environment_and_as_locked_as_all_others() -> None:
    """It asks the same AWS and Redis with the same secret, and is published on this machine only."""
    shop, app = SHOP["shop"], BASE["x-app"]
    assert shop["environment"].items() <= app["environment"].items()
    assert {"CELLROUTER_ENVIRONMENT", "CELLROUTER_SECRET_FILE"} <= shop["environment"].keys()
    assert shop["volumes"] == app["volumes"]
    locked = ("read_only", "tmpfs", "cap_drop", "security_opt", "pull_policy", "logging")
    assert {name: shop[name] for name in locked} == {name: BASE["x-locked"][name] for name in locked}
    (port,) = re.findall(r"127\.0\.0\.1:\$\{SHOP_PORT:-\d+\}:(\d+)", *shop["ports"])
    assert shop["command"][-2:] == ["--port", port]
    assert f"127.0.0.1:{port}/healthz" in shop["healthcheck"]["test"][-1]


def test_the_demo_attaches_to_services_that_are_there() -> None:
    """A router, a controller and the order API, each at the port that it listens on in its container."""
    *command, urls = SHOP["demo"]["entrypoint"]
    assert command == ["tini", "--", "cellrouter", "demo", "shop", "--attach"]
    found = [re.fullmatch(r"http://([a-z0-9-]+):(\d+)", url) for url in urls.split(",")]
    assert [match and match.groups() for match in found] == [
        ("router-0", "8080"),
        ("controller-0", "8080"),
        ("shop", SHOP["shop"]["command"][-1]),
    ]
    assert {"router-0", "controller-0"} <= BASE["services"].keys()
    assert SHOP["demo"]["image"] == SHOP["shop"]["image"] != BASE["x-locked"]["image"]


def test_its_image_has_the_packages_of_sql() -> None:
    """They are in the lock that the image is built from, which Docker gets to see."""
    (lock,) = [each.partition("=")[2] for each in SHOP["shop"]["build"]["args"] if each.startswith("LOCK=")]
    assert "ARG LOCK=runtime\n" in (REPOSITORY / "Dockerfile").read_text()
    assert f"!deploy/lock/{lock}.txt" in (REPOSITORY / ".dockerignore").read_text().splitlines()
    compiled = re.findall(rf"^compile {lock} (.*)$", (REPOSITORY / "script" / "lock").read_text(), re.MULTILINE)
    assert f"--extra {EXTRAS['duckdb']}" in compiled[0]


@pytest.mark.parametrize("urls", ["http://router:8080,http://shop:8090", "a,b,c,d", ""])
def test_a_demo_that_attaches_wants_three_urls(urls: str) -> None:
    """It says which, before it begins anything."""
    pytest.importorskip("duckdb", reason="of the extra `shop`")
    options = ShopDemoOptions(1, 1, 1, 0, keep=False, port=None, json_file=None, attach=urls)
    with pytest.raises(ShopDemoError, match="ROUTER,CONTROLLER,SHOP"):
        asyncio.run(run_shop_demo(options, {}, Console(quiet=True), FakeClock()))
