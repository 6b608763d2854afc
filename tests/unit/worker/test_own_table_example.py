"""The example of a table of one's own, in the page on handlers, does what the page says."""

from __future__ import annotations

import re
from typing import Any

from cell_worker.api import ItemKey
from cell_worker.testing import Harness
from tests.support.paths import REPOSITORY


def example() -> Any:
    """Run the page's code, and return its handler."""
    page = (REPOSITORY / "docs" / "how-to" / "write-a-handler.md").read_text()
    section = page.split("## A table of its own", 1)[1].split("\n## ", 1)[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    found: dict[str, Any] = {"__name__": "example"}
    exec(code, found)
    return found["Stock"]


def test_each_event_counts_once_and_the_last_one_is_told_once() -> None:
    """An event whose commit was lost comes again, and finds its sale."""
    with Harness(example()) as cell:
        assert cell.give({"product": "mug"}, event_id="first").outcome == "ok"
        stock = ItemKey("mug", "stock")
        assert cell.tables["stock"].items[stock]["left"] == 99
        cell.tables["stock"].items[stock] = stock.of(left=1)
        assert cell.give({"product": "mug"}, event_id="second").outcome == "ok"
        assert cell.catch_up() == [{"sold_out": "mug"}]
        cell.tables["stock"].trim()
        cell.run(cell.components["stream"].restart())
        assert cell.catch_up() == []


def test_what_was_written_and_not_committed_is_not_written_again() -> None:
    """The handler is called a second time for one event."""
    with Harness(example()) as cell:
        cell.give({"product": "mug"}, event_id="first")
        (sale,) = [key for key in cell.tables["stock"].items if key.sk == "sale"]
        cell.tables["stock"].items[ItemKey("6:tenant/second", "sale")] = ItemKey("6:tenant/second", "sale").of()
        assert sale == ItemKey("6:tenant/first", "sale")
        assert cell.give({"product": "mug"}, event_id="second").outcome == "ok"
        assert cell.tables["stock"].items[ItemKey("mug", "stock")]["left"] == 99


def test_a_body_that_is_none_says_what_is_wrong() -> None:
    """It is rejected, as a body that is no JSON is."""
    with Harness(example()) as cell:
        answers = [cell.give(body) for body in ({"product": 7}, {}, "{")]
    assert [answer.outcome for answer in answers] == ["rejected"] * 3
    assert "product" in str(answers[0].reason)


def test_only_the_cell_of_start_lends_tables() -> None:
    """A handler that asks the cell of an event is told what to do."""

    async def handle(_: Any, cell: Any) -> None:
        cell.table("stock")

    with Harness(handle) as cell:
        answer = cell.give({})
    assert answer.outcome == "failed"
    assert "keep what you need" in str(answer.reason)
