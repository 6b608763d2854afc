"""AWS sessions whose clients always sign with the credentials that are valid now, wherever these come from.

A part of the wire contract. botocore renews temporary credentials before they end, but asks for others never again: a
file that somebody has rotated, or a role that was given later, would count after a restart only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import structlog
from aiobotocore.credentials import AioCredentials
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession, get_session
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError

KEPT_S: Final = 25.0
"""How long credentials are kept before their source is asked again. Rotated ones are so used within a minute."""
RETRY_S: Final = 5.0
"""How long the source is left alone after it failed, or after AWS has refused what it gave."""
LOAD_TIMEOUT_S: Final = 15.0
"""How long all sources together may take; a hung one must not keep calls for ever."""
CREDENTIALS_REFUSED: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    }
)
"""Error codes by which AWS says that the credentials themselves are no good, whatever they may do."""
OBJECT_DENIED: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "DisabledException",
        "InvalidKeyUsageException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        "NotFoundException",
    }
)
"""Error codes by which S3 denies us an object, or KMS its key: a slip of a policy as well as the object's own trouble.
Without s3:ListBucket this is also its answer for an object that is not there."""
_ADVICE: Final = (
    "see the task's or instance's role, AWS_PROFILE, and the variables AWS_*; events wait meanwhile, and it is tried "
    "again by itself"
)

# What these say is said below, once and in a line. They would add a traceback at every try.
for _name in ("aiobotocore.credentials", "botocore.credentials"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def is_object_denied(code: str) -> bool:
    """Whether S3 has denied us an object by this error code, or KMS its key, what S3 passes on with `KMS.` before."""
    return code.removeprefix("KMS.") in OBJECT_DENIED


class CurrentCredentials(AioCredentials):  # type: ignore[misc] # aiobotocore has no type hints
    """The credentials that AWS' chain of sources gives at each time; a session's clients sign with them.

    While the source fails, those that were had last go on: only AWS knows when they end.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        super().__init__("", "")
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._found: Any = None  # what botocore's chain has given; it renews itself where it can
        self._kept: ReadOnlyCredentials | None = None
        self._ask_at = 0.0
        self._loaded_at = 0.0
        self._refused = False  # AWS took them for no good
        self._loading: asyncio.Task[None] | None = None
        self._why: str | None = None  # why the source gives none, as it was told

    async def load_credentials(self) -> CurrentCredentials:
        """Stand in for botocore's chain of sources, which a session asks once and for all."""
        return self

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the credentials to sign with now. Waits only while there are none, or none that AWS takes.

        Raises CredentialRetrievalError.
        """
        if self._now() >= self._ask_at:
            loading = self._load_in_background()
            if self._kept is None or self._refused:
                await asyncio.shield(loading)  # whoever waits may be cut off; the next one finds what it brought
        if self._kept is None:
            raise CredentialRetrievalError(provider="any source", error_msg=self._why or "not asked yet")
        return self._kept

    def refused(self, code: str) -> None:
        """Note an error code of AWS: where it says that the credentials are no good, the source is asked soon."""
        if code in CREDENTIALS_REFUSED:
            self._refused = True
            self._ask_at = min(self._ask_at, self._loaded_at + RETRY_S)

    def on_answer(self, parsed: Any = None, **_: Any) -> None:
        """Look at each answer that a client of the session gets, as a handler of botocore's."""
        if isinstance(parsed, dict):
            self.refused(str((parsed.get("Error") or {}).get("Code", "")))

    def _load_in_background(self) -> asyncio.Task[None]:
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load(), name="AWS credentials")
        return self._loading

    async def _load(self) -> None:
        """Ask the source. Never raises: what went wrong is told, and kept for whoever needs credentials."""
        why: str | None = None
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                self._kept = await self._asked()
        except TimeoutError:
            why = f"their source took longer than {LOAD_TIMEOUT_S:g} s"
        except Exception as error:  # noqa: BLE001 - botocore lets through whatever a broken source leads to
            why = f"{type(error).__name__}: {error!s:.300}"
        if why:
            self._found = None  # the chain is gone through from its beginning the next time
        self._loaded_at = self._now()
        self._ask_at = self._loaded_at + (RETRY_S if why else KEPT_S)
        self._refused = False
        self._tell(why)

    async def _asked(self) -> ReadOnlyCredentials:
        if self._refused or not isinstance(self._found, RefreshableCredentials):
            self._found = await get_session().get_credentials()
        if self._found is None:
            raise ValueError("no AWS credentials found")
        return _sound(await self._found.get_frozen_credentials())

    def _tell(self, why: str | None) -> None:
        log, before = structlog.get_logger("credentials"), self._why
        self._why = why
        if why is not None and before is None:
            log.error("AWS credentials can't be had", why=why, action=_ADVICE)
        elif why is None and before is not None:
            log.warning("AWS credentials can be had again")


def aws_session(credentials: CurrentCredentials | None = None) -> AioSession:
    """Make a session whose clients sign with the credentials that are valid at each time."""
    session, current = get_session(), credentials or CurrentCredentials()
    session.register_component("credential_provider", current)
    session.register("after-call", current.on_answer)
    return session


def _sound(found: ReadOnlyCredentials) -> ReadOnlyCredentials:
    """Return the credentials, if one can sign with them and send them in a header. Raises ValueError."""
    for part in (found.access_key, found.secret_key, found.token or "none"):
        if not (isinstance(part, str) and part and part.isascii() and part.isprintable()):
            raise ValueError("the source gave something that is no credentials")
    return found


class UnredirectedSession(AIOHTTPSession):  # type: ignore[misc] # aiobotocore has no type hints
    """What AioConfig's `http_session_cls` is in each client of ours: an HTTP session that follows no redirect.

    aiobotocore would follow one to wherever the answer says, with the session token among its headers. botocore makes
    something of a redirect itself, where S3 answers with one for another region.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))
