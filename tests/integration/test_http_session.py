"""What a session of ours leaves behind on a connection whose other side does nothing."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from router.adapters.http_session import http_session
from tests.support.aio import run, until
from tests.support.certificates import Authority

pytestmark = pytest.mark.one_kind  # it is about sockets


@contextmanager
def mute_server(files: tuple[Path, Path]) -> Iterator[int]:
    """Serve an answer by TLS that is none, and neither close the connection nor read on; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    held: list[ssl.SSLSocket] = []

    def serve() -> None:
        while True:
            try:
                held.append(context.wrap_socket(listener.accept()[0], server_side=True))
            except OSError:
                return
            held[-1].recv(100)
            held[-1].sendall(b"nothing of HTTP\r\n\r\n")

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in held:
                each.close()


def test_no_connection_stays_open_because_the_other_side_does_not_end_it(tmp_path: Path) -> None:
    """A cell that answers nonsense and then nothing would cost its routers a connection with each call."""
    ca = Authority(tmp_path, "ca")
    trusted = ssl.create_default_context(cafile=str(ca.cert))

    async def story(port: int) -> None:
        async def none_is_open() -> bool:
            return not [
                each for each in psutil.Process().net_connections("tcp") if each.raddr and each.raddr.port == port
            ]

        async with http_session(ssl=trusted) as session:
            for _ in range(3):
                with pytest.raises(aiohttp.ClientError):
                    await session.get(f"https://localhost:{port}/", allow_redirects=False)
            await until(none_is_open, "every connection is closed", 10)

    with mute_server(ca.issue("localhost")) as port:
        run(story(port))
