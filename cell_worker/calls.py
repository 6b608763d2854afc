"""Which calls an instance takes: those that are proven for it, lately made, and not taken before."""

from __future__ import annotations

from array import array
from enum import StrEnum
from typing import Final, NamedTuple

from cell_worker.contract.keys import CellKeys
from cell_worker.contract.proofs import MAX_CLOCK_MS, AnswerProofs, is_proven_call, read_call
from cell_worker.contract.protocol import Reason

WINDOW: Final = 4096
"""A call may be overtaken by so many later ones of its sender, and is taken nevertheless."""
MAX_SENDERS: Final = 256
"""Processes that are remembered, 32 KiB each: those that called last."""


class CallFault(StrEnum):
    """Why a call is not taken."""

    UNPROVEN = "unproven"  # it has no proof, or one of another secret, instance, path or body
    CLOCK = "clock"  # its time is too far from that of this instance
    REPLAYED = "replayed"  # it was taken before, or is older than can be remembered


class CheckedCall(NamedTuple):
    """A call whose header was checked: it may be taken when it has no fault."""

    answers: AnswerProofs | None  # None: who calls has not proven that it may be answered
    body_hash: str
    fault: CallFault | None = None
    why: Reason | None = None


_UNPROVEN: Final = CheckedCall(
    None,
    "",
    CallFault.UNPROVEN,
    "the call is not proven with this cell's secret: who calls has another secret than the one that CELL_SECRET was "
    "derived from, means another instance, or is no router and no controller",
)


class CallChecker:
    """Checks the calls to one instance, whose name is `audience`.

    Of each sender it remembers the newest call of each remainder by WINDOW: a call is new as long as that is older.
    """

    def __init__(self, keys: CellKeys, audience: str) -> None:
        self._keys = keys
        self._audience = audience
        self._taken: dict[str, array[int]] = {}  # the sender that called last comes last

    def check(self, header: bytes, method: str, path: str, now_ms: int) -> CheckedCall:
        """Check the header of a call, before its body is read; a call without a fault counts as taken from now on."""
        call = read_call(header)
        if call is None or not is_proven_call(self._keys.call, call, method, self._audience, path):
            return _UNPROVEN
        answers, late_ms = AnswerProofs(self._keys.answer, call.proof), now_ms - call.at_ms
        if abs(late_ms) > MAX_CLOCK_MS:
            why = (
                f"the clock of who calls is {abs(late_ms) / 1000:g} s {'behind' if late_ms > 0 else 'ahead of'} this "
                f"instance's, and may differ by {MAX_CLOCK_MS / 1000:g} s: set both by NTP"
            )
            return CheckedCall(answers, "", CallFault.CLOCK, why)
        if not self._is_new(call.sender, call.number):
            return CheckedCall(answers, "", CallFault.REPLAYED, "the call was taken before, or came much too late")
        return CheckedCall(answers, call.body_hash)

    def _is_new(self, sender: str, number: int) -> bool:
        taken = self._taken.pop(sender, None)
        if taken is None:
            if len(self._taken) >= MAX_SENDERS:
                del self._taken[next(iter(self._taken))]
            taken = array("q", bytes(8 * WINDOW))
        self._taken[sender] = taken
        place = number % WINDOW
        if number <= taken[place]:
            return False
        taken[place] = number
        return True
