"""Settings of the security workload: environment variables with the prefix CELL_SECURITY_.

Endpoints and credentials are the AWS SDK's business: AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, AWS_PROFILE and
the rest work as they do everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

SHIPPED_RULES: Final = Path(__file__).parent / "rules"
MIB: Final = 1024 * 1024

ByteCount = Annotated[int, Field(ge=1024, le=4096 * MIB)]


class SettingsError(Exception):
    """A setting has a value that can't be used; the text names the variable and says why, in one line."""


class SecuritySettings(BaseSettings):
    """What an operator may set."""

    model_config = SettingsConfigDict(env_prefix="CELL_SECURITY_", frozen=True)

    rules: Path = SHIPPED_RULES
    """The folder of Sigma rules."""
    remedy_role: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@/-]+$", max_length=512)] | None = None
    """Name (with path) of the role that remedies assume in the account of the finding. Without it they act as the cell,
    and only in its own account."""
    max_object_bytes: ByteCount = 32 * MIB
    """Largest log object, as stored (gzip)."""
    max_log_bytes: ByteCount = 256 * MIB
    """Largest log, decompressed."""


def load_settings() -> SecuritySettings:
    """The settings from the environment. Raises SettingsError."""
    try:
        return SecuritySettings()
    except ValidationError as error:
        prefix = str(SecuritySettings.model_config["env_prefix"])
        problems = (f"{prefix}{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
        raise SettingsError("; ".join(problems)) from error
