"""The Admin API: what it answers, whom it refuses, what it says while Redis is away, and how it describes itself."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from cell_worker.contract.http_guard import MAX_BODY_BYTES
from cell_worker.contract.open_pages import ANSWER_S, SHARE
from router.api.admin.bodies import EXAMPLES, ChangeBody, LettersBody, PlanBody, UndoBody
from router.api.admin.problems import PROBLEM_JSON
from router.bootstrap.admin import read_body
from router.core.callers import ApiCaller, Role
from router.core.errors import PolicyRefusedError
from router.core.messages.dead_letter import of_event, to_drafts
from router.core.models import Event, Message
from tests.support.admin_rig import ELSEWHERE, LOOPBACK, OPERATOR, TOKENS, VIEWER, AdminRig
from tests.support.fake_clock import FakeClock, play

DRAIN = {"change": {"edit": "drain", "cell": "cell-0001"}, "why": "its disk is old"}


@pytest.fixture
def api() -> AdminRig:
    """The Admin API with the tokens of two people, on two cells."""
    return AdminRig()


def test_a_change_is_made_by_the_leader_and_audited_with_who_and_why(api: AdminRig) -> None:
    """A plan says before what it would move, in the words of the command line; an undo takes it back."""
    plan = api("POST", "/v1/plans", DRAIN, token=VIEWER)
    assert plan.body["text"].startswith("cell-0001: draining: would move 8192 of 16384 slots (50.0% of the keys) in")
    assert (plan.body["slots"], plan.body["refused"], plan.body["changes"]) == (8192, [], True)
    assert plan.body["cells"][1] == {"cell": "cell-0001", "slots_now": 8192, "slots_then": 0}
    assert api.contents.versions == []
    done = api("POST", "/v1/changes", DRAIN)
    assert (done.status, done.body) == (200, {"text": "cell-0001: draining", "changed": True, "version": 1})
    (entry,) = api.contents.audit
    assert (entry.who, entry.action, entry.cell_id) == ("otto", "drain", "cell-0001")
    assert entry.why == "cell-0001: draining. its disk is old"
    assert api.contents.policy.draining == {"cell-0001"}
    assert api("POST", "/v1/changes", DRAIN).body["changed"] is False
    assert "in force already" in api("POST", "/v1/plans", DRAIN).body["text"]
    undone = api("POST", "/v1/undo", {"why": "a mistake"})
    assert "drain cell-0001: draining. its disk is old (version 1, by otto" in undone.body["taken_back"][0]
    assert api.contents.policy.draining == set()
    assert api("POST", "/v1/undo", {"why": "again"}).kind == "unchanged"
    assert [entry.who for entry in api.contents.audit] == ["otto", "otto"]


def test_what_was_agreed_to_is_done_and_nothing_else(api: AdminRig) -> None:
    """A change is held to the plan that was shown, on the very policy that it changes; an undo to the version."""
    order = {"change": {"edit": "replace", "cell": "cell-0001"}, "why": "a new machine"}
    agreed = api("POST", "/v1/plans", order).body["text"]
    has = api.contents
    has.cells["cell-0001"] = replace(has.cells["cell-0001"], generation=2)
    said = api("POST", "/v1/changes", {**order, "agreed": agreed})
    assert (said.status, said.kind) == (409, "plan-changed")
    assert "another instance; generation 2 serves until then: would move nothing" in said.body["detail"]
    assert has.versions == []
    agreed = api("POST", "/v1/plans", DRAIN).body["text"]
    snapshot = api.registry.snapshot

    async def before_another_change() -> Any:
        found = await snapshot()
        has.policy = replace(has.policy, weights={"cell-0001": 0.5})
        return found

    api.registry.snapshot = before_another_change  # type: ignore[method-assign]
    assert api("POST", "/v1/changes", {**DRAIN, "agreed": agreed}).kind == "plan-changed"
    api.registry.snapshot = snapshot  # type: ignore[method-assign]
    assert has.versions == []
    agreed = api("POST", "/v1/plans", DRAIN).body["text"]
    assert api("POST", "/v1/changes", {**DRAIN, "agreed": agreed}).body["version"] == 1
    shown = api("GET", "/v1/undo", token=VIEWER).body
    assert (shown["version"], shown["kept"], shown["plan"]["slots"] > 0) == (1, [], True)
    assert shown["plan"]["text"].startswith("take back drain cell-0001: draining. its disk is old (version 1, by otto")
    api("POST", "/v1/changes", order)
    said = api("POST", "/v1/undo", {"why": "w", "agreed": 1})
    assert (said.kind, "takes back now replace cell-0001" in said.body["detail"]) == ("plan-changed", True)
    assert len(has.versions) == 2
    shown = api("GET", "/v1/undo").body
    assert len(api("POST", "/v1/undo", {"why": "w", "agreed": shown["version"]}).body["taken_back"]) == 1
    api("POST", "/v1/undo", {"why": "w"})
    assert api("GET", "/v1/undo").kind == "unchanged"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_can_be_read_planned_and_made(api: AdminRig, name: str) -> None:
    """The examples of the description are no prose: each is done, or refused for what there is."""
    body = json.loads(json.dumps(EXAMPLES[name]).replace("cell-0003", "cell-0001"))
    for path in ("/v1/plans", "/v1/changes"):
        said = api("POST", path, body)
        assert said.status == 200 or said.kind == "unchanged", said
    made = api.contents.versions
    assert (len(made) == 1) == (said.status == 200 and said.body["changed"])
    assert all(version.audit.who == "otto" and body["why"] in version.audit.why for version in made)


@pytest.mark.parametrize(
    ("more", "status", "kind"),
    [
        ({"token": None}, 401, "unauthorized"),
        ({"token": "wrong"}, 401, "unauthorized"),
        ({"token": OPERATOR[:-1]}, 401, "unauthorized"),
        ({"token": "é" * 40}, 401, "unauthorized"),
        ({"token": "x" * 9000}, 401, "unauthorized"),
        ({"authorization": f"Basic {OPERATOR}"}, 401, "unauthorized"),
        ({"authorization": ""}, 401, "unauthorized"),
        ({"token": VIEWER}, 403, "forbidden"),
        ({"origin": "http://evil.example"}, 403, "forbidden"),
        ({"origin": "null"}, 403, "forbidden"),
        ({"origin": "http://127.0.0.1:9999"}, 403, "forbidden"),
        ({"origin": "http://[::1"}, 403, "forbidden"),
        ({"sec_fetch_site": "cross-site"}, 403, "forbidden"),
        ({"sec_fetch_site": "same-site"}, 403, "forbidden"),
        ({"content_type": "text/plain"}, 415, "not-json"),
        ({"content_type": "application/x-www-form-urlencoded"}, 415, "not-json"),
        ({"content_type": "application/json; charset=utf-16"}, 415, "not-json"),
        ({"content_encoding": "gzip"}, 415, "not-json"),
        ({"raw": b" " * (MAX_BODY_BYTES + 1)}, 413, "too-large"),
        ({"raw": b'{"change":' * 6000}, 400, "bad-request"),
        ({"raw": b"[" * 60_000}, 400, "bad-request"),
        ({"raw": b"\xff"}, 400, "bad-request"),
        ({"raw": b""}, 400, "bad-request"),
        ({"body": {**DRAIN, "who": "root"}}, 400, "bad-request"),
        ({"body": {**DRAIN, "why": " "}}, 400, "bad-request"),
        ({"body": {**DRAIN, "why": "w" * 1001}}, 400, "bad-request"),
        ({"body": {"change": {"edit": "obey"}, "why": "w"}}, 400, "bad-request"),
        ({"body": {"change": {"edit": "limit", "rate": 1.0}, "why": "w"}}, 400, "bad-request"),
        ({"body": {"change": {"edit": "limit", "key": "k", "rate": 1e-9}, "why": "w"}}, 422, "bad-values"),
        ({"body": {"change": {"edit": "deploy", "image": "i", "waves": "0,x"}, "why": "w"}}, 422, "bad-values"),
        ({"body": {"change": {"edit": "drain", "cell": "cell-0009"}, "why": "w"}}, 404, "no-such-cell"),
        ({"body": {"change": {"edit": "unpin", "key": "k"}, "why": "w"}}, 409, "unchanged"),
        ({"body": {"change": {"edit": "stop-deploy"}, "why": "w"}}, 409, "unchanged"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_may_not_be_done_is_a_problem_and_changes_nothing(
    api: AdminRig, more: dict[str, Any], status: int, kind: str
) -> None:
    """Each says what to do, and none of them shows a token."""
    said = api("POST", "/v1/changes", **{"body": DRAIN, **more})
    assert (said.status, said.kind, said.body["status"]) == (status, kind, status)
    assert said.headers["content-type"] == PROBLEM_JSON
    assert said.body["title"]
    assert said.body["detail"]
    assert OPERATOR not in json.dumps(said.body)
    assert (status == 401) == ("www-authenticate" in said.headers)
    assert api.contents.versions == api.told == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/v1/fleet?access_token={OPERATOR}", 400),
        (f"/v1/fleet?TOKEN={OPERATOR}", 400),
        ("/v1/fleet?x=1", 422),
        ("/v1/where", 422),
        ("/v1/where?key=", 422),
        ("/v1/where?key=a&key=b", 422),
        ("/v1/where?key=%ff", 422),
        ("/v1/audit?limit=0", 422),
        ("/v1/audit?limit=1e3", 422),
        ("/v1/audit?limit=99999999999999999999", 422),
        ("/v1/blast-radius?by=moon", 422),
        ("/v1/cells/cell-0009", 404),
        ("/v1/nothing", 404),
        ("/v1", 404),
        ("/v1/changes", 405),
    ],
)
def test_an_address_is_read_strictly(api: AdminRig, path: str, status: int) -> None:
    """And a token in it is refused even beside a good one: it would be in the log of every proxy."""
    said = api("GET", path)
    assert (said.status, said.headers["content-type"]) == (status, PROBLEM_JSON)
    assert (status == 405) == (said.headers.get("allow") == "POST")


def test_without_tokens_only_this_machine_under_its_own_name_may_ask() -> None:
    """A proxy on this machine speaks for somebody elsewhere, and a name that leads here may be anybody's."""
    api = AdminRig(tokens="")
    assert api("GET", "/v1/me", token=None).body == {"who": "somebody on this machine", "role": "operate"}
    assert api("GET", "/v1/me", token=None, host="localhost", client=("::1", 1)).status == 200
    for more in (
        {"client": ELSEWHERE},
        {"client": ("", 0)},
        {"x_forwarded_for": "10.0.0.1"},
        {"forwarded": "for=10.0.0.1"},
        {"via": "1.1 proxy"},
        {"host": "10.0.0.9:8080"},
        {"host": "router"},
    ):
        assert api("POST", "/v1/changes", DRAIN, **{"token": None, "client": LOOPBACK, **more}).status == 403, more
    assert api("POST", "/v1/changes", DRAIN, token=None, host="evil.example").status == 421
    assert api("POST", "/v1/changes", DRAIN, token=OPERATOR).status == 401
    assert api.contents.versions == []
    made = api("POST", "/v1/changes", DRAIN, token=None, origin="http://127.0.0.1:8080", sec_fetch_site="same-origin")
    assert (made.status, api.contents.audit[0].who) == (200, "somebody on this machine")


