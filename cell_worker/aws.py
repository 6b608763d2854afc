"""AWS clients of the worker's own parts: bounded waits, no retries of botocore's (a retry is the caller's decision)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

AWS_ERRORS: Final = (ClientError, BotoCoreError, aiohttp.ClientError, TimeoutError, OSError)


class AwsClient:
    """One service's client, opened when it is first needed, and anew after `close`."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def get(self) -> Any:
        """The client."""
        if self._client is None:
            config = AioConfig(
                connect_timeout=5,
                read_timeout=15,
                retries={"mode": "standard", "total_max_attempts": 1},
                parameter_validation=False,
                user_agent="cellrouter-cell",
            )
            self._client = await self._stack.enter_async_context(
                get_session().create_client(self._service, config=config)
            )
        return self._client

    async def close(self) -> None:
        """Let go of the client."""
        stack, self._stack, self._client = self._stack, AsyncExitStack(), None
        await stack.aclose()
