"""What the commands about one cell print, how they change the policy, and how `explain` explains a cell."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from math import log
from typing import Any

import pytest
import typer

from router.cli.cells import progress
from router.cli.registry import record_of
from router.core.detection import thresholds
from router.core.detection.announcements import Announced, Occasion
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.baseline import Baseline
from router.core.detection.minutes.observation import Observation, Pattern
from router.core.detection.window import Glance, TenantLoad
from router.core.edits.orders import readmitted
from router.core.edits.undoing import what_stays
from router.core.fleet.explained import by_hand, doubts, evidence, explanation, ladder, summary, verdict
from router.core.models import NO_TREATMENT, CellRecord, LeaseView, RouterReport, RouterView, Rung, Treatment, Vitals
from router.core.policy import NO_POLICY
from router.core.registry import AuditEntry, Condition, Snapshot
from router.core.scaling.wanted import Scaling

CELL = "cell-0001"
RECORD = CellRecord(CELL, generation=3, launched=3, admitted_at_ms=1_000_000)
USELESS = replace(RECORD, treatment=Treatment(Rung.GUARDED, 1_090_000, 3, "failing", "one at a time", ejected=True))
VITALS = Vitals(0.5, 0.98, 0.04, None, 0.01, 0.0, 0.002, 0.03)
SLOW = Assessment(
    CELL,
    Verdict.SLOW,
    rule="its canary takes 400 ms",
    lasted_s=14,
    shift=log(3),
    standard_error=0.05,
    deviation=log(3.1),
    tenants=12,
    peers_deviation=log(3.1 / 3),
    peers=1,
    latency_s=0.3,
    canary_s=0.4,
    load=TenantLoad("acme\x1b[31m", 0.25, 0.03, 0.23),
)


def lease(generation: int) -> LeaseView:
    """Return the lease of an instance that is live and ready."""
    return LeaseView(CELL, generation, "i", "a:1", 8, ready=True, live=True)


def snapshot(record: CellRecord = RECORD, *alive: int, leader: str = "c") -> Snapshot:
    """Return a registry with one cell, and leases of the generations that are alive."""
    leases = tuple(lease(generation) for generation in alive)
    return Snapshot(1_100_000, None, {record.cell_id: record}, leases, leader)


def test_readmit_freezes_only_what_automation_had_ejected() -> None:
    """Frozen, a cell isn't ejected by automation again; a cell that a person had ejected is left to automation."""
    ejected = NO_POLICY.with_ejected(CELL, ejected=True)
    assert readmitted(ejected, RECORD) == NO_POLICY
    assert readmitted(ejected, USELESS) == readmitted(NO_POLICY, USELESS) == NO_POLICY.with_frozen(CELL, frozen=True)
    assert not readmitted(ejected, USELESS).ejects(USELESS)
    frozen = NO_POLICY.with_frozen(CELL, frozen=True)
    assert readmitted(frozen, USELESS) == frozen
    assert readmitted(NO_POLICY, RECORD) == NO_POLICY


def test_an_order_is_followed_in_words() -> None:
    """The text says what became of the old instance, and how far the new one is."""
    launching = replace(RECORD, launching=4)
    assert progress(launching, 3, snapshot(launching, 3)) == "generation 3 serves; generation 4 is launched"
    assert progress(launching, 3, snapshot(launching, 4)) == (
        "generation 3 is gone, its events wait; generation 4 is ready, and tried by a canary"
    )
    failing = replace(RECORD, launch_failures=2)
    assert progress(failing, 3, snapshot(failing, 3)) == "generation 3 serves; 2 launches in a row have failed"


def test_undo_says_what_of_an_order_stays() -> None:
    """An instance that is gone stays gone, a launched one takes over, and of an order not begun nothing stays."""
    order = NO_POLICY.with_order(CELL, 3, evict=True)

    def lines(record: CellRecord) -> list[str]:
        return list(what_stays(order, NO_POLICY, {CELL: record}))

    assert lines(replace(RECORD, generation=4)) == ["cell-0001: generation 3 is gone already, and generation 4 stays"]
    assert lines(replace(RECORD, launching=4)) == [
        "cell-0001: generation 4 is launched already, and takes over when it is ready"
    ]
    assert lines(RECORD) == list(what_stays(order, order, {CELL: replace(RECORD, generation=4)})) == []


