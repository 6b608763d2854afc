"""Takes away the credentials that tests have otherwise."""

from __future__ import annotations

import pytest


def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no credentials in the environment or in files."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
