"""The worker's configuration, which it reads from the environment variables `CELL_*`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cell_worker.contract.addresses import bare_host, why_no_login, why_no_redis_url
from cell_worker.contract.keys import CellKeys, is_secret_of
from cell_worker.contract.place import METADATA_VARIABLE, region_in
from cell_worker.contract.redis_client import why_no_client
from cell_worker.contract.redis_login import Login, login_of
from cell_worker.contract.secret_file import read_secrets
from cell_worker.contract.strict_reader import Unreadable
from cell_worker.contract.texts import is_text
from cell_worker.contract.tls import Tls, TlsError, TlsFiles, of_cell
from cell_worker.contract.tracing.variables import why_no_export

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PREFIX: Final = "CELL_"
LIVE: Final = "live"  # the only environment where handlers may change anything outside their cell
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - what these mean is the point


class WorkerSettings(BaseSettings):
    """What an operator may set. Each field is one variable: CELL_ID, CELL_SECRET and so on."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    id: Name = Field(description="the cell, as cell-0003")
    generation: int | None = Field(default=None, ge=1, description="not set: the worker claims the next one in Redis")
    environment: Name = Field(default=LIVE, description="the environment that the cell belongs to")
    secret_file: Path | None = Field(default=None, description="holds the secret, which need be no variable then")
    secret: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
        description="this cell's own, as `cellrouter cell-secret` prints it; required, unless CELL_SECRET_FILE is set",
    )
    handler: str = Field(pattern=r"^[\w.]+:\w+$", description="what processes events: package.module:name")
    host: str = Field(default="127.0.0.1", description="where to listen; `::` at every address, of IPv4 and IPv6")
    port: int = Field(default=0, ge=0, le=65535, description="0: any free port")
    advertise: str = Field(default="", validate_default=True, description="where routers reach it; empty: at the host")
    zone: str = Field(default="", description="what fails together, for `cellrouter blast-radius`; empty: as ECS says")
    region: str = Field(default="", description="empty: as AWS_REGION says")
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0", repr=False, description="the Redis or Valkey that holds the registry"
    )
    redis_password_from: str = Field(
        default="",
        validate_default=True,
        repr=False,
        description="where the password is, if not in the URL: a file, a secret's ARN, iam:CACHE, iam-serverless:CACHE",
    )
    store: Literal["sqlite", "dynamodb"] = Field(default="sqlite", description="where the cell remembers what is done")
    store_table: str = Field(
        default="",
        max_length=255,
        pattern=r"^[a-zA-Z0-9_.-]*$",
        description="the table of a cell on DynamoDB; empty: PREFIX-ENVIRONMENT-CELL",
    )
    data_dir: Path = Field(default=Path("cell-data"), description="the cell's volume, where its store lies with sqlite")
    concurrency: int = Field(default=16, ge=1, le=1000, description="events that it works on at once")
    event_timeout_s: Seconds = Field(default=60.0, description="how long a handler may take for an event")
    lease_ttl_s: float = Field(default=2.0, ge=0.5, allow_inf_nan=False, description="how long its lease lasts")
    drain_timeout_s: Seconds = Field(default=15.0, description="how long a stop waits for events that have begun")
    notice_s: float = Field(
        default=0.0, ge=0, le=100, description="how long to go on after a SIGTERM, for a successor to come up"
    )
    resource_prefix: Name = Field(default="cellrouter", description="the names of its bucket and stream begin with it")
    sink: Literal["firehose", "none"] = Field(default="firehose", description="where what it emits goes")
    side_effects: bool = Field(
        default=False,
        description="whether handlers may change anything outside the cell; only in the environment `live`",
    )
    chaos: bool = Field(default=False, description="whether faults may be injected")
    tracing: bool = Field(
        default=False, description="whether handlers have spans of OpenTelemetry; needs the extra `tracing`"
    )
    log_format: Literal["json", "console"] = Field(default="json", description="lines for machines, or for people")
    tls_cert: Path | None = Field(default=None, description="with it, the worker is reached by TLS and no other way")
    tls_key: Path | None = Field(default=None, description="the key of that certificate")
    tls_client_ca: Path | None = Field(
        default=None, description="with it, who calls the worker must present a certificate of these authorities"
    )

    @field_validator("advertise")
    @classmethod
    def _can_be_connected_to(cls, advertise: str, others: ValidationInfo) -> str:
        if (
            not advertise
            and bare_host(others.data.get("host", "")) in EVERYWHERE
            and METADATA_VARIABLE not in os.environ
        ):
            raise ValueError(f"is required with CELL_HOST={others.data['host']}, which no router can connect to")
        return advertise

    @field_validator("secret")
    @classmethod
    def _is_this_cells(cls, secret: SecretStr, others: ValidationInfo) -> SecretStr:
        file: Path | None = others.data.get("secret_file")
        given: tuple[str, ...] = (secret.get_secret_value(),)
        whose = (others.data.get("environment", ""), others.data.get("id", ""))
        if file is not None and given != ("",):
            raise ValueError("is set, and CELL_SECRET_FILE too: set one of the two")
        if file is not None:
            found = read_secrets(file)
            if isinstance(found, Unreadable):
                raise ValueError(f"can't be had from CELL_SECRET_FILE={file}: {found.why}")
            given = found
        if given == ("",):
            raise ValueError("is required, or CELL_SECRET_FILE: `cellrouter cell-secret CELL` prints it")
        if len(given) > 1 or not is_secret_of(given[0], *whose):
            raise ValueError(
                f"must be this cell's own secret, as `cellrouter cell-secret {whose[1]}` prints it for the environment "
                f"{whose[0]}; never that of another cell, nor that of the environment, which no cell may have"
            )
        return SecretStr(given[0])

    def keys(self) -> CellKeys:
        """Derive the cell's keys from its secret."""
        return CellKeys.of(self.secret.get_secret_value())

    @field_validator("side_effects")
    @classmethod
    def _is_live(cls, side_effects: bool, others: ValidationInfo) -> bool:
        environment = others.data.get("environment", LIVE)
        if side_effects and environment != LIVE:
            raise ValueError(f"must be false in the environment {environment}: only `{LIVE}` may have side effects")
        return side_effects

    @field_validator("redis_url")
    @classmethod
    def _is_of_redis(cls, url: str) -> str:
        if (why := why_no_redis_url(url)) is not None:
            raise ValueError(why)
        return url

    @field_validator("store_table")
    @classmethod
    def _is_used(cls, table: str, others: ValidationInfo) -> str:
        if table and others.data.get("store") == "sqlite":
            raise ValueError("is set, but CELL_STORE is sqlite, which has no table: set CELL_STORE=dynamodb")
        return table

    @field_validator("redis_password_from")
    @classmethod
    def _lets_one_log_in(cls, password_from: str, others: ValidationInfo) -> str:
        url = others.data.get("redis_url", "")
        if (why := why_no_login(url, password_from, region_in(os.environ))) is not None:
            raise ValueError(why)
        return password_from

    def login(self) -> Login | None:
        """Make the login to Redis; None where the URL says all."""
        region = region_in(os.environ)
        return login_of(self.redis_url, self.redis_password_from, region) if self.redis_password_from else None

    @model_validator(mode="after")
    def _has_all_of_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None) or (self.tls_client_ca and self.tls_cert is None):
            raise ValueError("CELL_TLS_CERT and CELL_TLS_KEY belong together, and CELL_TLS_CLIENT_CA needs both")
        return self

    def tls(self) -> Tls | None:
        """Make the TLS that these settings ask for; None for plain HTTP. Raises TlsError when a file can't be used."""
        files = TlsFiles(self.tls_client_ca, self.tls_cert, self.tls_key)
        return None if self.tls_cert is None else of_cell(self.id, self.environment, files)


