"""How calls to an instance are proven, and its answers: neither side acts on what somebody else may have sent.

A part of the wire contract. A call has one header:

    Authorization: Cellrouter t=<ms since 1970>,n=<sender>.<number>,b=<SHA-256 of the body>,p=<proof>

Its proof is made with the cell's `call` key over all of this, the method, the path, and the instance that is meant. An
instance takes a call once, and only while its own clock is at most MAX_CLOCK_MS from the call's time. The body's hash
is in the header, so that nobody without the key can make an instance read a body.

What the instance answers is proven with its `answer` key and bound to the proof of the call: a whole answer by the
header ANSWER_HEADER, over its status and its body; and each result line (`<JSON> <proof>`) as it comes, since it is
acted on at once. A line's proof is over all that the answer has said before it, byte by byte, and over its JSON. So
lines prove their order too, and where several come together, the last one's proof is that of all of them. An answer
that ends early is no forgery: what has no result line is done again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from itertools import takewhile
from typing import Final, NamedTuple

from cell_worker.contract.keys import PROOF_BYTES, Key

ANSWER_HEADER: Final = "Cellrouter-Proof"
MAX_CLOCK_MS: Final = 30_000
"""An instance takes no call whose time differs by more from its own clock."""
_DIGITS: Final = 2 * PROOF_BYTES
TAIL_BYTES: Final = _DIGITS + 2
"""How much longer a result line is than its JSON: a space, the proof, the end of the line."""
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
    """Proves the answer to one call, or tells whether it is proven. Lines are made, or read, in their order."""

    __slots__ = ("_key", "_lines", "_to")

    def __init__(self, key: Key, call_proof: str) -> None:
        self._key = key
        self._to = call_proof
        self._lines = key.begun(f"{call_proof} line ".encode())  # of all lines so far

    def line(self, json: bytes) -> bytes:
        """Return the next result line, which carries this JSON."""
        self._lines.update(json)
        tail = b" %b\n" % self._lines.hexdigest().encode()
        self._lines.update(tail)
        return json + tail

    def read_lines(self, lines: bytes) -> list[bytes | None]:
        """Return the JSON of the next result lines, each with its end. None for one that is not proven, the last."""
        if self._prove(lines):
            return [line[: 1 - TAIL_BYTES] for line in lines[:-1].split(b"\n")]
        proven = takewhile(self._prove, lines.splitlines(keepends=True))
        return [*(line[:-TAIL_BYTES] for line in proven), None]

    def _prove(self, lines: bytes) -> bool:
        """Whether these are the next lines, all of them; if so, what comes has to follow them."""
        said, tail = self._lines.copy(), lines[-TAIL_BYTES:]
        said.update(lines[:-TAIL_BYTES])
        if not hmac.compare_digest(tail, b" %b\n" % said.hexdigest().encode()):
            return False
        said.update(tail)
        self._lines = said
        return True

    def whole(self, status: int, body: bytes) -> str:
        """Return the proof of an answer that is sent as a whole, for ANSWER_HEADER."""
        return self._key.proof(self._answer(status, body))

    def proves_whole(self, proof: str, status: int, body: bytes) -> bool:
        """Whether the instance that was called has given this whole answer."""
        return self._key.proves(proof, self._answer(status, body))

    def _answer(self, status: int, body: bytes) -> bytes:
        return f"{self._to} {status} ".encode() + body