def test_a_cell_that_there_is_not_is_answered_with_those_there_are() -> None:
    """The error doesn't list a retired cell, and of many cells it lists only some."""
    cells = {f"cell-{i:04d}": CellRecord(f"cell-{i:04d}", retired=i == 99) for i in range(100)}
    with pytest.raises(typer.BadParameter, match=r"no cell cell-0099; there are: cell-0000, .*cell-0009, …, cell-0098"):
        record_of("cell-0099", replace(snapshot(), cells=cells))
    with pytest.raises(typer.BadParameter, match="there are: none"):
        record_of(CELL, replace(snapshot(), cells={}))
    assert record_of(CELL, snapshot()) is RECORD


def test_what_people_decided_about_a_cell_is_said_until_it_is_done() -> None:
    """An order that is carried out is not listed any more."""
    policy = NO_POLICY.with_frozen(CELL, frozen=True).with_ejected(CELL, ejected=True)
    policy = policy.with_order(CELL, 3, evict=False)
    assert by_hand(replace(snapshot(), policy=policy), CELL) == "frozen, ejected, replace generation 3"
    later = snapshot(replace(RECORD, generation=4))
    assert by_hand(replace(later, policy=policy), CELL) == "frozen, ejected"
    assert by_hand(snapshot(), CELL) == ""


def test_a_cell_is_explained_with_all_that_its_verdict_stands_on() -> None:
    """The rule, the guard, the rung, every threshold, the peers, and what was done with this cell only."""
    treatment = Treatment(Rung.REPLACING, 1_096_000, 3, "slow", "its canary takes 400 ms")
    record = replace(RECORD, treatment=treatment, launching=4)
    conditions = {
        CELL: Condition(
            1_099_000,
            3,
            SLOW,
            "one at a time: cell-0000 first",
            "generation 4: 300 ms, its twin 9 ms",
            "its canary takes 400 ms",
        ),
        "cell-0000": Condition(1_099_000, 1, Assessment("cell-0000", deviation=0.1, canary_s=0.01)),
    }
    audit = [AuditEntry(i, "c", f"action {i}", CELL if i % 2 else "cell-0000", "why") for i in range(40)]
    found = explanation(CELL, snapshot(record, 3), conditions, audit)
    assert found.doubts == ()
    assert dict(summary(found)) == {
        "cell": "cell-0001, serving",
        "instance": "generation 3, admitted 1970-01-01 00:16:40Z (100 s ago); generation 4 is being launched",
        "image": "the one that the controllers launch by themselves",
        "the instance says": "nothing",
        "verdict": "slow, for 14 s: its canary takes 400 ms",
        "cushion": "it gets no more at once than usual, and more is held: it looks slow, its canary takes 400 ms",
        "on the ladder": "replacing, since 1970-01-01 00:18:16Z (4 s ago): its canary takes 400 ms",
        "beside its twin": "generation 4: 300 ms, its twin 9 ms",
        "kept from treatment by": "one at a time: cell-0000 first",
        "by hand": "nothing",
    }
    assert [(peer.cell_id, peer.deviation, peer.canary_s, peer.verdict) for peer in found.peers] == [
        ("cell-0000", 0.1, 0.01, "healthy")
    ]
    assert found.thresholds["MAX_RATIO"] == thresholds.MAX_RATIO
    assert set(found.thresholds) == {name for name in dir(thresholds) if name.isupper()}
    assert [entry.action for entry in found.audit] == [f"action {i}" for i in range(25, 40, 2)]
    assert json.loads(json.dumps(asdict(found)))["assessment"]["verdict"] == "slow"


