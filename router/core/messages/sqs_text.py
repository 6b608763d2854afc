"""The characters that SQS takes in a body or an attribute: those of XML 1.0. One other refuses the whole message.

Of a message group it takes up to 128 letters, digits and marks of ASCII.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_REFUSED_IN_JSON: Final = (b"\xef\xbf\xbe", b"\xef\xbf\xbf")  # JSON itself takes none of the others
_REFUSED: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def is_sendable(text: str) -> bool:
    """Whether SQS takes every character of a text."""
    return _REFUSED.search(text) is None


def escaped(json_text: str) -> str:
    """Write the characters of a JSON text that SQS refuses as escapes, which mean the same to whoever decodes it."""
    return _REFUSED.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def is_sendable_json(raw: bytes) -> bool:
    """Whether SQS takes every character of a JSON text, which costs less to tell than of any text."""
    return not any(each in raw for each in _REFUSED_IN_JSON)


def group_of(key: str) -> str:
    """Return the message group by which a standard queue of SQS knows a key as one tenant: 32 hex digits.

    It is a digest, since keys are as long as their tenants like, and of any characters. No tenant can find another key
    that has the group of a neighbour.
    """
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