def test_with_tokens_they_are_asked_for_on_this_machine_too_and_serve_elsewhere(api: AdminRig) -> None:
    """Who may look may look at everything; both know who they are."""
    for path in ("/fleet", "/cells", "/cells/cell-0001", "/where?key=k", "/audit", "/policy", "/policy/history"):
        assert api("GET", f"/v1{path}", token=VIEWER, client=ELSEWHERE).status == 200
        assert api("GET", f"/v1{path}", token=None).status == 401
    assert api("GET", "/v1/me", token=VIEWER, client=ELSEWHERE).body == {"who": "vera", "role": "view"}
    assert ApiCaller("a", Role.VIEW).may(Role.OPERATE) is False


def test_while_redis_is_away_reads_are_as_last_known_with_their_age_and_writes_are_to_be_tried_again() -> None:
    """And no error is told of, which would be one a second."""
    clock = FakeClock()
    api = AdminRig(clock=clock)
    reads = ("/cells", "/cells/cell-0001", "/where?key=k", "/audit", "/policy", "/policy/history", "/releases")

    async def story() -> None:
        api.registry.down = True
        assert (await api.ask("GET", "/v1/policy")).status == 503, "it was never read"
        api.registry.down = False
        for path in (*reads, "/blast-radius", "/registry"):
            assert (await api.ask("GET", f"/v1{path}")).body["age_s"] == 0
        api.registry.down = True
        await clock.sleep(30)
        for path in (*reads, "/blast-radius", "/registry"):
            said = await api.ask("GET", f"/v1{path}")
            assert (said.status, said.body["age_s"]) == (200, 30)
        assert (await api.ask("GET", "/v1/fleet")).body["age_s"] >= 30

    play(clock, story())
    for path, body in (("/changes", DRAIN), ("/plans", DRAIN), ("/undo", {"why": "w"})):
        api.registry.change_policy = _refusing  # type: ignore[assignment,method-assign]
        said = api("POST", f"/v1{path}", body)
        assert (said.status, said.kind, said.headers["retry-after"]) == (503, "out-of-reach", "2")
    assert api.told == []


