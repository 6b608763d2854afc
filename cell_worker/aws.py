"""AWS clients of the worker's own components. Their waits are bounded, and retries are left to the caller."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from cell_worker.contract.aws_session import UnredirectedSession, aws_session

AWS_ERRORS: Final = (ClientError, BotoCoreError, ResponseParserError, aiohttp.ClientError, TimeoutError, OSError)
"""All that a call of AWS may raise for reasons outside this process."""


class AwsClient:
    """The client of one AWS service. It opens when it is first needed, and again when it is needed after `close`."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def get(self) -> Any:
        """Return the open client, and open it first if necessary."""
        async with self._opening:  # several calls at once need one client
            return self._client or await self._open()

    async def _open(self) -> Any:
        config = AioConfig(
            http_session_cls=UnredirectedSession,
            connect_timeout=5,
            read_timeout=15,
            retries={"mode": "standard", "total_max_attempts": 1},
            parameter_validation=False,
            user_agent="cellrouter-cell",
        )
        self._client = await self._stack.enter_async_context(aws_session().create_client(self._service, config=config))
        return self._client

    async def close(self) -> None:
        """Close the client with its connections."""
        stack, self._stack, self._client = self._stack, AsyncExitStack(), None
        await stack.aclose()
