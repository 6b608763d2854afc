"""`docker compose up --build` and `docker compose run --rm demo`, as a user types them."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

import pytest

from router.demo.cloudtrail import generate
from router.demo.ledger import total
from tests.support.compose_world import CELLS, CONTROLLERS, PROCESSES, ROUTERS, ComposeSystem, until
from tests.support.docker import docker, require_docker
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.alone

FILES: Final = 120
ACCOUNTS: Final = 20
SEED: Final = 7  # the demo uses the same
UID: Final = "10001"
READY_S: Final = 180.0  # the promise is 60 s on a machine that does nothing else
SOCKET: Final = "/var/run/docker.sock"


@pytest.mark.parametrize("profiles", [[], ["demo"], ["monitoring"], ["ministack"], ["ministack", "grafana"]])
def test_the_compose_file_has_no_fault(profiles: list[str]) -> None:
    """It gives no warning, without any environment variable and with any profile, and has one stand-in for AWS."""
    require_docker()
    done = subprocess.run(
        ["docker", "compose", *(f"--profile={profile}" for profile in profiles), "config", "--format", "json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    services = json.loads(done.stdout)["services"]
    aliased = {name for name, service in services.items() if (service["networks"]["default"] or {}).get("aliases")}
    assert aliased == ({"ministack"} if "ministack" in profiles else set() if profiles == ["demo"] else {"localstack"})
    assert ("grafana" in services) == bool({"monitoring", "grafana"} & set(profiles))


def test_with_a_socket_proxy_no_controller_has_the_socket() -> None:
    """Controllers have no more rights than the others. They ask the proxy, in a network that nobody else is in."""
    require_docker()
    files = ("--file", "docker-compose.yml", "--file", "deploy/compose/socket-proxy.yml")
    services = json.loads(docker("compose", *files, "config", "--format", "json"))["services"]
    for name in CONTROLLERS:
        assert [volume["source"] for volume in services[name]["volumes"]] == ["secret"]
        assert services[name].get("cap_add") is None
        assert services[name]["user"] == f"{UID}:{UID}"
        assert services[name]["environment"]["DOCKER_HOST"] == "tcp://socket-proxy:2375"
    assert {name for name, each in services.items() if "engine" in each["networks"]} == {*CONTROLLERS, "socket-proxy"}
    assert {name for name, each in services.items() if SOCKET in str(each.get("volumes"))} == {"socket-proxy"}


def test_the_system_is_ready_soon(system: ComposeSystem, record_property: Any) -> None:
    """Both routers reach all cells, which the controllers have launched."""
    record_property("ready_s", round(system.ready_s, 1))
    assert system.ready_s < READY_S
    assert [entry["action"] for entry in system.audit()].count("launch") == len(CELLS)


def test_every_service_is_healthy(system: ComposeSystem) -> None:
    """Each has a check and passes it, launched cells too; only `init` has none, and has ended well."""

    def states() -> dict[str, str]:
        lines = system.compose("ps", "--all", "--format", "json").splitlines()
        found = [json.loads(line) for line in lines]
        return {each["Service"]: each["Health"] or f"{each['State']} {each['ExitCode']}" for each in found}

    services = (*PROCESSES, "cell", "localstack", "redis", "prometheus")
    want = dict.fromkeys(services, "healthy") | {"init": "exited 0"}
    until(lambda: states() == want, "all are healthy")


def test_the_demo_has_a_clean_ledger_and_prometheus_counts_its_events(system: ComposeSystem) -> None:
    """It loses, doubles and moves nothing though a cell is killed and another slow; the routers' own count agrees."""
    answered, repeated = 'sum(cellrouter_events_answered_total{outcome="ok"})', "sum(cellrouter_duplicates_total)"
    before = system.number(answered), system.number(repeated)
    expected = total(log_file.expected for log_file in generate(FILES, ACCOUNTS, SEED))
    ledger = demo(system, "--files", str(FILES), "--accounts", str(ACCOUNTS), "--seconds", "12")
    assert {key: ledger[key] for key in ("sent", "processed", "duplicates", "lost", "dead_lettered")} == {
        "sent": FILES,
        "processed": FILES,
        "duplicates": 0,
        "lost": 0,
        "dead_lettered": 0,
    }
    assert ledger["keys_moved"] == 0
    assert ledger["slow_replaced_in_s"] > ledger["replaced_in_s"] > 0
    assert ledger["findings"] == expected
    until(lambda: system.number(answered) - before[0] >= FILES, "every event is counted as answered")
    again = system.number(repeated) - before[1]  # events of the killed cell, answered by the next instance
    assert system.number(answered) - before[0] - again <= FILES


