"""The worker's configuration: `CELL_*` environment variables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.connection import parse_url

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - what these mean is the point


class WorkerSettings(BaseSettings):
    """One variable each: CELL_ID, CELL_SECRET and so on."""

    model_config = SettingsConfigDict(env_prefix="CELL_", frozen=True)

    id: Name
    generation: int | None = Field(default=None, ge=1)  # None: claim the next one
    environment: Name = "live"
    secret: SecretStr = Field(min_length=16)
    handler: str = Field(pattern=r"^[\w.]+:\w+$")  # package.module:name
    host: str = "127.0.0.1"  # to listen on
    port: int = Field(default=0, ge=0, le=65535)  # 0: any that is free
    advertise: str = Field(default="", validate_default=True)  # the host by which routers reach it; empty: `host`
    zone: str = ""  # for `cellrouter blast-radius`
    region: str = ""
    redis_url: str = "redis://127.0.0.1:6379/0"
    data_dir: Path = Path("cell-data")  # the cell's volume
    concurrency: int = Field(default=16, ge=1, le=1000)
    event_timeout_s: Seconds = 60.0
    lease_ttl_s: float = Field(default=2.0, ge=0.5, allow_inf_nan=False)
    drain_timeout_s: Seconds = 15.0
    resource_prefix: Name = "cellrouter"
    sink: Literal["firehose", "none"] = "firehose"
    side_effects: bool = False
    chaos: bool = False  # allows fault injection
    log_format: Literal["json", "console"] = "json"

    @field_validator("advertise")
    @classmethod
    def _can_be_connected_to(cls, advertise: str, others: ValidationInfo) -> str:
        if not advertise and others.data.get("host") in _EVERYWHERE:
            raise ValueError(f"is required with CELL_HOST={others.data['host']}, which no router can connect to")
        return advertise

    @field_validator("redis_url")
    @classmethod
    def _is_of_redis(cls, url: str) -> str:
        parse_url(re.sub(r"^(rediss?)\+cluster:", r"\1:", url))  # type: ignore[no-untyped-call]
        return url


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
    return f"{name}: {'is required' if details['type'] == 'missing' else details['msg'].removeprefix('Value error, ')}"
