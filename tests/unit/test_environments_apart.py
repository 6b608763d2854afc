"""Attacks of one environment on another: what is known, signed or named in one opens nothing in the other."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import product
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cell_worker.contract import protocol
from cell_worker.settings import WorkerSettings
from router.adapters.provisioners.claims import why_not_claimed
from router.adapters.redis.lease_reader import LeaseReader
from router.bootstrap.belongings import belongings
from router.core.intake.plan import FoundIntake, FoundQueue, WantedIntake, plan_intake
from router.core.messages.proofs import believed, signed
from router.core.models import Draft, Message
from router.core.telemetry import LeaseRefusal, LeaseRefused
from router.settings import Settings, check, load
from tests.support.keys import SECRET, cell_keys, field_of, lease_key, ring

CELL = "cell-0001"
NOW_MS = 1_700_000_000_000
names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,13}", fullmatch=True) | st.sampled_from(
    ("live", "stress", "events", "cell-0000", "a-cell-0000", "a", "platform", "a-platform", "dead", "live-cell-0000")
)


def settings(environment: str, **variables: str) -> Settings:
    """The settings of an environment that names nothing itself: each has the same secret, which is the worst case."""
    return load({"CELLROUTER_ENVIRONMENT": environment, "CELLROUTER_SECRET": SECRET, **variables})


@given(one=names, other=names)
def test_no_two_environments_own_anything_of_the_same_name(one: str, other: str) -> None:
    """Neither in an AWS account, nor in a Redis, nor at a Docker engine, nor on a disk; also with hostile names."""
    mine, theirs = belongings(settings(one)), belongings(settings(other))
    shared = {kind: set(mine[kind]) & set(theirs[kind]) for kind in mine}
    assert one == other or not any(shared.values()), shared
    assert not any(part in ("", "*") for kind in mine.values() for part in kind)


def test_a_cells_secret_opens_nothing_in_another_environment() -> None:
    """Even if both were given the same secret, each key is another: of leases, calls, answers and messages."""
    live, stress = cell_keys("live", CELL), cell_keys("stress", CELL)
    for name, said in product(("lease", "call", "answer"), (b"", b"said")):
        assert not getattr(live, name).proves(getattr(stress, name).proof(said), said)
        assert getattr(live, name).proves(getattr(live, name).proof(said), said)
    assert not ring("live").attributes[0].proves(ring("stress").attributes[0].proof(b""), b"")
    assert not set(ring("live").ids) & set(ring("stress").ids)


def test_a_worker_refuses_the_secret_of_the_same_cell_elsewhere() -> None:
    """The secret says whose it is, and it is checked."""
    given = {"id": CELL, "handler": "a:b", "environment": "stress"}
    WorkerSettings(**given, secret=ring("stress").cell_secret(CELL))  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="must be this cell's own secret"):
        WorkerSettings(**given, secret=ring("live").cell_secret(CELL))  # type: ignore[arg-type]


@pytest.mark.parametrize("signer", ["live", "stress"])
def test_a_lease_of_another_environment_is_not_believed(signer: str) -> None:
    """Written where that of `live` would lie, signed with its own key, or with the cell's key of `live`."""
    told: list[LeaseRefused] = []
    reader = LeaseReader("live", ring("live"), [ip_network("10.0.0.0/8")], told.append)
    record = protocol.InstanceRecord("stress", CELL, 3, "one", "10.0.0.7:80", 16, 0)
    key = lease_key(msgspec.structs.replace(record, environment=signer))
    lease = protocol.Lease(NOW_MS + 2000, ready=True, record=protocol.sign_record(record, key), beat=1)
    lease = msgspec.structs.replace(lease, proof=protocol.beat_proof(lease, key))
    assert reader.read(NOW_MS, NOW_MS, {field_of("live", CELL, 3): msgspec.json.encode(lease)}) == ()
    expected = LeaseRefusal.FOREIGN if signer == "live" else LeaseRefusal.UNSIGNED
    assert [refused.reason for refused in told] == [expected]


def test_what_a_held_message_of_another_environment_says_in_our_name_is_not_believed() -> None:
    """Moved from a hold queue into another environment's, it is an event that was never tried."""
    attributes = {"cellrouter.attempt": "4", "cellrouter.killed": "7", "event_id": "e", "partition_key": "acme"}
    draft = signed(Draft("{}", attributes), ring("stress"))
    moved = Message("m", "r", draft.body, 1, 0, draft.attributes)
    assert believed(moved, ring("stress")) == moved
    assert believed(moved, ring("live")).attributes == {
        "cellrouter.attempt": "1",
        "event_id": "e",
        "partition_key": "acme",
    }


def test_init_does_nothing_when_a_queue_is_another_environments() -> None:
    """Who reads a queue of `live` takes its events away; each such queue is named."""
    tags = {"cellrouter": "cellrouter-stress"}
    wanted = WantedIntake("dead", "quarantine", "events", "cellrouter-stress-source", tags, "aws", "eu-west-1", "1")
    theirs = FoundQueue(wanted.queue_arn("events"), owner="cellrouter-live")
    plan = plan_intake(wanted, FoundIntake({"events": theirs}, None))
    assert plan.steps == ()
    assert [why.partition(":")[0] for why in plan.refusals] == ["queue events"]
    for owner in ("", "cellrouter-stress"):
        own = FoundQueue(wanted.queue_arn("events"), owner=owner)
        plan = plan_intake(wanted, FoundIntake({"events": own}, None))
        assert plan.steps
        assert plan.refusals == ()


def test_side_effects_outside_of_live_are_a_fault_of_the_configuration() -> None:
    """For routers and controllers, and for a worker that somebody else has started."""
    wanted = {"CELLROUTER_SECRET": SECRET, "CELLROUTER_CELLS_SIDE_EFFECTS": "true"}
    assert check(wanted)[1] == []
    [fault] = check(wanted | {"CELLROUTER_ENVIRONMENT": "replay"})[1]
    assert fault.startswith(
        "CELLROUTER_CELLS_SIDE_EFFECTS: cells.side_effects: must be false in the environment replay"
    )
    given = {"id": CELL, "handler": "a:b", "side_effects": True}
    assert WorkerSettings(**given, secret=ring("live").cell_secret(CELL)).side_effects  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="must be false in the environment replay"):
        WorkerSettings(**given, environment="replay", secret=ring("replay").cell_secret(CELL))  # type: ignore[arg-type]


def test_a_folder_of_cells_is_the_environments_that_used_it_first(tmp_path: Path) -> None:
    """Another controller would take its processes for its own, and end them."""
    folder = tmp_path / "data"
    assert why_not_claimed(folder, "live") is None
    assert why_not_claimed(folder, "live") is None
    assert "is of the environment live" in (why_not_claimed(folder, "stress") or "")
    (folder / "environment").write_bytes(b"\xff" * 1000)
    assert why_not_claimed(folder, "live") is not None
    assert [path.name for path in folder.iterdir()] == ["environment"]
