"""`cellrouter demo shop` as a user starts it: from the order to SQL, with two cells that fail, and equal books."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

LIMIT_S = 280

pytestmark = pytest.mark.skipif(find_spec("duckdb") is None, reason="the extra `shop` is not installed")


@pytest.mark.alone
def test_orders_a_cell_killed_another_slow_and_equal_books(tmp_path: Path) -> None:
    """Lines, stock, back-orders, minutes, SQL, the shops' own counts, vendor orders: of every product of every shop."""
    file = tmp_path / "ledger.json"
    command = [sys.executable, "-m", "router", "demo", "shop", "--orders", "300", "--shops", "12", "--seconds", "10"]
    done = subprocess.run(
        [*command, "--json", str(file)], env=os.environ, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    output = done.stdout + done.stderr
    assert file.exists(), output
    ledger = json.loads(file.read_text())
    assert (done.returncode, ledger["differences"], ledger["lost_orders"], ledger["refused"]) == (0, [], [], []), output
    assert (ledger["orders"], ledger["shops"], ledger["products"]) == (300, 12, 96)
    assert ledger["ordered"] == ledger["taken"] + ledger["back_ordered"] == ledger["minutes"] == ledger["sql"]
    assert ledger["vendor_orders"] == ledger["crossings"] > 0
    assert ledger["back_ordered"] > 0, "some order more than any stock"
    assert len(ledger["replaced_in_s"]) == 2
    assert ledger["visitors"] == 0
    assert "orders are placed" in output
