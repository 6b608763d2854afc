"""Attacks on a real worker by who can see and repeat what routers send, and has no key."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest

from cell_worker.contract import protocol
from tests.support.worker_process import WorkerProcess, body, call_header, get, post

pytestmark = pytest.mark.one_kind  # it is about the worker's process

EVENTS = protocol.EVENTS_PATH


def test_a_recorded_call_and_an_unproven_body_come_to_nothing(redis_url: str, tmp_path: Path) -> None:
    """A call is taken once. Without a proof not even the body is read, so that nobody can fill the memory with it."""
    with WorkerProcess(redis_url, tmp_path) as worker:
        url = f"{worker.url()}/v1/components/store/restart"
        header, _ = call_header("POST", url, b"")
        assert [post(url, b"", header)[0] for _ in range(3)] == [200, 401, 401]
        header, _ = call_header("POST", f"{worker.url()}{EVENTS}", body("a"))
        assert post(f"{worker.url()}{EVENTS}", body("b"), header)[0] == 401
        for login in ({}, {"Authorization": "Basic eDp5"}):  # as a scraper or a health check may have one
            with urllib.request.urlopen(urllib.request.Request(f"{worker.url()}/healthz", headers=login)) as reply:
                assert reply.status == 200
        host, port = worker.ready().address.split(":")
        with socket.create_connection((host, int(port)), timeout=20) as attacker:
            attacker.sendall(f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n".encode())
            assert attacker.recv(100).startswith(b"HTTP/1.1 401")
        assert 'cell_calls_refused_total{fault="replayed"}' in get(f"{worker.url()}/metrics")[1]