async def _refusing(*_: Any) -> bool:
    raise PolicyRefusedError("one reason\nanother reason")


def test_a_refusal_of_the_leader_names_every_reason(api: AdminRig) -> None:
    """It is a conflict with what there is, and nothing was changed."""
    api.registry.change_policy = _refusing  # type: ignore[assignment,method-assign]
    said = api("POST", "/v1/changes", DRAIN)
    assert (said.status, said.kind, said.body["reasons"]) == (409, "refused", ["one reason", "another reason"])


def test_an_error_that_nobody_foresaw_is_told_once_and_ends_one_request(api: AdminRig) -> None:
    """What routes goes on."""
    api.registry.history = None  # type: ignore[assignment,method-assign]
    assert {api("GET", "/v1/policy/history").status for _ in range(3)} == {500}
    assert [record.tell for record in api.told] == [True, False, False]
    assert api("GET", "/v1/policy").status == 200


def test_who_may_not_ask_takes_a_small_share_of_the_process() -> None:
    """They wait for their answer, so that a flood of wrong tokens costs what it costs the flood."""
    clock = FakeClock()
    api, count = AdminRig(clock=clock), 400

    async def story() -> None:
        began = clock.monotonic()
        found = await asyncio.gather(*(api.ask("GET", "/v1/me", token="wrong") for _ in range(count)))
        assert {said.status for said in found} == {401}
        assert clock.monotonic() - began >= (count - 220) * ANSWER_S / SHARE

    play(clock, story())