def test_slow_paths_and_observations_are_shown_beside_the_verdict() -> None:
    """The cell is healthy, and yet something is wrong that a person can mend."""
    paths = ("router-1 → cell-0001: dead", "router-2 → cell-0001: dead")
    seen = Observation(Pattern.STALLS, "it stalls")
    conditions = {CELL: Condition(1_099_000, 3, Assessment(CELL, slow_paths=paths, observations=(seen,)))}
    rows = summary(explanation(CELL, snapshot(), conditions, []))
    assert [text for name, text in rows if name == "slow path"] == [*paths]
    assert [text for name, text in rows if name == "observed"] == ["it stalls"]


def test_what_an_instance_says_of_itself_is_shown() -> None:
    """Such as the code of its handler that blocks its event loop. Only the admitted instance counts."""
    note = "handler blocks the loop: 4 s in `orders.handle`, 12 s ago"
    noted = replace(snapshot(), leases=(replace(lease(3), note=note), replace(lease(2), note="old")))
    found = explanation(CELL, noted, {}, [])
    assert dict(summary(found))["the instance says"] == note
    assert json.loads(json.dumps(asdict(found)))["note"] == note


def test_a_frozen_cell_of_which_nothing_is_known_is_left_to_a_person() -> None:
    """Its instance has died, so the leader has no condition of it; the freeze still shows."""
    frozen = replace(snapshot(), policy=NO_POLICY.with_frozen(CELL, frozen=True))
    assert dict(summary(explanation(CELL, frozen, {}, [])))["kept from treatment by"] == "a person"


def test_the_evidence_is_shown_with_the_ratios_that_it_means() -> None:
    """Logarithms have their ratio beside them, tenants' names are escaped, and an unknown value is a dash."""
    shown = dict(evidence(SLOW))
    assert shown["D: shift from the others' S"] == "+1.10 ± 0.05, 3.00 times"
    assert shown["S: deviation of its tenants"] == "+1.13, 3.10 times, of 12 tenants"
    assert shown["latency, mean"] == "300.0 ms, 200.0 ms more than usual"
    assert shown["heaviest tenant"] == (
        "'acme\\x1b[31m', 25% of the cell's time, normally 3%, 23% of what the others had"
    )
    grown = dict(evidence(replace(SLOW, rate_ratio=1.5, work_ratio=1.125, load=TenantLoad(new_share=0.3))))
    assert [grown[name] for name in ("new tenants", "events", "work")] == [
        "30% of the cell's time",
        "1.50 times the baseline",
        "1.12 times the baseline, at least",
    ]
    nothing = dict(evidence(Assessment(CELL)))
    assert nothing["D: shift from the others' S"] == "too few tenants to say"
    assert nothing["its instance says of itself"] == "nothing"
    assert nothing["latency, mean"] == "no event was answered well of late"
    assert dict(evidence(replace(SLOW, shift=0.0)))["latency, mean"] == "300.0 ms, no more than usual"
    assert nothing["canary"] == nothing["heaviest tenant"] == "-"


def test_what_an_instance_says_of_itself_is_shown_as_its_own_word() -> None:
    """Also what it can't measure where it runs."""
    shown = dict(evidence(replace(SLOW, vitals=VITALS)))
    assert shown["its instance says it is"] == "busy"
    assert shown["its CPU"] == "98% of its 0.5 CPU"
    assert shown["waits for a core"] == "4.0% of the time"
    assert shown["throttled by its CPU quota"] == "not known"
    assert shown["writes to its store"] == "2.0 ms, 30.0 ms at most"


