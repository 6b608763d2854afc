"""`cellrouter destroy` looks more than once: what comes at the last moment keeps the environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import typer

from router.cli.destroy import _surely_empty
from router.core.leftovers import Leftovers
from tests.support.aio import run


class Looks:
    """An environment that is found so, one look after the other."""

    def __init__(self, *found: Leftovers) -> None:
        self.found: Sequence[Leftovers] = found

    async def look(self) -> Leftovers:
        """Return what the next look finds."""
        first, *self.found = self.found
        return first


def test_a_line_that_came_while_the_services_ended_is_not_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    """The outboxes were empty when they were first looked at. Only who says so gives up what is in them now."""
    late = Leftovers({"events": 0}, "dead", {"cell-0003": "lines wait in its outbox"})
    environment = cast("Any", Looks(late))
    with pytest.raises(typer.Exit):
        run(_surely_empty(environment, dead_letters=False, outboxes=False))
    assert "the outbox of cell-0003" in capsys.readouterr().err
