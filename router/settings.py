"""The configuration: one TOML file (`CELLROUTER_CONFIG`) and `CELLROUTER_<SECTION>_<KEY>` variables, which win over it.

Settings only collect what the parts of a process need. `check` names every fault at once, with its key and its place.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, ValidationError, model_validator

from cell_worker.contract.addresses import why_no_login
from cell_worker.contract.place import REGION_VARIABLES
from cell_worker.contract.strict_reader import Unreadable
from cell_worker.contract.texts import is_text
from cell_worker.contract.tls import TlsError, of_caller
from router import settings_ecs
from router.adapters.secret_source import SecretSource
from router.core.config_text import FILE_VARIABLE, OF_COMMANDS, natural
from router.core.environments import LIVE, QUEUES, why_no_side_effects, with_own_names
from router.core.errors import ConfigError
from router.core.queue_names import why_out_of_reach
from router.settings_ecs import EcsSection
from router.settings_faults import described, place
from router.settings_sections import (
    ApiSection,
    ArchiveSection,
    AwsSection,
    CellsSection,
    DockerSection,
    DrillsSection,
    LogSection,
    RedisSection,
    RetrySection,
    Section,
    SourceSection,
    TracingSection,
)
from router.settings_values import Name

PREFIX: Final = "CELLROUTER_"
QUEUE_KEYS: Final = tuple(QUEUES)
"""The keys of the section `source` that name queues."""
MIN_DRAIN_S: Final = 2.0  # left for draining after a long poll has ended


class Settings(Section):
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
    lean_http: bool = Field(
        default=True,
        description="call SQS and cells by the lean HTTP client; false: by aiohttp, at more than three times the CPU",
    )
    aws: AwsSection = AwsSection()
    redis: RedisSection = RedisSection()
    source: SourceSection = SourceSection()
    archive: ArchiveSection = ArchiveSection()
    retry: RetrySection = RetrySection()
    cells: CellsSection = CellsSection()
    docker: DockerSection = DockerSection()
    ecs: EcsSection = EcsSection()
    api: ApiSection = ApiSection()
    drills: DrillsSection = DrillsSection()
    log: LogSection = LogSection()
    tracing: TracingSection = TracingSection()

    @model_validator(mode="before")
    @classmethod
    def _has_own_names(cls, document: Any) -> Any:
        return with_own_names(document) if isinstance(document, Mapping) else document

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
    variables = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in OF_COMMANDS}
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
    faults += [
        (("source", key), no_reach)
        for key in QUEUE_KEYS
        if (no_reach := why_out_of_reach(getattr(settings.source, key), region)) is not None
    ]
    if (why_none := why_no_side_effects(settings.environment, wanted=cells.side_effects)) is not None:
        faults.append((("cells", "side_effects"), why_none))
    if (found := _tls_at_odds(cells)) is not None:
        faults.append((("cells", found[0]), found[1]))
    if isinstance(tokens := settings.api.token_source().read(), Unreadable):
        faults.append((("api", "tokens" if settings.api.tokens else "tokens_file"), tokens.why))
    if settings.api.oidc_issuer and not settings.api.oidc_audience:
        faults.append((("api", "oidc_audience"), "is required with api.oidc_issuer: for whom its tokens must be"))
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