def load() -> WorkerSettings:
    """Read the settings from the environment. Raises SettingsError that names every fault, each on a line."""
    if no_texts := [name for name in os.environ if name.upper().startswith(PREFIX) and not is_text(os.environ[name])]:
        raise SettingsError("\n".join(f"{name}: must be UTF-8, and is not" for name in no_texts))
    try:
        settings = WorkerSettings.model_validate({})
        settings.tls()
        if (why := why_no_client(settings.redis_url)) is not None:
            raise SettingsError(f"CELL_REDIS_URL: {why}")
        if settings.tracing and (why := why_no_export(os.environ)) is not None:
            raise SettingsError(f"CELL_TRACING: {why}")
    except TlsError as error:
        raise SettingsError(f"CELL_TLS_CERT, CELL_TLS_KEY, CELL_TLS_CLIENT_CA: {error}") from error
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(details) for details in error.errors())) from error
    return settings


class SettingsError(Exception):
    """The environment has faults. The text names each variable and what is wrong with it, one on a line."""


def _fault(details: object) -> str:
    assert isinstance(details, dict), "pydantic's errors are dicts"
    name = "_".join(["CELL", *(str(part) for part in details["loc"])]).upper()
    return f"{name}: {'is required' if details['type'] == 'missing' else details['msg'].removeprefix('Value error, ')}"
