"""The page on costs adds up: each row is its quantity times its price, and each sum that of its rows."""

from __future__ import annotations

import re
from typing import Final

import pytest

from docs import cloudformation, costs
from tests.support.paths import REPOSITORY

PAGE: Final = (REPOSITORY / "docs" / "reference" / "costs.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of a table on the page, without its head."""
    part = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    table = next(each for each in part if each.startswith(heading))
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    return [[cell.replace(",", "") for cell in row] for row in found[2:]]


@pytest.mark.parametrize("heading", ["A cell a month", "The platform a month", "A million events"])
def test_every_row_and_every_sum_is_right(heading: str) -> None:
    """Recomputed from what is printed."""
    *lines, (_, _, _, together) = rows(heading)
    for what, count, price, amount in lines:
        assert float(count) * float(price) == pytest.approx(float(amount), abs=0.006), what
    assert sum(float(line[3]) for line in lines) == pytest.approx(float(together), abs=0.06)


def test_the_three_sizes_add_up() -> None:
    """Cells, platform and events together, and by the million."""
    a_million = float(rows("A million events")[-1][3])
    assert len(rows("The sum")) == len(costs.SIZES) == 3
    for name, millions, _, cells, platform, events, together, each in rows("The sum"):
        assert float(millions) * a_million == pytest.approx(float(events), rel=0.01), name
        assert float(cells) + float(platform) + float(events) == pytest.approx(float(together), abs=1.5), name
        assert float(together) / float(millions) == pytest.approx(float(each), rel=0.01), name


def test_no_price_is_left_out() -> None:
    """Every price is on the page, and every one is used."""
    assert [row[0] for row in rows("Prices")] == list(costs.PRICES)
    used = [price for size in costs.SIZES for _, _, price in (*costs.cell(size), *costs.platform(size))]
    assert set(costs.PRICES.values()) == {*used, *(price for _, _, price in costs.million_events())}


def test_the_alarms_and_endpoints_of_the_model_are_those_of_the_templates() -> None:
    """More of them would cost more."""
    names = cloudformation.NAMES
    kinds = {name: [each["Type"] for each in cloudformation.resources(name).values()] for name in names}
    lines = {what: count for what, count, _ in (*costs.platform(costs.SIZES[0]), *costs.cell(costs.SIZES[0]))}
    assert kinds["cell"].count("AWS::CloudWatch::Alarm") == lines["alarms"]
    assert kinds["platform"].count("AWS::CloudWatch::Alarm") == 9
    assert kinds["platform"].count("AWS::EC2::VPCEndpoint") - 2 == 11
