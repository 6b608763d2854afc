"""The configuration: one TOML file (`CELLROUTER_CONFIG`) and `CELLROUTER_<SECTION>_<KEY>` variables, which win over it.

Settings only collect what the parts of a process need. `check` names every fault at once, with its key and its place.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from cell_worker.contract.addresses import why_no_login
from cell_worker.contract.place import REGION_VARIABLES
from cell_worker.contract.strict_reader import Unreadable
from cell_worker.contract.texts import is_text
from cell_worker.contract.tls import TlsError, TlsFiles, of_caller
from router import settings_ecs
from router.adapters.secret_source import SecretSource
from router.core.config_text import natural
from router.core.errors import ConfigError
from router.settings_ecs import EcsSection
from router.settings_faults import described, place
from router.settings_values import (
    BucketName,
    HandlerName,
    HostNames,
    HttpUrl,
    JmesPath,
    Labels,
    Name,
    Networks,
    Port,
    QueueName,
    RedisUrl,
    Region,
    Seconds,
    SourceName,
)

PREFIX: Final = "CELLROUTER_"
FILE_VARIABLE: Final = "CELLROUTER_CONFIG"
LIVE: Final = "live"  # the production environment: no chaos there unless the settings allow it
MIN_DRAIN_S: Final = 2.0  # left for draining after a long poll has ended


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AwsSection(_Section):
    """Where AWS is, and how resources are named there. Credentials come from the environment, as for every AWS tool."""

    region: Region = Field(default="us-east-1", description="not set: as AWS_REGION says, else AWS_DEFAULT_REGION")
    endpoint_url: HttpUrl | None = Field(default=None, description="of LocalStack or MiniStack; not set: AWS itself")
    prefix: Name = Field(
        default="cellrouter", description="the names of buckets, streams and hold queues begin with it"
    )
    firehose_role: str = Field(
        default="arn:aws:iam::000000000000:role/cellrouter-firehose",
        description="the role that Firehose writes to buckets with",
    )


class RedisSection(_Section):
    """The Redis or Valkey that holds the registry."""

    url: RedisUrl = Field(
        default="redis://127.0.0.1:6379/0",
        repr=False,
        description="where Redis is: redis://, rediss://, redis+cluster://, rediss+cluster:// or unix://",
    )
    password_from: str = Field(
        default="",
        repr=False,
        description="where the password is, if not in the URL: a file, a secret's ARN, iam:CACHE, iam-serverless:CACHE",
    )


class SourceSection(_Section):
    """The queue that events arrive on, and how they are read from it."""

    queue: SourceName = Field(default="cellrouter-events", description="the source queue; FIFO when it ends with .fifo")
    dead_letter_queue: QueueName = Field(default="cellrouter-dead-letters", description="the dead-letter queue")
    quarantine_queue: QueueName = Field(
        default="cellrouter-quarantine", description="where the events of quarantined keys wait"
    )
    visibility_s: int = Field(
        default=30, ge=5, le=43200, description="how long a received message stays hidden at a time"
    )
    wait_s: int = Field(default=10, ge=0, le=20, description="how many seconds one long poll waits")
    pollers: int = Field(default=2, ge=1, le=50, description="how many long polls run at once")
    max_messages: int = Field(default=1000, ge=10, le=100_000, description="the most messages in memory at once")
    max_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024 * 1024, description="the most bytes of messages in memory at once"
    )
    partition_key: JmesPath = Field(
        default="",
        description="JMESPath, with match(text, 'regex'); empty: an S3 object's account or bucket, else tenant keys",
    )
    event_id: JmesPath = Field(
        default="", description="JMESPath to it; empty: an S3 object's version, else event_id, id, or the message's id"
    )
    payload_bucket: BucketName = Field(
        default="",
        description="bucket that S3 pointers of SQS' extended client may name; empty: pointers are not accepted",
    )


class RetrySection(_Section):
    """What is done with an event after a failure."""

    max_attempts: int = Field(
        default=5, ge=1, le=100, description="times the handler may fail before the dead-letter queue"
    )
    max_kills: int = Field(
        default=4,
        ge=2,
        le=8,
        description="instances that may die with an event in flight, unanswered, before the dead-letter queue; after "
        "the second its key is in quarantine between tries",
    )
    base_delay_s: Seconds = Field(
        default=1.0, description="the ceiling of the first delay; it doubles each time, with full jitter"
    )
    max_delay_s: float = Field(default=300.0, gt=0, le=900, description="the highest ceiling of a delay")
    quarantine_s: float = Field(
        default=900.0,
        ge=0,
        le=14 * 24 * 3600,
        description="how long a key stays in quarantine, after it killed two instances or failed max_attempts times "
        "in a row while others did not; doubled by each further kill, up to 6 h; 0: until a person releases it",
    )


class CellsSection(_Section):
    """The cells, and how their workers run."""

    count: int = Field(
        default=4, ge=1, le=1000, description="how many cells there are, unless the policy says another number"
    )
    provisioner: Literal["subprocess", "docker", "ecs", "external"] = Field(
        default="subprocess",
        description="who starts workers: the controller, as processes, containers or tasks; or others (external)",
    )
    handler: HandlerName = Field(
        default="cell_worker.handlers.security:SecurityMonitor", description="package.module:name"
    )
    store: Literal["sqlite", "dynamodb"] = Field(
        default="sqlite",
        description="where a cell remembers which events are done: a file on its volume, or a table in DynamoDB, for "
        "workers whose disks die with them",
    )
    data_dir: Path = Field(
        default=Path("cellrouter-data"),
        description="holds the cells' volumes, logs and process ids, and the last routing of a router",
    )
    redis_url: RedisUrl | None = Field(
        default=None,
        repr=False,
        description="where Redis is for workers, best with a user of their own; not set: redis.url",
    )
    redis_password_from: str = Field(default="", repr=False, description="as `redis.password_from`, for `redis_url`")
    concurrency: int = Field(default=16, ge=1, le=1000, description="how many events a worker works on at once")
    side_effects: bool = Field(default=False, description="whether handlers may change things outside the cell")
    chaos: bool | None = Field(
        default=None,
        description="allows fault injection by `cellrouter chaos`; not set: everywhere but in the environment `live`",
    )
    event_timeout_s: Seconds = Field(
        default=60.0, description="for one event in its handler; an event that takes longer counts as failed"
    )
    lease_ttl_s: float = Field(
        default=2.0, ge=0.5, le=60, description="how long an instance's lease lasts; a hung instance is found that fast"
    )
    networks: Networks = Field(
        default="127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7",
        description="where instances may be; a lease with an address elsewhere is refused",
    )
    launch_timeout_s: Seconds = Field(default=30.0, description="how long a launched instance may take to be ready")
    warm_up_s: float = Field(
        default=60.0, ge=0, le=3600, description="how long a new instance may be slow before it counts as sick"
    )
    drain_timeout_s: Seconds = Field(
        default=15.0, description="how long routers and workers may take to finish after a SIGTERM"
    )
    tls_ca: Path | None = Field(
        default=None,
        description="authorities of the cells' certificates; with it, cells are called by TLS alone",
    )
    tls_cert: Path | None = Field(
        default=None, description="the certificate that routers and controllers present to cells; with `tls_key`"
    )
    tls_key: Path | None = Field(default=None, description="the key of `tls_cert`")
    tls_dir: Path | None = Field(
        default=None,
        description="with `tls_ca`: has CELL/tls.crt and CELL/tls.key for each launched cell, with `tls_cert` also "
        "CELL/ca.crt; with Docker it is on the engine's machine",
    )

    def tls_files(self) -> TlsFiles:
        """Return the files with which routers and controllers call cells."""
        return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)


class DockerSection(_Section):
    """The workers' containers, with `cells.provisioner = "docker"`. `DOCKER_HOST` says where the engine is."""

    image: str = Field(
        default="cellrouter",
        min_length=1,
        description="the workers' image; it must contain the handler `cells.handler`",
    )
    network: str = Field(
        default="bridge", min_length=1, description="the network that workers are in; routers must reach it"
    )
    prefix: Name = Field(
        default="cellrouter",
        description="names of containers and volumes begin with it; each installation on an engine needs its own",
    )
    labels: Labels = Field(default="", description="more labels for containers and volumes: name=value,name=value")
    memory_mb: int = Field(
        default=512, ge=64, le=1024 * 1024, description="a worker's memory in MiB; none of it is swap"
    )
    cpus: float = Field(default=1.0, ge=0.01, le=1024, description="a worker's share of CPUs")
    pids: int = Field(default=256, ge=16, le=100_000, description="the most processes and threads of a worker")


