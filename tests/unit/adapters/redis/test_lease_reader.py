"""Which leases a reader trusts, since anything that reaches Redis can write there."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network

import msgspec
import pytest

from cell_worker.contract import protocol
from router.adapters.redis.lease_reader import LeaseReader
from router.adapters.redis.lifetimes import LONGEST_MS
from router.core.telemetry import LeaseRefusal, LeaseRefused
from tests.support.keys import SECRET, lease_key, ring

FIELD = "cell-0001/3"
START_MS = 1_700_000_000_000
"""All times below are counted from here."""
HONEST = protocol.InstanceRecord("live", "cell-0001", 3, "one", "10.0.0.7:8080", 16, 0)


def lease(
    record: protocol.InstanceRecord = HONEST,
    *,
    beat: int = 1,
    ends: int = 2000,
    secret: str = SECRET,
    signer: protocol.InstanceRecord = HONEST,
) -> bytes:
    """A lease as an instance writes it that has the secret of the signer's cell."""
    key = lease_key(signer, secret)
    made = protocol.Lease(START_MS + ends, ready=True, record=protocol.sign_record(record, key), beat=beat)
    return msgspec.json.encode(msgspec.structs.replace(made, proof=protocol.beat_proof(made, key)))


def changed(value: bytes, **fields: object) -> bytes:
    """The lease after somebody has written something else into it."""
    return msgspec.json.encode(msgspec.structs.replace(msgspec.json.decode(value, type=protocol.Lease), **fields))


@dataclass
class World:
    """A reader, and the refusals that it has told."""

    told: list[LeaseRefused] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader = LeaseReader(
            "live", ring("live"), [ip_network("10.0.0.0/8"), ip_network("fd00::/8")], self.told.append
        )

    def live(self, value: bytes, now_ms: int = 1000, own_ms: int | None = None, place: str = FIELD) -> bool:
        """Return whether the reader takes the instance for alive; the clocks agree unless `own_ms` differs."""
        own_ms = now_ms if own_ms is None else own_ms
        return any(view.live for view in self.reader.read(START_MS + now_ms, START_MS + own_ms, {place: value}))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"garbage", "garbage"),
        (lease(secret="not the secret of ours"), "unsigned"),
        (lease(signer=msgspec.structs.replace(HONEST, cell_id="cell-0002")), "unsigned"),
        (lease(signer=msgspec.structs.replace(HONEST, environment="stress")), "unsigned"),
        (changed(lease(), ready=False), "unsigned"),
        (changed(lease(), beat=99), "unsigned"),
        (changed(lease(), fenced=99), "unsigned"),
        (changed(lease(), note="all is well"), "unsigned"),
        (changed(lease(), note="x" * 501), "garbage"),
        (changed(lease(), record="0.{}"), "unsigned"),
        (lease(msgspec.structs.replace(HONEST, environment="stress")), "foreign"),
        (lease(msgspec.structs.replace(HONEST, cell_id="cell-0002")), "misplaced"),
        (lease(msgspec.structs.replace(HONEST, generation=4)), "misplaced"),
        (lease(msgspec.structs.replace(HONEST, address="169.254.169.254:80")), "network"),
        (lease(msgspec.structs.replace(HONEST, address="[::1]:80")), "network"),
        (lease(msgspec.structs.replace(HONEST, address="metadata.internal:80")), "network"),
    ],
)
def test_what_is_not_honest_is_not_seen_and_told_once(value: bytes, reason: str) -> None:
    """However often the value is read; an honest lease in another field is still read."""
    world = World()
    other = msgspec.structs.replace(HONEST, cell_id="cell-0005", address="[fd00::5]:8080")
    for _ in range(3):
        views = world.reader.read(
            START_MS + 1000, START_MS + 1000, {FIELD: value, "cell-0005/3": lease(other, signer=other)}
        )
        assert [view.cell_id for view in views] == ["cell-0005"]
    assert world.told == [LeaseRefused(FIELD, LeaseRefusal(reason))]


def test_an_honest_lease_lives_until_its_end_and_with_each_beat_longer() -> None:
    """A lease is alive until it expires by the registry's clock."""
    world = World()
    assert world.live(lease())
    assert not world.live(lease(), 2000)
    assert world.live(lease(beat=2, ends=4000), 2000)
    assert world.told == []


def test_a_lease_put_back_with_another_end_is_refused() -> None:
    """The last honest lease still counts, and expires when it would have anyway."""
    world = World()
    assert world.live(lease(beat=7))
    assert world.live(lease(beat=6, ends=9000), 1500)
    assert not world.live(lease(beat=7, ends=9000), 2500)
    assert [refused.reason for refused in world.told] == ["replayed", "replayed"]
    assert world.live(lease(beat=8, ends=9000), 3000)


def test_a_lease_without_an_end_does_not_live_for_ever() -> None:
    """The end of a lease is not signed, so without a new heartbeat it counts for LONGEST_MS at most."""
    world = World()
    forever = lease(ends=10**15)
    assert world.live(forever)
    assert world.live(forever, 999 + LONGEST_MS)
    assert not world.live(forever, 1000 + LONGEST_MS)


def test_a_new_instance_of_the_generation_counts_from_one_again() -> None:
    """A restarted instance has another id, and a lease that is gone from the registry is forgotten."""
    world = World()
    assert world.live(lease(beat=50))
    assert world.live(lease(msgspec.structs.replace(HONEST, instance_id="two"), beat=1, ends=3000))
    assert world.reader.read(START_MS + 1000, START_MS + 1000, {}) == ()
    assert world.told == []


HOUR = 3_600_000  # ms


def test_a_lease_ends_in_its_time_though_the_registrys_clock_was_set_back() -> None:
    """An instance that died as the clock went back is as dead after its lease as with a clock that goes right."""
    world = World()
    assert world.live(lease(ends=HOUR + 2000), HOUR + 1000, 1000)
    assert world.live(lease(ends=HOUR + 2000), 1500, 1500)
    assert not world.live(lease(ends=HOUR + 2000), 2000, 2000)


def test_a_lease_lives_on_though_the_registrys_clock_was_set_forward() -> None:
    """Neither a lease that was read before counts as ended, nor one that was renewed just before the clock went."""
    world = World()
    assert world.live(lease(ends=3000))
    assert world.live(lease(ends=3000), HOUR + 1500, 1500)
    assert world.live(lease(beat=2, ends=3600), HOUR + 2000, 2000)
    assert world.live(lease(beat=3, ends=HOUR + 4500), HOUR + 2500, 2500)
    assert not world.live(lease(beat=3, ends=HOUR + 4500), HOUR + 4500, 4500)


def test_who_first_reads_a_lease_of_a_clock_set_back_waits_a_minute_at_most() -> None:
    """A reader that knows nothing from before can't tell when the lease was written."""
    world = World()
    assert world.live(lease(ends=HOUR), 1000, 1000)
    assert not world.live(lease(ends=HOUR), 1000 + LONGEST_MS, 1000 + LONGEST_MS)
