"""The errors that a failing call to AWS may raise, and what AWS says in them."""

from __future__ import annotations

from typing import Final

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

AWS_ERRORS: Final = (ClientError, BotoCoreError, ResponseParserError, aiohttp.ClientError, TimeoutError, OSError)


def error_code(error: BaseException) -> str:
    """Return the AWS error code of a ClientError; empty for every other error."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def error_words(error: BaseException) -> str:
    """Return AWS' own words of a ClientError; of any other error its kind and its text."""
    if isinstance(error, ClientError) and (words := error.response.get("Error", {}).get("Message")):
        return str(words)
    return f"{type(error).__name__}: {error}"
