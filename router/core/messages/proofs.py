"""Proofs that a message's `cellrouter.` attributes are a router's own, since anybody who may send can write some. Pure.

A proof covers every such attribute, the key and the id beside them, and the body: moved onto another message it proves
nothing. What is not proven is not believed, on whichever queue it lies, since cells and others may have rights there.
Such a message is not lost. It counts as one that was never tried: what it says of attempts and of instances that died
is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from router.core.models import Draft, Message

OURS: Final = "cellrouter."
"""How the names of a router's own attributes begin."""
ATTEMPT: Final = f"{OURS}attempt"  # the attribute by which a held message is known
DEATH: Final = f"{OURS}death"  # the binary attribute that says of a held message that its event is dead
PROOF: Final = f"{OURS}proof"
PROOF_CHARS: Final = 32
_NAMES: Final = ("event_id", "partition_key")


class AttributeKey(Protocol):
    """A key by which routers know what they wrote themselves."""

    def proof(self, said: bytes) -> str:
        """Return the proof of what is said: PROOF_CHARS hex digits."""
        ...

    def proves(self, proof: str, said: bytes) -> bool:
        """Whether the proof is that of what is said."""
        ...


class AttributeKeys(Protocol):
    """The keys that are valid now, which may change at work."""

    @property
    def attributes(self) -> Sequence[AttributeKey]:
        """The keys: the first signs, and what any of them proves is believed."""
        ...


def signed(draft: Draft, keys: AttributeKeys) -> Draft:
    """Return the message with the proof that its `cellrouter.` attributes are a router's own."""
    proof = keys.attributes[0].proof(_said(draft.body, draft.attributes, draft.binaries))
    return replace(draft, attributes={**draft.attributes, PROOF: proof})


def believed(message: Message, keys: AttributeKeys) -> Message:
    """Return the message, without what its attributes say in our name where that is not proven.

    One that names key and id as a held message does keeps its shape: held long ago, under a secret that is no longer
    valid, it is still the same event.
    """
    attributes = message.attributes
    if not any(name.startswith(OURS) for name in (*attributes, *message.binaries)):
        return message
    proof, said = attributes.get(PROOF, ""), _said(message.body, attributes, message.binaries)
    if any(key.proves(proof, said) for key in keys.attributes):
        return message
    left = {name: value for name, value in attributes.items() if not name.startswith(OURS)}
    if ATTEMPT in attributes and all(left.get(name) for name in _NAMES):
        # The others are its body and what came beside it, as whoever sends a message may say it of his own.
        binaries = {name: value for name, value in message.binaries.items() if name != DEATH}
        return replace(message, attributes={**left, ATTEMPT: "1"}, binaries=binaries)
    binaries = {name: value for name, value in message.binaries.items() if not name.startswith(OURS)}
    return replace(message, attributes=left, binaries=binaries)


def _said(body: str, attributes: Mapping[str, str], binaries: Mapping[str, bytes]) -> bytes:
    covered = sorted(
        (_bytes(name), _bytes(value))
        for name, value in attributes.items()
        if name in _NAMES or (name.startswith(OURS) and name != PROOF)
    )
    covered += sorted((_bytes(name), value) for name, value in binaries.items() if name.startswith(OURS))
    return hashlib.blake2b(_bytes(body)).digest() + msgspec.msgpack.encode(covered)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
