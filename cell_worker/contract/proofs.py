"""How calls to an instance are proven, and its answers: neither side acts on what somebody else may have sent.

A part of the wire contract. A call has one header:

    Authorization: Cellrouter t=<ms since 1970>,n=<sender>.<number>,b=<SHA-256 of the body>,p=<proof>

Its proof is made with the cell's `call` key over all of this, the method, the path, and the instance that is meant. An
instance takes a call once, and only while its own clock is at most MAX_CLOCK_MS from the call's time. The body's hash
is in the header, so that nobody without the key can make an instance read a body.

What the instance answers is proven with its `answer` key and bound to the proof of the call: a whole answer by the
header ANSWER_HEADER, over its status and its body; and each result line by itself (`<JSON> <proof>`), since it is acted
on as soon as it comes. An answer that ends early is no forgery: what has no result line is done again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final, NamedTuple

from cell_worker.contract.keys import PROOF_BYTES, Key

ANSWER_HEADER: Final = "Cellrouter-Proof"
MAX_CLOCK_MS: Final = 30_000
"""An instance takes no call whose time differs by more from its own clock."""
_DIGITS: Final = 2 * PROOF_BYTES
_TAIL: Final = _DIGITS + 2  # of a result line: a space, the proof, the end of the line
_CALL: Final = re.compile(
    rb"Cellrouter t=(\d{1,15}),n=([0-9a-f]{16})\.(\d{1,15}),b=([0-9a-f]{64}),p=([0-9a-f]{%d})" % _DIGITS
)


class CallHeader(NamedTuple):
    """What the header of a call says."""

    at_ms: int  # since 1970, by the clock of who calls
    sender: str  # a process that calls: 16 hex digits that no other one has
    number: int  # of this sender's calls to this instance; no two have the same
    body_hash: str  # SHA-256, hex
    proof: str

    def text(self) -> str:
        """Write the header's value."""
        return f"Cellrouter t={self.at_ms},n={self.sender}.{self.number},b={self.body_hash},p={self.proof}"


def read_call(header: bytes) -> CallHeader | None:
    """Read the value of a call's header. None when it is none; never raises."""
    found = _CALL.fullmatch(header)
    if found is None:
        return None
    at_ms, sender, number, body_hash, proof = found.groups()
    return CallHeader(int(at_ms), sender.decode(), int(number), body_hash.decode(), proof.decode())


def is_call(header: bytes) -> bool:
    """Whether a header means to be that of a call, and not a login of somebody who only looks."""
    return header.startswith(b"Cellrouter ")


def hash_of(body: bytes) -> str:
    """Return the hash of a body, as the header of its call has it."""
    return hashlib.sha256(body).hexdigest()


def prove_call(key: Key, call: CallHeader, method: str, audience: str, path: str) -> CallHeader:
    """Return the call with its proof. `audience` is the field of the instance's lease."""
    at_ms, sender, number, body_hash, _ = call
    return CallHeader(at_ms, sender, number, body_hash, key.proof(_said(call, method, audience, path)))


def is_proven_call(key: Key, call: CallHeader, method: str, audience: str, path: str) -> bool:
    """Whether who calls has the cell's `call` key, and means this instance, this method and this path."""
    return key.proves(call.proof, _said(call, method, audience, path))


def _said(call: CallHeader, method: str, audience: str, path: str) -> bytes:
    """Return what a call's proof is of. The path comes last, since it alone may hold anything."""
    at_ms, sender, number, body_hash, _ = call
    return f"{at_ms} {sender} {number} {body_hash} {method} {audience} {path}".encode(errors="backslashreplace")


class AnswerProofs:
    """Proves the answers to one call, and tells which are proven."""

    __slots__ = ("_key", "_lines", "_to")

    def __init__(self, key: Key, call_proof: str) -> None:
        self._key = key
        self._to = call_proof
        self._lines = key.bound_to(f"{call_proof} line ".encode())

    def line(self, json: bytes) -> bytes:
        """Return the result line that carries this JSON."""
        return b"%b %b\n" % (json, self._lines.proof(json).encode())

    def read_line(self, line: bytes) -> bytes | None:
        """Return the JSON of a result line. None when the line is not proven."""
        json = line[:-_TAIL]
        proven = hmac.compare_digest(line[-_TAIL:], b" %b\n" % self._lines.proof(json).encode())
        return json if proven else None

    def whole(self, status: int, body: bytes) -> str:
        """Return the proof of an answer that is sent as a whole, for ANSWER_HEADER."""
        return self._key.proof(self._answer(status, body))

    def proves_whole(self, proof: str, status: int, body: bytes) -> bool:
        """Whether the instance that was called has given this whole answer."""
        return self._key.proves(proof, self._answer(status, body))

    def _answer(self, status: int, body: bytes) -> bytes:
        return f"{self._to} {status} ".encode() + body