def test_the_audit_is_searched_and_paged(api: AdminRig) -> None:
    """The newest come last, and how many match is said."""
    for key in ("a", "b", "c"):
        api("POST", "/v1/changes", {"change": {"edit": "pin", "key": key, "cell": "cell-0000"}, "why": f"for {key}"})
    api("POST", "/v1/changes", DRAIN)

    def found(**values: Any) -> tuple[int, list[str]]:
        said = api("GET", "/v1/audit", values=values).body
        return said["found"], [entry["why"].split(". ")[1] for entry in said["entries"]]

    assert found() == (4, ["for a", "for b", "for c", "its disk is old"])
    assert found(limit=2, skip=1) == (4, ["for b", "for c"])
    assert found(find="OTTO disk") == (1, ["its disk is old"])
    assert found(cell="cell-0001") == (1, ["its disk is old"])
    assert found(find="nothing") == (0, [])


def test_the_description_holds_what_the_readers_read(api: AdminRig) -> None:
    """Each example can be read, each reference leads somewhere, each operation says its role and its problems."""
    said = api("GET", "/v1/openapi.json", token=VIEWER)
    assert (said.status, said.body["openapi"]) == (200, "3.1.0")
    bodies = {"/v1/changes": ChangeBody, "/v1/plans": PlanBody, "/v1/undo": UndoBody}
    bodies |= dict.fromkeys(("/v1/dead-letters/redrives", "/v1/dead-letters/drops"), LettersBody)
    for path, methods in said.body["paths"].items():
        for operation in methods.values():
            assert {"200", "400", "401", "403", "503"} <= operation["responses"].keys()
            if body := operation.get("requestBody"):
                for each in body["content"]["application/json"]["examples"].values():
                    assert read_body(bodies[path], json.dumps(each["value"]).encode())[1] is None
    text = json.dumps(said.body)
    schemas = said.body["components"]["schemas"]
    for part in text.split('"$ref": "')[1:]:
        assert part.split('"')[0].rpartition("/")[2] in schemas
    kinds = {name.partition("_")[0] for name in EXAMPLES if " " not in name}
    assert kinds == set(schemas["ChangeBody"]["properties"]["change"]["discriminator"]["mapping"])
    assert TOKENS not in text