class ApiSection(_Section):
    """Where a router or controller serves /healthz, /readyz, /metrics, /cells and /audit."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: Port = Field(default=8080, description="port to listen on")
    allowed_hosts: HostNames = Field(
        default="",
        description="names with a dot that it answers under, separated by commas; it always does under IP addresses, "
        "names without a dot, and `host`",
    )


class LogSection(_Section):
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the lowest level that is logged"
    )
    format: Literal["json", "console"] = Field(default="json", description="JSON lines, or text for people")


class Settings(_Section):
    """All settings of a router or a controller."""

    environment: Name = Field(
        default=LIVE, description="name of the environment, whose queues, cells and map are its own: live, stress, …"
    )
    secret: SecretStr = Field(
        default=SecretStr(""),
        description="of routers and controllers, from which each cell's own is derived; required, unless `secret_file` "
        "is set; several with commas: the first signs, each is believed",
    )
    secret_file: Annotated[Path | None, BeforeValidator(lambda path: path or None)] = Field(
        default=None, description="holds the secret, or several, one a line; read again when it changes"
    )
    aws: AwsSection = AwsSection()
    redis: RedisSection = RedisSection()
    source: SourceSection = SourceSection()
    retry: RetrySection = RetrySection()
    cells: CellsSection = CellsSection()
    docker: DockerSection = DockerSection()
    ecs: EcsSection = EcsSection()
    api: ApiSection = ApiSection()
    log: LogSection = LogSection()

    @property
    def secrets(self) -> SecretSource:
        """Return where the secrets come from; the environment `live` takes none that can be guessed."""
        return SecretSource(self.secret.get_secret_value(), self.secret_file, refuse_weak=self.environment == LIVE)

    @property
    def chaos(self) -> bool:
        """Return whether faults may be injected: as `cells.chaos` says, else everywhere but in `live`."""
        return self.environment != LIVE if self.cells.chaos is None else self.cells.chaos


_SECTIONS: Final = {
    name: kind
    for name, field in Settings.model_fields.items()
    if isinstance(kind := field.annotation, type) and issubclass(kind, BaseModel)
}


def load(environ: Mapping[str, str]) -> Settings:
    """Return the settings that `environ` and the file make. Raises ConfigError, which names every fault, one a line."""
    settings, faults = check(environ)
    if settings is None:
        raise ConfigError("\n".join(faults))
    return settings


def check(environ: Mapping[str, str]) -> tuple[Settings | None, list[str]]:
    """Return the settings and every fault, as `where: key: what is wrong`; with any fault there are no settings."""
    path = Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None
    text, faults = _read(path)
    document, fault = _parse(path, text)
    inherited = _obey_region(document, environ)
    variables = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name != FILE_VARIABLE}
    if no_texts := [name for name, value in variables.items() if not is_text(f"{name}={value}")]:
        return None, [f"{name}: {'.'.join(_key_of(name))}: must be UTF-8, and is not" for name in no_texts]
    keys = {name: _key_of(name) for name in variables}
    for name, key in keys.items():
        _put(document, key, variables[name])
    where = inherited | {key: name for name, key in keys.items()}
    at_odds = _bad_secret(document)
    try:
        settings = Settings.model_validate(document)
        at_odds += _at_odds(settings)
    except ValidationError as error:
        faults += [described(details, where, path, text, Settings) for details in error.errors()]
    faults += fault + [f"{place(key, where, path, text)}: {'.'.join(key)}: {why}" for key, why in at_odds]
    return (None, sorted(faults, key=natural)) if faults else (settings, [])


def _read(path: Path | None) -> tuple[str, list[str]]:
    if path is None:
        return "", []
    try:
        return path.read_text("utf-8"), []
    except (OSError, UnicodeDecodeError) as error:
        return "", [f"{path}: can't be read: {error}"]


def _parse(path: Path | None, text: str) -> tuple[dict[str, Any], list[str]]:
    try:
        return tomllib.loads(text), []
    except tomllib.TOMLDecodeError as error:
        return {}, [f"{path}: is not TOML: {error}"]
    except RecursionError:
        return {}, [f"{path}: is nested too deeply"]


def _obey_region(document: dict[str, Any], environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Take the region that AWS' own variables name, where the file names none; returns which variable says it."""
    name, aws = next(filter(environ.get, REGION_VARIABLES), ""), document.setdefault("aws", {})
    if name and isinstance(aws, dict) and "region" not in aws:
        aws["region"] = environ[name]
        return {("aws", "region"): name}
    return {}


