"""The stories of sick cells that the documentation tells end as it says."""

from __future__ import annotations

from docs import generate


def test_the_page_on_endings_shows_what_explain_prints() -> None:
    """Each story is played again, on virtual time."""
    for page in generate.SIMULATED:
        assert page.read_text() == generate.rendered(page), "run script/docs, and commit what it writes"
