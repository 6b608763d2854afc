"""How many remedies may act, and which account an object's key names."""

from __future__ import annotations

import pytest

from cell_worker.handlers.security.logs import LogObject
from cell_worker.handlers.security.permits import Allowance

HOUR_S = 3600


def test_an_account_has_its_hours_remedies_and_leaves_the_others_theirs() -> None:
    """A pause saves up an hour's remedies and no more; what is over the bound is named."""
    allowance = Allowance(100, 3)
    assert [allowance.why_spent("a", 0.0) for _ in range(3)] == [None] * 3
    assert "REMEDIES_PER_ACCOUNT" in (allowance.why_spent("a", 0.0) or "")
    assert allowance.why_spent("b", 0.0) is None
    assert allowance.why_spent("a", HOUR_S / 3 + 1) is None
    assert allowance.why_spent("a", HOUR_S / 3 + 2) is not None
    later = [allowance.why_spent("a", 50 * HOUR_S) for _ in range(4)]
    assert later[:3] == [None] * 3
    assert later[3] is not None


def test_all_accounts_together_have_the_cells() -> None:
    """Ever new accounts don't get more, and a refusal takes nothing of the account's own."""
    allowance = Allowance(5, 3)
    spent = [allowance.why_spent(str(number), 0.0) for number in range(20)]
    assert spent[:5] == [None] * 5
    assert all("REMEDIES_PER_HOUR" in (why or "") for why in spent[5:])


def test_what_is_tried_again_as_a_whole_costs_once() -> None:
    """An event that a fault of AWS interrupts takes no remedies from the others however often it comes."""
    allowance = Allowance(10, 4)
    for _ in range(100):
        assert [allowance.why_spent("a", 0.0) for _ in range(4)] == [None] * 4
        allowance.give_back("a", 4)


@pytest.mark.parametrize(
    ("key", "account"),
    [
        ("AWSLogs/123456789012/CloudTrail/us-east-1/2026/01/05/x.json.gz", "123456789012"),
        ("a/prefix/AWSLogs/o-abc123/123456789012/CloudTrail/x", "123456789012"),
        ("AWSLogs/123456789012/CloudTrail-Insight/x", "123456789012"),
        ("AWSLogs/123456789012/Config/x", None),
        ("AWSLogs/123456789012", None),
        ("xAWSLogs/123456789012/CloudTrail/x", None),
        ("AWSLogs/1234567890123/CloudTrail/x", None),
        ("AWSLogs/\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669\u0660\u0661\u0662/CloudTrail/x", None),
        ("AWSLogs/111111111111/AWSLogs/222222222222/CloudTrail/x", None),
        ("AWSLogs/111111111111/CloudTrail/AWSLogs/222222222222/CloudTrail/x", None),
    ],
)
def test_a_key_names_one_account_or_none(key: str, account: str | None) -> None:
    """A key in which two are named, one inside the other's prefix, names none."""
    assert LogObject("b", key, None).account == account
