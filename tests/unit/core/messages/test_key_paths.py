"""JMESPath expressions and their patterns: what a tenant's text can't make them cost."""

from __future__ import annotations

import time

import pytest

from router.core.errors import ConfigError, MalformedMessageError
from router.core.messages.key_paths import MAX_STEPS, compile_path


def test_no_text_makes_a_pattern_backtrack() -> None:
    """A pattern with nested repetitions takes linear time. Python's `re` takes twice as long for each character."""
    search = compile_path("a | match(@, '(x+x+)+y')")
    began = time.process_time()
    assert search({"a": "x" * 29}) is None
    assert search({"a": "x" * 1_000_000}) is None
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "path", ["l[*].a", "sort_by(l, &a)[0].a", "l[?a == `1`]", "map(&to_string(a), l)", "l[*].[a, a, a]", "@.*[].a"]
)
def test_a_document_has_so_many_steps_and_no_more(path: str) -> None:
    """A list of 1 MB costs no more than one that ends the search; a list of usual length is searched to its end."""
    search = compile_path(path)
    assert search({"l": [{"a": 1}] * (MAX_STEPS // 8)})
    began = time.process_time()
    with pytest.raises(MalformedMessageError, match=f"more than {MAX_STEPS} steps"):
        search({"l": [{"a": 1}] * 150_000})
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("match(a, '(?=x)(y)')", "of RE2, which takes linear time: invalid perl operator"),
        (r"match(a, '(x)\1')", "of RE2, which takes linear time: invalid escape sequence"),
        ("match(a, b)", "has to be written there"),
        ("match(a, `5`)", "has to be written there"),
        ("map(&match(@, @), a)", "has to be written there"),
    ],
)
def test_a_pattern_that_re2_lacks_is_named_at_once(path: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    """So is one that the message would bring. Nothing but the error tells of it."""
    with pytest.raises(ConfigError, match=reason):
        compile_path(path)
    assert capfd.readouterr().err == ""


def test_a_group_that_took_no_part_finds_nothing() -> None:
    """The pattern matches and its group does not; other scripts' letters come out whole."""
    assert compile_path("match(@, '(a)?b')")("b") is None
    assert compile_path("match(@, 'tenants/([^/]+)/')")("tenants/Jürgen Ω/x") == "Jürgen Ω"
