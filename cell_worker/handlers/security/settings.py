"""The settings of the security workload: environment variables with the prefix CELL_SECURITY_.

The AWS SDK itself finds endpoints and credentials: AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, AWS_PROFILE and the rest work
as they do everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

SHIPPED_RULES: Final = Path(__file__).parent / "rules"
MIB: Final = 1024 * 1024
DAY_S: Final = 24 * 3600

ByteCount = Annotated[int, Field(ge=1024, le=4096 * MIB)]


class SecuritySettingsError(Exception):
    """A setting has a value that can't be used. The text names the variable and says why, in one line."""


class SecuritySettings(BaseSettings):
    """What an operator may set for the security workload."""

    model_config = SettingsConfigDict(env_prefix="CELL_SECURITY_", frozen=True)

    rules: Path = SHIPPED_RULES
    """The folder with the Sigma rules to use."""
    skip_bad_rules: bool = False
    """Whether a folder's good rules are used beside bad ones, which are logged, listed and counted."""
    buckets: Annotated[str, Field(pattern=r"^([a-z0-9.-]+( *, *[a-z0-9.-]+)*)?$")] = ""
    """The buckets whose logs are believed, with commas between: events of others are rejected. Without any, logs of all
    buckets are read and no remedy acts."""
    remedy_role: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@/-]+$", max_length=512)] | None = None
    """The name, with its path, of the role that remedies assume in the account of the finding. Without it they act with
    the cell's own credentials, and only in its own account."""
    remedy_max_age_s: Annotated[int, Field(ge=60, le=10 * 365 * DAY_S)] = DAY_S
    """How old a record may be, in seconds since its time, for a remedy to act."""
    remedies_per_account: Annotated[int, Field(ge=1, le=100_000)] = 60
    """How many remedies an hour may act in one account, for each cell."""
    remedies_per_hour: Annotated[int, Field(ge=1, le=100_000)] = 600
    """How many remedies an hour may act in all accounts of a cell together."""
    max_object_bytes: ByteCount = 32 * MIB
    """The largest log object that is read, in bytes as stored (gzip)."""
    max_log_bytes: ByteCount = 32 * MIB
    """The largest log that is read, in bytes after decompression. Evaluating it may take four times as much memory."""

    @property
    def bucket_names(self) -> frozenset[str]:
        """The configured buckets; none when there are none."""
        return frozenset(name for part in self.buckets.split(",") if (name := part.strip()))


def load_settings() -> SecuritySettings:
    """Read the settings from the environment. Raises SecuritySettingsError that names every fault."""
    try:
        return SecuritySettings()
    except ValidationError as error:
        prefix = str(SecuritySettings.model_config["env_prefix"])
        problems = (f"{prefix}{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
        raise SecuritySettingsError("; ".join(problems)) from error
