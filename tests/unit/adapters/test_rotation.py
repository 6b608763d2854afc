"""Whatever a process knows of two secrets, it sees and calls exactly the instances that use one of those."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from itertools import product
from typing import Final

import msgspec
import pytest

from cell_worker.calls import CallChecker
from cell_worker.contract import protocol
from cell_worker.contract.proofs import AnswerProofs, CallHeader, hash_of, prove_call
from router.adapters.keyring import Keyring
from router.adapters.redis.lease_reader import LeaseReader
from router.core.models import LeaseView
from tests.support.keys import OTHER_SECRET, SECRET, cell_keys, field_of

OLD, NEW = SECRET, OTHER_SECRET
RECORD: Final = protocol.InstanceRecord("live", "cell-0001", 3, "one", "127.0.0.1:8080", 16, 0)
NAME: Final = protocol.instance_name("cell-0001", 3)
STEPS: Final = ([OLD], [OLD, NEW], [NEW, OLD], [NEW])
"""What is in the file of secrets, one step after the other."""


def seen(ring: Keyring, secret: str) -> LeaseView | None:
    """Return the lease of an instance with this secret as a process sees it that has this keyring."""
    key = cell_keys("live", "cell-0001", secret).lease
    lease = protocol.Lease(2000, ready=True, record=protocol.sign_record(RECORD, key), beat=1)
    value = msgspec.json.encode(msgspec.structs.replace(lease, proof=protocol.beat_proof(lease, key)))
    reader = LeaseReader("live", ring, [ip_network("127.0.0.0/8")], lambda _: None)
    views = reader.read(1000, 1000, {field_of("live", "cell-0001", 3, secret): value})
    return views[0] if views else None


@pytest.mark.parametrize(("known", "used"), [*product(STEPS, (OLD, NEW))])
def test_a_process_calls_an_instance_with_the_secret_that_its_lease_tells(known: Sequence[str], used: str) -> None:
    """The instance takes the call, and its answer is believed. No other instance is seen."""
    ring, instance = Keyring("live", known), cell_keys("live", "cell-0001", used)
    lease = seen(ring, used)
    assert (lease is not None) == (used in known)
    if lease is None:
        return
    target = lease.target()
    keys = ring.keys(target.cell_id, target.secret_id)
    call = prove_call(keys.call, CallHeader(1, "ab" * 8, 1, hash_of(b""), ""), "POST", NAME, "/")
    checked = CallChecker(instance, NAME).check(call.text().encode(), "POST", "/", 1)
    assert checked.fault is None
    assert checked.answers is not None
    assert AnswerProofs(keys.answer, call.proof).read_lines(checked.answers.line(b"{}")) == [b"{}"]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_in_every_mixture_that_a_rotation_passes_through_nobody_loses_an_instance(step: int) -> None:
    """While some processes are a step ahead, all see whatever those launch that are furthest, and those before."""
    ahead, behind = STEPS[step + 1], STEPS[step]
    launched = {OLD} if step == 0 else {OLD, NEW} if step == 1 else {NEW}  # before the last step all are replaced
    for known, used in product((ahead, behind), launched):
        assert seen(Keyring("live", known), used) is not None
    assert {ahead[0], behind[0]} <= launched


def test_a_removed_secret_is_no_longer_believed_from_the_next_heartbeat_on() -> None:
    """Though the record of its lease was checked before."""
    ring = Keyring("live", [NEW, OLD])
    reader = LeaseReader("live", ring, [ip_network("127.0.0.0/8")], lambda _: None)
    key = cell_keys("live", "cell-0001", OLD).lease
    alive = []
    for beat, secrets in enumerate(([NEW, OLD], [NEW, OLD], [NEW]), start=1):
        ring.replace(secrets)
        now = 1000 * beat
        lease = protocol.Lease(now + 900, ready=True, record=protocol.sign_record(RECORD, key), beat=beat)
        value = msgspec.json.encode(msgspec.structs.replace(lease, proof=protocol.beat_proof(lease, key)))
        alive.append(any(view.live for view in reader.read(now, now, {field_of("live", "cell-0001", 3, OLD): value})))
    assert alive == [True, True, False]
