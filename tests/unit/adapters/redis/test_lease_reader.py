"""Which leases a reader trusts, since anything that reaches Redis can write there."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network

import msgspec
import pytest

from cell_worker.contract import protocol
from router.adapters.redis.entries import MAX_TOLD
from router.adapters.redis.lease_reader import MAX_MISSING, LeaseReader
from router.adapters.redis.lifetimes import LONGEST_MS
from router.core.models import CellRecord, Vitals
from router.core.telemetry import LeaseRefusal, LeaseRefused
from tests.support.keys import OTHER_SECRET, SECRET, field_of, lease_key, ring

FIELD = field_of("live", "cell-0001", 3)
START_MS = 1_700_000_000_000
"""All times below are counted from here."""
BUSY = protocol.Vitals(0.5, 0.98, 0.04, None, 0.01, 0.0, 0.002, 0.03)
HONEST = protocol.InstanceRecord("live", "cell-0001", 3, "one", "10.0.0.7:8080", 16, 0)


def lease(
    record: protocol.InstanceRecord = HONEST,
    *,
    beat: int = 1,
    ends: int = 2000,
    secret: str = SECRET,
    signer: protocol.InstanceRecord = HONEST,
    ended: bool = False,
    vitals: protocol.Vitals | None = None,
) -> bytes:
    """A lease as an instance writes it that has the secret of the signer's cell."""
    key = lease_key(signer, secret)
    signed = protocol.sign_record(record, key)
    made = protocol.Lease(START_MS + ends, ready=True, record=signed, beat=beat, ended=ended, vitals=vitals)
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
        (changed(lease(), vitals=BUSY), "unsigned"),
        (changed(lease(vitals=BUSY), vitals=None), "unsigned"),
        (changed(lease(vitals=BUSY), vitals=msgspec.structs.replace(BUSY, cpu=0.1)), "unsigned"),
        (lease(vitals=msgspec.structs.replace(BUSY, waited=1.1)), "garbage"),
        (lease(vitals=msgspec.structs.replace(BUSY, lag_s=-1.0)), "garbage"),
        (lease(vitals=msgspec.structs.replace(BUSY, write_s=1e300)), "garbage"),
        (lease(msgspec.structs.replace(HONEST, environment="stress")), "foreign"),
        (lease(msgspec.structs.replace(HONEST, cell_id="cell-0002")), "misplaced"),
        (lease(msgspec.structs.replace(HONEST, generation=4)), "misplaced"),
        (lease(msgspec.structs.replace(HONEST, address="169.254.169.254:80")), "network"),
        (lease(msgspec.structs.replace(HONEST, address="[::1]:80")), "network"),
        (lease(msgspec.structs.replace(HONEST, address="metadata.internal:80")), "network"),
        (lease(msgspec.structs.replace(HONEST, address="[fd00:ec2::254]:80")), "network"),
        (lease(msgspec.structs.replace(HONEST, address="10.0.0.7:80/path?")), "network"),
        (lease(msgspec.structs.replace(HONEST, address="10.0.0.7:80@evil:80")), "network"),
    ],
)
def test_what_is_not_honest_is_not_seen_and_told_once(value: bytes, reason: str) -> None:
    """However often the value is read; an honest lease in another field is still read."""
    world = World()
    other = msgspec.structs.replace(HONEST, cell_id="cell-0005", address="[fd00::5]:8080")
    for _ in range(3):
        values = {FIELD: value, field_of("live", "cell-0005", 3): lease(other, signer=other)}
        views = world.reader.read(START_MS + 1000, START_MS + 1000, values)
        assert [view.cell_id for view in views] == ["cell-0005"]
    assert world.told == [LeaseRefused("cell-0001/3", LeaseRefusal(reason))]


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
    """A restarted instance has another id."""
    world = World()
    assert world.live(lease(beat=50))
    assert world.live(lease(msgspec.structs.replace(HONEST, instance_id="two"), beat=1, ends=3000))
    assert world.told == []


def test_a_lease_that_is_gone_or_false_is_remembered_as_missing() -> None:
    """Whoever may write leases takes others' away: that says nothing of their instances, until they write again."""
    world = World()
    nothings: list[dict[str, bytes]] = [{}, {FIELD: b"garbage"}, {FIELD: lease(beat=4)}]
    for beat, nothing in enumerate(nothings, 5):
        assert world.live(lease(beat=beat, ends=beat * 10_000), beat * 10_000 - 1000)
        for after_ms, live in ((0, True), (9000, False)):
            (view,) = world.reader.read(START_MS, START_MS + beat * 10_000 - 1000 + after_ms, nothing)
            assert (view.missing, view.live) == (True, live)


