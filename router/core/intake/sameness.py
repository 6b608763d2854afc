"""Whether two configurations that AWS has given mean the same: it gives back what it took in another order or form."""

from __future__ import annotations

import json
from typing import Any, Final

_MEANT_EMPTY: Final = frozenset({"EventBridgeConfiguration"})  # that it is there turns it on
_ANY_CASE: Final = frozenset({"Action", "NotAction", "Name"})  # SQS:SendMessage; Prefix and Suffix of a filter


def same(one: Any, other: Any) -> bool:
    """Say whether both are equal but for order in lists, lists of one value, case of actions, and what is empty."""
    return bool(_plain(one) == _plain(other))


def _plain(node: Any, *, any_case: bool = False) -> Any:
    if isinstance(node, dict):
        found = {key: _plain(value, any_case=key in _ANY_CASE) for key, value in node.items()}
        return {key: value for key, value in found.items() if value not in ([], {}) or key in _MEANT_EMPTY}
    if isinstance(node, list):
        values = [_plain(each, any_case=any_case) for each in node]
        texts = sorted({json.dumps(each, sort_keys=True) for each in values})
        return values[0] if len(texts) == 1 else texts
    return node.lower() if any_case and isinstance(node, str) else node