def test_dead_letters_are_listed_shown_sent_back_and_deleted() -> None:
    """Who looks sees no body, and what is done is in the audit before; an undo passes over that."""
    clock = FakeClock()
    api = AdminRig(clock=clock)

    async def story() -> None:
        for number, key in enumerate(("acme", "acme", "other")):
            event = Event(f"event-{number}", key, b'{"total": 1}', 5)
            message = Message(f"m{number}", "r", '{"total": 1}', 1, 1, {"kind": "order"})
            letter = of_event(event, message, reason="rejected", error="\ud800 no", source="source", dead_at_ms=1)
            await api.dead.send(to_drafts(letter))
        found = (await api.ask("GET", "/v1/dead-letters?key=acme", token=VIEWER)).body
        assert [each["event_id"] for each in found["letters"]] == ["event-0", "event-1"]
        assert (found["others"], found["complete"], "total" in json.dumps(found)) == (1, True, False)
        assert (await api.ask("GET", "/v1/dead-letters/event-1", token=VIEWER)).status == 403
        whole = (await api.ask("GET", "/v1/dead-letters/event-1")).body
        assert (whole["body"], whole["attributes"]) == ('{"total": 1}', {"kind": "order"})
        assert (await api.ask("GET", "/v1/dead-letters/event-9")).status == 404
        path, body = "/v1/dead-letters/redrives", {"where": {"key": "acme"}, "why": "mended"}
        assert (await api.ask("POST", path, body, token=VIEWER)).status == 403
        assert (await api.ask("POST", path, {"where": {}, "why": "w"})).status == 422
        assert (await api.ask("POST", path, {**body, "all": True})).status == 422
        trial = (await api.ask("POST", path, {**body, "dry_run": True})).body
        assert (trial["done"], trial["told"]) == (2, [f"would: event-{number}: to source" for number in (0, 1)])
        assert api.contents.audit == []
        done = (await api.ask("POST", path, body)).body
        assert (done["done"], done["failed"], done["complete"], len(api.source.sent)) == (2, 0, True, 2)
        entry = api.contents.audit[-1]
        assert (entry.who, entry.action, entry.why.startswith("dead letters: key 'acme'")) == ("otto", "redrive", True)
        assert entry.why.endswith("mended")
        dropped = (await api.ask("POST", "/v1/dead-letters/drops", {"where": {}, "all": True, "why": "w"})).body
        assert (dropped["done"], (await api.dead.depth()).waiting) == (1, 0)
        assert (await api.ask("POST", "/v1/undo", {"why": "w"})).kind == "unchanged"
        api.registry.down = True
        assert (await api.ask("POST", path, body)).status == 503, "nothing is done that nobody could audit"

    play(clock, story())