def test_every_figure_of_the_evidence_is_shown() -> None:
    """Whichever figure of an assessment changes, what is shown changes too, and with it what a rule may have used."""
    other: dict[str, Any] = {
        "shift": 0.5, "standard_error": 0.2, "spread": 0.9, "deviation": 0.3, "tenants": 7, "peers_deviation": 0.4,
        "peers": 2, "latency_s": 0.7, "recent_deviation": 0.8, "was_over_limit": True, "canary_s": 0.3,
        "recent_canary_s": 0.2, "usual_canary_s": 0.1, "canary_ratio": 3.3, "canary_points": 5,
        "canary_waiting_s": 3.0, "canary_failures": 4, "answers_canaries": True, "routers": 3,
        "failures": 5, "answered": 8, "answered_badly": 2,
        "since_success_s": 6.0, "oldest_s": 7.0, "silent_s": 8.0, "slowest_s": 9.0, "waiting_tenants": 10,
        "baseline": Baseline(canary_s=0.06), "load": TenantLoad(new_share=0.4), "rate_ratio": 1.7, "work_ratio": 1.3,
        "rehearses": True, "vitals": VITALS, "announced": (Announced(Occasion.RELEASED, 20.0),),
        "looks_slow": "for a second", "glance": Glance(0.7, 12, 6.0, 0.1, 3, 2),
    }  # fmt: skip
    together: dict[str, dict[str, Any]] = {
        "recent_standard_error": {"recent_deviation": 0.8},
        "failing_tenants": {"failures": 5},
        "slow_points": {"canary_points": 4},
        "slow_routers": {"routers": 4},
        "slower_tenants": {"rehearses": True},
    }
    said = {"cell_id", "verdict", "rule", "lasted_s", "slow_paths", "observations"}
    assert said | other.keys() | together.keys() == {figure.name for figure in fields(Assessment)}
    for figure in fields(Vitals):
        changed = replace(VITALS, **{figure.name: 0.25})
        assert evidence(replace(SLOW, vitals=changed)) != evidence(replace(SLOW, vitals=VITALS)), figure.name
    for name, value in other.items():
        assert evidence(replace(SLOW, **{name: value})) != evidence(SLOW), name
    for name, shown_with in together.items():
        before = replace(SLOW, **shown_with)
        after: dict[str, Any] = {name: 3}
        assert evidence(replace(before, **after)) != evidence(before), name


def test_a_verdict_and_a_rung_are_told_in_words() -> None:
    """So are the verdict and the rung by which nothing is done."""
    assert verdict(Assessment(CELL)) == "healthy: no rule says that anything is wrong"
    assert verdict(replace(SLOW, verdict=Verdict.WATCHED)).endswith("400 ms, and nothing is done about that")
    assert ladder(NO_TREATMENT, 1) == "not on it: nothing is done"
    assert (
        ladder(USELESS.treatment, 1_100_000)
        == "guarded, since 1970-01-01 00:18:10Z (10 s ago): one at a time; its events wait"
    )


def test_what_is_old_or_of_another_instance_is_said_to_be() -> None:
    """`explain` also says that nobody leads, or that nothing is known of the cell."""
    now = Condition(1_099_000, 3, SLOW)
    assert list(doubts(snapshot(), now, 3)) == []
    old = list(doubts(snapshot(leader=""), replace(now, at_ms=1_000_000), 4))
    assert [line.split(":")[0] for line in old] == [
        "No controller leads",
        "What follows was said 100 s ago, and may not be so any more.",
        "What follows is of generation 3, and the traffic has generation 4.",
    ]
    assert "Nothing is known" in next(doubts(snapshot(), None, 3))


def test_what_a_cell_gets_at_most_is_told_where_the_policy_says_it() -> None:
    """Each router's part too, where there are several."""
    limited = replace(NO_POLICY, scaling=Scaling(1, 9, cell_rate=400.0))
    routers = tuple(RouterView(RouterReport(name, 1, quiet=True), live=True) for name in "abc")

    def said(found: Snapshot) -> str | None:
        return dict(summary(explanation(CELL, found, {}, []))).get("gets at most")

    assert said(snapshot()) is None
    bears = "400 events a second: what it bears; more is held"
    assert said(replace(snapshot(), policy=limited)) == bears
    assert said(replace(snapshot(), policy=limited, routers=routers)) == bears.replace(
        ":", ", 133 from each of 3 routers:"
    )