def _key_of(variable: str) -> tuple[str, ...]:
    """Split a variable's name: CELLROUTER_REDIS_URL is ("redis", "url"), CELLROUTER_SECRET is ("secret",)."""
    rest = variable.removeprefix(PREFIX).lower()
    section, _, key = rest.partition("_")
    return (section, key) if section in _SECTIONS and key else (rest,)


def _put(document: dict[str, Any], key: tuple[str, ...], value: str) -> None:
    if len(key) == 1:
        document[key[0]] = value
        return
    section = document.setdefault(key[0], {})
    if isinstance(section, dict):
        section[key[1]] = value


def _at_odds(settings: Settings) -> list[tuple[tuple[str, ...], str]]:
    """Return the keys whose values are valid by themselves but can't be used so, each with the reason."""
    cells, wait_s, faults = settings.cells, settings.source.wait_s, list[tuple[tuple[str, ...], str]]()
    if cells.drain_timeout_s < wait_s + MIN_DRAIN_S:
        why = (
            f"must be at least {MIN_DRAIN_S:g} s more than source.wait_s ({wait_s}): a router that stops finishes its "
            f"long poll first; it is {cells.drain_timeout_s:g}"
        )
        faults.append((("cells", "drain_timeout_s"), why))
    redis, region = settings.redis, settings.aws.region
    for key, url, source in (
        (("redis", "password_from"), redis.url, redis.password_from),
        (("cells", "redis_password_from"), cells.redis_url or "", cells.redis_password_from),
    ):
        faults += [(key, no_login)] if (no_login := why_no_login(url, source, region)) is not None else []
    if (found := _tls_at_odds(cells)) is not None:
        faults.append((("cells", found[0]), found[1]))
    if cells.provisioner == "ecs":
        faults += settings_ecs.at_odds(settings.ecs, cells.launch_timeout_s)
    return faults


