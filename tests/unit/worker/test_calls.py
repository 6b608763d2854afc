"""Which calls an instance takes, and which answers a router believes, when others attack who lack the cell's key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell_worker.calls import MAX_SENDERS, WINDOW, CallChecker, CallFault
from cell_worker.contract.keys import CellKeys
from cell_worker.contract.proofs import MAX_CLOCK_MS, AnswerProofs, CallHeader, hash_of, prove_call, read_call
from tests.support.keys import OTHER_SECRET, cell_keys

NOW: Final = 1_700_000_000_000
MINE: Final = "cell-0001/3"
KEYS: Final = cell_keys("live", "cell-0001")
CALL: Final = "c" * 32
JSON: Final = st.binary(max_size=80).filter(lambda raw: not {*b"\r\n"} & {*raw})


def header(
    keys: CellKeys = KEYS, *, audience: str = MINE, method: str = "POST", path: str = "/v1/drain", **fields: Any
) -> bytes:
    """Return the header of a call, proven with these keys."""
    call = CallHeader(NOW, "ab" * 8, 1, hash_of(b""), "")._replace(**fields)
    return prove_call(keys.call, call, method, audience, path).text().encode()


def fault(given_header: bytes, checker: CallChecker | None = None, now_ms: int = NOW) -> CallFault | None:
    """Return what an instance finds wrong with a call of POST /v1/drain."""
    return (checker or CallChecker(KEYS, MINE)).check(given_header, "POST", "/v1/drain", now_ms).fault


@pytest.mark.parametrize(
    "attack",
    [
        b"",
        b"Bearer the-secret-of-old-versions",
        header(cell_keys("live", "cell-0002")),  # a stolen cell calls a peer
        header(cell_keys("live", "cell-0001", OTHER_SECRET)),
        header(cell_keys("stress", "cell-0001")),
        header(replace(KEYS, call=KEYS.answer)),
        header(replace(KEYS, call=KEYS.lease)),
        header(audience="cell-0002/3"),
        header(audience="cell-0001/2"),  # recorded on its way to the instance before
        header(method="GET"),
        header(path="/v1/chaos"),
        header().replace(b"t=1", b"t=2"),
        header().replace(b".1,b", b".2,b"),
        header().replace(b"b=e", b"b=f"),
        header() + b"0",
    ],
)
def test_a_call_that_is_not_proven_for_this_instance_is_not_taken(attack: bytes) -> None:
    """Nor does it use up the number of an honest call, which is taken afterwards."""
    checker = CallChecker(KEYS, MINE)
    assert fault(attack, checker) is CallFault.UNPROVEN
    assert fault(header(), checker) is None


@given(late_ms=st.integers(-10 * MAX_CLOCK_MS, 10 * MAX_CLOCK_MS))
def test_clocks_may_differ_by_half_a_minute(late_ms: int) -> None:
    """The refusal of another one says by how much, and can be proven, since the call is."""
    checked = CallChecker(KEYS, MINE).check(header(), "POST", "/v1/drain", NOW + late_ms)
    assert checked.fault is (None if abs(late_ms) <= MAX_CLOCK_MS else CallFault.CLOCK)
    assert checked.answers is not None
    assert checked.why is None or f"{abs(late_ms) / 1000:g} s {'behind' if late_ms > 0 else 'ahead'}" in checked.why


@given(st.lists(st.integers(1, 3 * WINDOW), max_size=200))
def test_a_call_is_taken_once_in_whatever_order_calls_come(numbers: list[int]) -> None:
    """No call is taken twice, and every new one is that at most WINDOW later ones have overtaken."""
    checker, taken = CallChecker(KEYS, MINE), set[int]()
    for number in numbers:
        found = fault(header(number=number), checker)
        assert not (found is None and number in taken)
        if number not in taken and number > max(taken, default=0) - WINDOW:
            assert found is None
        if found is None:
            taken.add(number)


def test_senders_are_bounded_and_those_that_called_last_are_remembered() -> None:
    """However many processes call, an instance keeps a few MiB, and knows what the last ones have sent."""
    checker = CallChecker(KEYS, MINE)
    headers = [header(sender=f"{sender:016x}") for sender in range(2 * MAX_SENDERS)]
    assert all(fault(each, checker) is None for each in headers)
    assert all(fault(each, checker) is CallFault.REPLAYED for each in headers[-MAX_SENDERS:])
    assert len(checker._taken) == MAX_SENDERS


@given(st.binary(max_size=200))
def test_a_header_is_read_as_it_is_written_or_not_at_all(raw: bytes) -> None:
    """No two texts stand for one call."""
    call = read_call(raw)
    assert call is None or call.text().encode() == raw
    assert read_call(header()) is not None


@given(json=JSON, forged=st.binary(max_size=120))
def test_a_line_proves_its_instance_its_call_and_its_bytes(json: bytes, forged: bytes) -> None:
    """Neither another cell nor who has only the `call` key can make one, and none fits to another call."""
    proofs, line = AnswerProofs(KEYS.answer, CALL), AnswerProofs(KEYS.answer, CALL).line(json)
    others = (KEYS.call, KEYS.lease, cell_keys("live", "cell-0002").answer)
    forgers = [AnswerProofs(key, CALL) for key in others] + [AnswerProofs(KEYS.answer, "d" * 32)]
    assert all(proofs.read_lines(forger.line(json)) == [None] for forger in forgers)
    assert proofs.read_lines(forged) == proofs.read_lines(line[:-1]) == [None]
    assert proofs.read_lines(line) == [json]
    whole = proofs.whole(409, json)
    assert proofs.proves_whole(whole, 409, json)
    assert not proofs.proves_whole(whole, 503, json)
    assert not proofs.proves_whole(line[-33:-1].decode(), 200, json)


@given(jsons=st.lists(JSON, min_size=2, max_size=6), cut=st.integers(1, 5))
def test_lines_prove_the_same_in_whatever_pieces_they_come(jsons: list[bytes], cut: int) -> None:
    """One by one, or many at once, which are proven by the last of them."""
    lines, reader = lines_of(jsons), AnswerProofs(KEYS.answer, CALL)
    pieces = [b"".join(lines[:cut]), *lines[cut:]]
    assert [json for piece in pieces for json in reader.read_lines(piece)] == jsons


@given(jsons=st.lists(JSON, min_size=3, max_size=6), at=st.integers(0, 1), forged=JSON)
def test_of_lines_that_come_together_those_before_an_attack_count(jsons: list[bytes], at: int, forged: bytes) -> None:
    """Whoever leaves out a line, sends one twice, turns two round or changes one has nothing believed from there on."""
    lines = lines_of(jsons)
    before, line, following, after = lines[:at], lines[at], lines[at + 1], lines[at + 2 :]
    attacks = [
        [following, *after],
        [line, line, following, *after],
        [following, line, *after],
        [forged + b"!" + line, following, *after],
        [AnswerProofs(KEYS.call, CALL).line(forged), following, *after],
    ]
    for attack in attacks:
        honest = jsons[: at + (attack[0] == line)]
        assert AnswerProofs(KEYS.answer, CALL).read_lines(b"".join((*before, *attack))) == [*honest, None]


def lines_of(jsons: list[bytes]) -> list[bytes]:
    """Return the result lines that carry these, as an honest instance makes them."""
    answer = AnswerProofs(KEYS.answer, CALL)
    return [answer.line(json) for json in jsons]
