"""The page about the detector lists every threshold with the value that it has."""

from __future__ import annotations

import re

import pytest

from router.core.detection import thresholds
from tests.support.paths import REPOSITORY


def test_the_page_about_the_detector_lists_every_threshold() -> None:
    """Each has its name and its value in the table, rounded to four figures."""
    page = (REPOSITORY / "docs" / "detector.md").read_text()
    listed = {name: float(value) for name, value in re.findall(r"\| `([A-Z_]+)` \| ([\d.]+) \|", page)}
    real = {name: value for name, value in vars(thresholds).items() if name.isupper()}
    assert listed == pytest.approx(real, rel=1e-3)
