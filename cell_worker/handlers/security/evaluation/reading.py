"""Reads an object over HTTP with a request that the worker has signed, in an evaluating process."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError

from cell_worker.handlers.security.evaluation.wire import SignedGet
from cell_worker.handlers.security.logs import CHUNK_BYTES, LogObject, check_size

TIMEOUT: Final = urllib3.Timeout(connect=5, read=30)  # as those of the worker's client
OK: Final = 200


class UnreadError(Exception):
    """The object could not be read; the text says why. Whether that is the object's fault is for the worker to ask."""


def trust(certificates: str) -> ssl.SSLContext:
    """Trust these certificates, as the worker does. To load them takes longer than to read a small object."""
    context = urllib3.util.ssl_.create_urllib3_context()
    context.load_verify_locations(certificates)
    return context


def read(request: SignedGet, source: LogObject, max_bytes: int, trusted: ssl.SSLContext) -> Iterator[bytes]:
    """Read an object in chunks, from wherever the request leads and nowhere else. Raises TooLarge and UnreadError."""
    try:
        with _pool(request, trusted) as pool:
            answer = pool.request(
                "GET",
                request.url,
                headers=request.headers | {"Accept-Encoding": "identity"},
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=TIMEOUT,
            )
            with closing(answer):
                if answer.status != OK:
                    raise UnreadError(f"S3 answered {answer.status}")
                size = 0
                check_size(source, answer.length_remaining or 0, max_bytes)
                for chunk in answer.stream(CHUNK_BYTES, decode_content=False):
                    size += len(chunk)
                    check_size(source, size, max_bytes)
                    yield chunk
    except (HTTPError, OSError) as error:
        raise UnreadError(f"{type(error).__name__}: {error}") from error


def _pool(request: SignedGet, trusted: ssl.SSLContext) -> urllib3.PoolManager:
    if request.proxy is None:
        return urllib3.PoolManager(ssl_context=trusted)
    return urllib3.ProxyManager(
        request.proxy, proxy_headers=request.proxy_headers, ssl_context=trusted, proxy_ssl_context=trusted
    )
