"""Which secrets can be guessed. Whoever guesses the environment's can do all that routers and controllers can."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Final

from router.core.models import Reason

MIN_CHARS: Final = 32
"""Half of what `openssl rand -hex 32` prints: as many hex digits hold 128 bits."""
MIN_DIFFERENT: Final = 8
"""Of 32 random hex digits, fewer are different in one of a billion cases."""
HOW: Final = "make one with: openssl rand -hex 32"
_WORDS: Final = (
    *("secret", "password", "passwd", "passphrase", "changeme", "replaceme", "development", "example", "default"),
    *("cellrouter", "fortests", "testing", "benchmark", "tutorial", "qwerty", "letmein", "noworth", "placeholder"),
)
"""What people write where a secret should be. A random text in base64 has one of them in a case of ten million."""


def why_weak(secret: str) -> Reason | None:
    """Say why a secret can be guessed, without a word of it; None when nothing is seen that speaks against it."""
    letters = "".join(filter(str.isalnum, secret.lower()))
    if len(secret) < MIN_CHARS:
        return f"it has fewer than {MIN_CHARS} characters; {HOW}"
    if any(word in letters for word in _WORDS):
        return f"it has a word in it that stands in examples; {HOW}"
    if len(set(secret)) < MIN_DIFFERENT:
        return f"it has fewer than {MIN_DIFFERENT} different characters; {HOW}"
    if any(secret.startswith(secret[period:]) for period in range(1, len(secret) // 2 + 1)):
        return f"it repeats a part of itself; {HOW}"
    steps = Counter(ord(b) - ord(a) for a, b in pairwise(secret))
    if max(steps[-1], steps[0], steps[1]) >= len(secret) // 2:
        return f"its characters follow one another, as abc or 123; {HOW}"
    return None
