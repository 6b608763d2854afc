"""Where this checkout lies, for tests that read or start something of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
"""The root of the checkout: the directory of pyproject.toml."""
