"""The sections of the configuration: every key with its type, its bounds, its default and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cell_worker.contract.tls import TlsFiles
from router.adapters.api_tokens import TokenSource
from router.settings_values import (
    BucketName,
    EmittedFolders,
    HandlerName,
    HostNames,
    HttpUrl,
    IssuerUrl,
    JmesPath,
    Labels,
    Name,
    Networks,
    Port,
    QueueText,
    RedisUrl,
    Region,
    Seconds,
    SourceText,
    TableName,
)

OptionalPath = Annotated[Path | None, BeforeValidator(lambda path: path or None)]


class Section(BaseModel):
    """A part of the configuration, which no key that it doesn't know gets into."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AwsSection(Section):
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


class RedisSection(Section):
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


class SourceSection(Section):
    """The queue that events arrive on, and how they are read from it."""

    queue: SourceText = Field(
        default="cellrouter-events",
        description="the source queue, by its name, URL or ARN; FIFO when that ends with .fifo; in an environment "
        "other than `live` PREFIX-ENVIRONMENT-events",
    )
    dead_letter_queue: QueueText = Field(
        default="cellrouter-dead-letters",
        description="the dead-letter queue, by its name, URL or ARN; elsewhere than in `live` "
        "PREFIX-ENVIRONMENT-dead-letters",
    )
    quarantine_queue: QueueText = Field(
        default="cellrouter-quarantine",
        description="where the events of quarantined keys wait, by its name, URL or ARN; elsewhere than in `live` "
        "PREFIX-ENVIRONMENT-quarantine",
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
        default="", description="JMESPath to an id that no two events of a key share; empty: see events.md"
    )
    payload_bucket: BucketName = Field(
        default="",
        description="bucket that S3 pointers of SQS' extended client may name; empty: pointers are not accepted",
    )


class ArchiveSection(Section):
    """Whether routers keep every event that has ended in S3, for queries and for replays: see reference/archive.md."""

    enabled: bool = Field(default=False, description="whether routers write the archive")
    bucket: BucketName = Field(
        default="",
        description="where to; empty: PREFIX-ENVIRONMENT-archive, which `cellrouter init` makes where it is enabled",
    )
    days: int = Field(
        default=30,
        ge=1,
        le=3650,
        description="after so many days S3 deletes what is archived, by the rule that `cellrouter init` writes",
    )


class RetrySection(Section):
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


class CellsSection(Section):
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
    table: TableName = Field(
        default="",
        description="the name of a table of its own that the workload wants in each cell, such as `shop`; in DynamoDB "
        "it is PREFIX-ENVIRONMENT-CELL-NAME, has a stream and an index, and outlives the cell; empty: none",
    )
    emitted_path: EmittedFolders = Field(
        default="",
        description="the folders of what cells emit, by its members, such as `sales/shop={shop}/day={day}/`; for "
        "streams that are made from then on; empty: folders by the time of arrival",
    )
    data_dir: Path = Field(
        default=Path("cellrouter-data"),
        description="holds the cells' volumes, logs and process ids, and the last routing of a router; elsewhere than "
        "in `live` cellrouter-data-ENVIRONMENT",
    )
    redis_url: RedisUrl | None = Field(
        default=None,
        repr=False,
        description="where Redis is for workers, best with a user of their own; not set: redis.url",
    )
    redis_password_from: str = Field(default="", repr=False, description="as `redis.password_from`, for `redis_url`")
    concurrency: int = Field(default=16, ge=1, le=1000, description="how many events a worker works on at once")
    side_effects: bool = Field(
        default=False, description="whether handlers may change things outside the cell; only in the environment `live`"
    )
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
        default=60.0,
        ge=0,
        le=3600,
        description="how long a new instance may be slow before it counts as sick, unless a younger one is not",
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


class DockerSection(Section):
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


class ApiSection(Section):
    """Where a router or controller serves its dashboard, the Admin API, /healthz, /readyz, /metrics and more."""

    host: str = Field(default="127.0.0.1", description="address to listen on; `::` for all, of IPv4 and IPv6")
    port: Port = Field(default=8080, description="port to listen on")
    allowed_hosts: HostNames = Field(
        default="",
        description="names with a dot that it answers under, separated by commas; it always does under IP addresses, "
        "names without a dot, and `host`",
    )
    tokens: str = Field(
        default="",
        repr=False,
        description="who may use the Admin API: NAME:ROLE:sha256-HASH with commas between, as `cellrouter token` makes "
        "them; without any, it answers only on its own machine",
    )
    tokens_file: OptionalPath = Field(
        default=None, description="holds the same, one a line; read again when it changes"
    )
    oidc_issuer: IssuerUrl = Field(
        default="",
        description="an OpenID Connect provider whose tokens are believed too, as it names itself: https://…",
    )
    oidc_audience: str = Field(
        default="", max_length=300, description="for whom such a token must be; required with it"
    )
    oidc_role_claim: str = Field(
        default="roles", min_length=1, max_length=200, description="the claim that holds roles, as `realm_access.roles`"
    )
    oidc_view: str = Field(
        default="cellrouter-view", min_length=1, max_length=200, description="the role there that may look"
    )
    oidc_operate: str = Field(
        default="cellrouter-operate",
        min_length=1,
        max_length=200,
        description="the role there that may change things too",
    )

    def token_source(self) -> TokenSource:
        """Return where the tokens of the Admin API are."""
        return TokenSource(self.tokens, self.tokens_file)

    @property
    def sign_in(self) -> bool:
        """Whether who changes something has to have a token."""
        return self.token_source().is_set or bool(self.oidc_issuer)


class DrillsSection(Section):
    """Experiments that make a cell fail on purpose, by `cellrouter drill`: see how-to/drill.md."""

    in_live: bool = Field(default=False, description="whether drills are done in the environment `live` too")


class LogSection(Section):
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the lowest level that is logged"
    )
    format: Literal["json", "console"] = Field(default="json", description="JSON lines, or text for people")


class TracingSection(Section):
    """OpenTelemetry traces of events. Its own variables, `OTEL_*`, say where they go and how many are taken."""

    on: bool = Field(default=False, description="whether events are traced; needs the extra `tracing`")