def _tls_at_odds(cells: CellsSection) -> tuple[str, str] | None:
    """Return the key of TLS that others contradict or whose file can't be used, and why; None when all is well."""
    if (cells.tls_cert is None) != (cells.tls_key is None):
        return "tls_cert", "needs cells.tls_key, and that needs cells.tls_cert"
    if cells.tls_ca is None:
        return (
            None if cells.tls_cert is None and cells.tls_dir is None else ("tls_ca", "is required for TLS with cells")
        )
    if cells.tls_dir is None and cells.provisioner not in ("ecs", "external"):
        return "tls_dir", "is required with cells.tls_ca: launched cells need certificates"
    try:
        of_caller(cells.tls_files())
    except TlsError as error:
        return "tls_ca", str(error)
    return None


def _bad_secret(document: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """Return why the secrets can't be used; nothing when they can, or are no texts at all, which pydantic says."""
    environment, secret, file = (document.get(key, "") for key in ("environment", "secret", "secret_file"))
    if not isinstance(secret, str) or not isinstance(file, str):
        return []
    found = SecretSource(secret, Path(file) if file else None, refuse_weak=(environment or LIVE) == LIVE).read()
    return [(("secret_file" if file and not secret else "secret",), found.why)] if isinstance(found, Unreadable) else []
