"""The worker's configuration: `CELL_*` environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class WorkerSettings(BaseSettings):
    """One variable each: CELL_ID, CELL_SECRET and so on."""

    model_config = SettingsConfigDict(env_prefix="CELL_", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    generation: int | None = Field(default=None, ge=1)  # None: claim the next one
    environment: str = "live"
    secret: SecretStr = Field(min_length=16)
    handler: str = Field(pattern=r"^[\w.]+:\w+$")  # package.module:name
    host: str = "127.0.0.1"  # to listen on
    port: int = Field(default=0, ge=0, le=65535)  # 0: any that is free
    advertise: str = ""  # the host by which routers reach it; empty: `host`
    redis_url: str = "redis://127.0.0.1:6379/0"
    data_dir: Path = Path("cell-data")  # the cell's volume
    concurrency: int = Field(default=16, ge=1, le=1000)
    event_timeout_s: float = Field(default=60.0, gt=0)
    lease_ttl_s: float = Field(default=2.0, ge=0.5)
    drain_timeout_s: float = Field(default=15.0, gt=0)
    resource_prefix: str = "cellrouter"
    sink: Literal["firehose", "none"] = "firehose"
    side_effects: bool = False
    chaos: bool = False  # allows fault injection
    log_format: Literal["json", "console"] = "json"


def load() -> WorkerSettings:
    """From the environment. Raises SettingsError with every fault, a line each."""
    try:
        return WorkerSettings.model_validate({})
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(details) for details in error.errors())) from error


class SettingsError(Exception):
    """Names every fault."""


def _fault(details: object) -> str:
    assert isinstance(details, dict), "pydantic's errors are dicts"
    name = "CELL_" + "_".join(str(part) for part in details["loc"]).upper()
    return f"{name}: {'is required' if details['type'] == 'missing' else details['msg']}"