def test_a_last_word_ends_a_lease_and_none_is_missing_after_it() -> None:
    """The instance signs that it has ended; nobody else can say so for it."""
    world = World()
    assert world.live(lease(beat=5))
    (view,) = world.reader.read(START_MS, START_MS, {FIELD: changed(lease(beat=6), ended=True)})
    assert (view.live, view.released, view.missing) == (True, False, True)
    for values in ({FIELD: lease(beat=6, ended=True)}, {}):
        (view,) = world.reader.read(START_MS, START_MS, values)
        assert (view.live, view.released, view.missing) == (False, True, False)


def test_no_more_missing_leases_are_remembered_than_there_can_be() -> None:
    """Those that went last are; somebody who has a cell's secret can sign as many as it likes."""
    world = World()
    records = [msgspec.structs.replace(HONEST, generation=n) for n in range(1, MAX_MISSING + 3)]
    world.reader.read(START_MS, START_MS, {field_of("live", "cell-0001", r.generation): lease(r) for r in records})
    found = world.reader.read(START_MS, START_MS, {})
    assert [view.generation for view in found] == [r.generation for r in records[2:]]


@pytest.mark.parametrize(
    "place", ["cell-0001/3", "cell-0001/3/", field_of("live", "cell-0001", 3, OTHER_SECRET), f"{FIELD}0", f"x{FIELD}"]
)
def test_a_lease_is_believed_only_in_the_field_that_its_secret_names(place: str) -> None:
    """Wherever else somebody puts a copy; and no log gets the name of a field, by which a lease can be written over."""
    world = World()
    assert world.reader.read(START_MS, START_MS, {place: lease()}) == ()
    assert [(refused.instance, refused.reason) for refused in world.told] == [(place.rpartition("/")[0], "unsigned")]


def test_while_a_secret_is_replaced_each_instance_has_one_lease() -> None:
    """In the field that its own secret names; started anew with the newer secret, its old lease says nothing more."""
    world = World()
    world.reader = LeaseReader(
        "live", ring("live", OTHER_SECRET, SECRET), [ip_network("10.0.0.0/8")], world.told.append
    )
    old, newer = {FIELD: lease()}, field_of("live", "cell-0001", 3, OTHER_SECRET)
    again = lease(msgspec.structs.replace(HONEST, instance_id="two"), ends=9000, secret=OTHER_SECRET)
    for now_ms, values, who in (
        *((1000, old, "one"), (3000, old | {newer: again}, "two"), (3500, {newer: again} | old, "two")),
        (3600, {newer: again}, "two"),
    ):
        (view,) = world.reader.read(START_MS + now_ms, START_MS + now_ms, values)
        assert (view.instance_id, view.live, view.missing) == (who, True, False)
    assert world.told == []


def test_the_fields_of_a_cells_instances_are_known_by_its_record() -> None:
    """By each secret that is valid, so that a flood of other fields hides none."""
    world = World()
    record = CellRecord("cell-0001", 3, launching=5, launched=5)
    assert {FIELD, field_of("live", "cell-0001", 5)} == set(world.reader.fields_of([record]))
    both = LeaseReader("live", ring("live", OTHER_SECRET, SECRET), [], world.told.append)
    assert {FIELD, field_of("live", "cell-0001", 3, OTHER_SECRET)} <= set(both.fields_of([record]))


def test_a_flood_of_false_leases_floods_no_log() -> None:
    """However often all of them are written anew."""
    world = World()
    for look in range(3):
        world.reader.read(START_MS, START_MS, {f"cell-0001/{n}/x": b"%d" % look for n in range(10 * MAX_TOLD)})
    assert len(world.told) == 3 * MAX_TOLD


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


def test_an_instance_says_how_it_is_and_one_of_before_says_nothing() -> None:
    """What it measured of itself comes with its lease, proven as all of it."""
    world = World()
    (view,) = world.reader.read(START_MS, START_MS, {FIELD: lease(vitals=BUSY)})
    assert view.vitals == Vitals(0.5, 0.98, 0.04, None, 0.01, 0.0, 0.002, 0.03)
    (view,) = world.reader.read(START_MS, START_MS, {FIELD: lease(beat=2)})
    assert view.vitals is None
    assert world.told == []


def test_the_lease_of_an_instance_that_does_not_measure_itself_yet_is_proven_as_ever() -> None:
    """Workers and routers are not all replaced at once."""
    made = protocol.Lease(START_MS, ready=True, record="r", fenced=2, beat=3, note="n")
    key = lease_key(HONEST)
    assert protocol.beat_proof(made, key) == key.proof(b"r/3/True/2/False/n")