def test_the_last_log_lines_of_a_killed_instance_are_in_the_audit(system: ComposeSystem) -> None:
    """The entry has its exit code, and its container is gone."""
    generations = system.serving()
    docker("kill", system.container(CELLS[0], generations[CELLS[0]]))
    system.replaced(CELLS[0], generations[CELLS[0]])
    [why] = [
        entry["why"]
        for entry in system.audit()
        if entry["action"] == "launch" and f"generation {generations[CELLS[0]]} exited" in entry["why"]
        if entry["cell_id"] == CELLS[0]
    ]
    assert "killed by signal 9; its last words:\n" in why
    assert '"event": "started"' in why or '"event": "done"' in why
    until(lambda: len(system.running(CELLS[0])) == 1, "its container is removed")


def test_prometheus_scrapes_every_process_and_its_rules_hold(system: ComposeSystem) -> None:
    """`up` is 1 for routers, controllers and all cells, wherever they are; promtool's tests of the alerts pass."""
    named = {f"{service}:8080" for service in PROCESSES}

    def scraped() -> bool:
        up = [each["metric"] for each in system.query("up == 1")]
        cells = sorted(each["cell"] for each in up if each["job"] == "cell")
        return {each["instance"] for each in up if each["job"] != "cell"} == named and cells == list(CELLS)

    until(scraped, "everything is scraped")
    until(lambda: system.number("sum(cellrouter_controller_leads)") == 1, "one controller leads")
    system.compose("exec", "-T", "prometheus", "promtool", "test", "rules", "/etc/prometheus/rules_test.yml")
    rules = system.get("prometheus", "/api/v1/rules", 9090)["data"]["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} == {"ok"}


@pytest.mark.parametrize("service", [*PROCESSES, *CELLS])
def test_a_container_has_no_rights(system: ComposeSystem, service: str) -> None:
    """It isn't root, has no capability, gains nothing by setuid, and writes only to its volume and /tmp."""
    name = service
    if service in CELLS:
        name = system.container(service, system.serving()[service])
    else:
        [name] = system.compose("ps", "--quiet", service).split()
    lines = docker("exec", name, "cat", "/proc/1/status").splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {UID}
    assert [int(status[kind], 16) for kind in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")] == [0] * 5
    assert status["NoNewPrivs"].strip() == "1"
    said = docker("exec", name, "sh", "-c", "touch /opt/x 2>&1 || true; touch /tmp/x && echo written")
    assert "Read-only file system" in said
    assert "written" in said


def test_only_controllers_have_the_engines_socket(system: ComposeSystem) -> None:
    """No router, no cell and no other service of the project has it."""
    ids = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={system.compose.project}")
    found = json.loads(docker("inspect", *ids.split()))
    having = {
        each["Config"]["Labels"]["com.docker.compose.service"]
        for each in found
        if any(SOCKET in (mount["Source"], mount["Destination"]) for mount in each["Mounts"])
    }
    assert having == set(CONTROLLERS)
    assert not having & set(ROUTERS)


def demo(system: ComposeSystem, *arguments: str) -> dict[str, Any]:
    """Run the demo to its end, and return the ledger, which it writes last."""
    output = system.compose("run", "--rm", "-T", "demo", *arguments, "--json", "/dev/stdout")
    ledger: dict[str, Any] = json.loads(output[output.index("\n{\n") :])
    return ledger
