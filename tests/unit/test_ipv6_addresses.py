"""Addresses of IPv6 are taken wherever an address is taken, and written as URLs have them."""

from __future__ import annotations

import errno
import re
import socket
from contextlib import closing
from typing import Any

import pytest

from cell_worker.contract.addresses import bare_host, host_and_port, why_no_redis_url
from cell_worker.contract.http_guard import why_not_served
from cell_worker.contract.http_server import listen_on
from cell_worker.contract.place import Place, without_local_proxies
from cell_worker.contract.redis_client import why_no_client
from cell_worker.listening import resolved
from router.adapters.provisioners.docker_containers import address_of
from router.api.views import scrape_target
from router.bootstrap.processes import _reached_at
from router.core.addresses import host_of
from router.settings import check
from tests.support import keys
from tests.support.aio import run
from tests.support.paths import REPOSITORY

NETWORKS = {"NetworkSettings": {"Networks": {"cells": {"IPAddress": "", "GlobalIPv6Address": "fd00::5"}}}}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: bare_host("[fd00::5]"), "fd00::5"),
        (lambda: host_and_port("fd00::5", 80), "[fd00::5]:80"),
        (lambda: host_and_port("[fd00::5]", 80), "[fd00::5]:80"),
        (lambda: host_and_port("10.0.0.7", 80), "10.0.0.7:80"),
        (lambda: str(host_of("[fd00::5]:8080")), "fd00::5"),
        (lambda: address_of(NETWORKS, "cells"), "[fd00::5]:8080"),
        (lambda: scrape_target("cell", "cell-0003/7", "[fd00::5]:8080", "").targets, ["[fd00::5]:8080"]),
        (lambda: run(resolved("::1")), "[::1]"),
        (lambda: run(resolved("[::1]")), "[::1]"),
        (lambda: why_not_served("[fd00::5]:8080", ()), None),
        (lambda: why_no_redis_url("rediss://user:word@[fd00::5]:6379/0"), None),
        (lambda: why_no_client("redis://[fd00::5]:6379/0"), None),
        (lambda: why_no_client("redis+cluster://[fd00::5]:6379"), None),
        (lambda: "fd00::5" in without_local_proxies({}, "http://[fd00::5]:4566")["no_proxy"].split(","), True),
    ],
)
def test_an_address_is_read_and_written(made: Any, expected: Any) -> None:
    """Brackets stand where a port follows, and nowhere else."""
    assert made() == expected


@pytest.mark.parametrize(
    ("name", "value", "reached"),
    [
        ("API_HOST", "fd00::5", "[fd00::5]:8080"),
        ("API_HOST", "[fd00::5]", "[fd00::5]:8080"),
        ("REDIS_URL", "redis://[fd00::5]:6379/0", None),
        ("REDIS_URL", "rediss+cluster://user:word@[fd00::5]:6379", None),
        ("AWS_ENDPOINT_URL", "http://[fd00::5]:4566", None),
        ("CELLS_NETWORKS", "fd00::/8,2600:1f18::/32", None),
    ],
)
def test_each_setting_takes_one(name: str, value: str, reached: str | None) -> None:
    """No setting with an address is refused for being IPv6's, and Prometheus is told one that it can use."""
    settings, faults = check({"CELLROUTER_SECRET": keys.SECRET, f"CELLROUTER_{name}": value})
    assert (settings is None, faults) == (False, [])
    if settings is not None and reached is not None:
        assert _reached_at(settings, Place()) == reached


def answers(port: int, *hosts: str) -> list[str]:
    """Those of the hosts at which somebody listens."""
    found = []
    for host in hosts:
        with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as client:
            client.settimeout(5)
            if client.connect_ex((host, port)) == 0:
                found.append(host)
    return found


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("::", ["127.0.0.1", "::1"]),
        ("[::]", ["127.0.0.1", "::1"]),
        ("::1", ["::1"]),
        ("[::1]", ["::1"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),
    ],
)
def test_a_process_listens_where_it_is_told(host: str, expected: list[str]) -> None:
    """`::` is every address of this machine: a container's network may have addresses of one kind only."""
    with closing(listen_on(host, 0)) as listener:
        assert answers(listener.getsockname()[1], "127.0.0.1", "::1") == expected


def test_a_machine_without_ipv6_listens_at_all_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """`::` is the image's default, and some kernels know no IPv6."""
    create = socket.create_server

    def without_ipv6(address: Any, *, family: int = socket.AF_INET, **options: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, family=family, backlog=options["backlog"])

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    with closing(listen_on("::", 0)) as listener:
        assert answers(listener.getsockname()[1], "127.0.0.1") == ["127.0.0.1"]


@pytest.mark.parametrize(
    "name", ["Dockerfile", "deploy/cloudformation/cell.yaml", "deploy/cloudformation/platform.yaml"]
)
def test_containers_listen_at_every_address(name: str) -> None:
    """0.0.0.0 is no address of a network that has IPv6 only."""
    hosts = re.findall(r"(?:CELL|API)_HOST(?:=|, Value: )(\S+?)[ }]", (REPOSITORY / name).read_text())
    assert {host.strip('"') for host in hosts} == {"::"}
