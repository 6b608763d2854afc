"""Tokens of an identity provider: whom they let in, and what becomes of them while the provider is away."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self, cast

import aiohttp
import pytest

jwt = pytest.importorskip("jwt")

from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402 - it comes with the extra
from structlog.testing import capture_logs  # noqa: E402 - as above

from router.adapters.oidc import AGAIN_S, FRESH_S, KEPT_S, MAX_KEYS, Oidc, OidcConfig  # noqa: E402 - as above
from router.core.callers import ApiCaller, Role  # noqa: E402 - as above
from tests.support.fake_clock import FakeClock, play  # noqa: E402 - as above

ISSUER: Final = "https://login.example"
CONFIG: Final = OidcConfig(ISSUER, "cellrouter", "realm.roles", "cellrouter-view", "cellrouter-operate")


class Provider:
    """An identity provider, as a session reads it; its keys can be changed, and it can be away."""

    def __init__(self) -> None:
        self.keys = {"one": ec.generate_private_key(ec.SECP256R1())}
        self.away = False
        self.reads = 0
        self.answers: dict[str, Any] = {}  # in place of what it would answer, by the end of the address
        self.status = 200
        self.content = self

    def get(self, url: str, *, allow_redirects: bool) -> Self:
        assert not allow_redirects
        self.reads += 1
        if self.away:
            raise aiohttp.ClientError("it is away")
        end = url.rpartition("/")[2]
        jwks = {"keys": [self._public(name) for name in self.keys]}
        own = {"openid-configuration": {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}, "jwks": jwks}
        found = self.answers.get(end, own[end])
        self._raw = found if isinstance(found, bytes) else json.dumps(found).encode()
        return self

    def _public(self, name: str) -> dict[str, Any]:
        public = jwt.algorithms.ECAlgorithm.to_jwk(self.keys[name].public_key())
        found: dict[str, Any] = json.loads(public)
        return found | {"kid": name, "use": "sig"}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def read(self, most: int) -> bytes:
        found, self._raw = self._raw[:most], self._raw[most:]
        return found


class World:
    """A provider, who believes it, and the tokens that it gives out."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.provider = Provider()
        self.oidc = Oidc(CONFIG, cast("Any", self.provider), self.clock)

    def token(self, key: str = "one", **claims: Any) -> str:
        """Make a token for somebody who may operate, of which some claims are others; None leaves one out."""
        given: dict[str, Any] = {"iss": ISSUER, "aud": "cellrouter", "sub": "7", "exp": 9e9}
        given |= {"realm": {"roles": ["cellrouter-operate"]}} | claims
        given = {name: value for name, value in given.items() if value is not None}
        return str(jwt.encode(given, self.provider.keys[key], algorithm="ES256", headers={"kid": key}))


def told(story: Callable[[World], Coroutine[Any, Any, None]]) -> World:
    """Play a story."""
    world = World()
    play(world.clock, story(world))
    return world


def test_a_token_says_who_it_is_and_what_they_may_do() -> None:
    """By the subject, which is nobody else's; roles are a list or words, wherever the setting says."""

    async def story(world: World) -> None:
        ask = world.oidc.caller_of
        dotted: dict[str, Any] = {"realm": "x", "realm.roles": ["cellrouter-view"]}
        assert await ask(world.token(email="otto@x.example")) == ApiCaller("otto@x.example (7)", Role.OPERATE)
        assert await ask(world.token(realm={"roles": "other cellrouter-view"})) == ApiCaller("7", Role.VIEW)
        assert await ask(world.token(realm={"roles": ["admin"]})) is None
        assert await ask(world.token(realm=None)) is None
        assert await ask(world.token("one", **dotted)) == ApiCaller("7", Role.VIEW)

    assert told(story).provider.reads == 2, "the keys are read once"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"nbf": 8e9},
    ],
    ids=str,
)
def test_a_token_for_another_time_place_or_reader_is_not_believed(claims: dict[str, Any]) -> None:
    """However well it is signed."""

    async def story(world: World) -> None:
        assert await world.oidc.caller_of(world.token(**claims)) is None

    told(story)


def test_no_other_signature_is_believed() -> None:
    """None at all, one by a secret made of the public key, by another key of the same name, or garbage."""

    async def story(world: World) -> None:
        good = world.token()
        assert await world.oidc.caller_of(good) is not None
        payload = jwt.decode(good, options={"verify_signature": False})
        head, body, signature = good.split(".")
        other = World().token()
        public = world.provider._public("one")
        for forged in (
            jwt.encode(payload, None, algorithm="none", headers={"kid": "one"}),
            jwt.encode(payload, public["x"].ljust(64, "."), algorithm="HS256", headers={"kid": "one"}),
            other,
            f"{head}.{body}.",
            f"{head}.{body}.{signature[:-4]}AAAA",
            f"{head}.{body[:-2]}.{signature}",
            "..",
            "a.b",
            "e30.e30.e30",
            "W1tb" * 1500 + ".e30.x",
            "x" * 9000,
        ):
            assert await world.oidc.caller_of(forged) is None, forged[:80]

    told(story)


def test_a_provider_that_is_away_changes_nothing_for_a_day() -> None:
    """It is asked seldom, whatever keys tokens name, and told of once."""

    async def story(world: World) -> None:
        good = world.token()
        assert await world.oidc.caller_of(good) is not None
        world.provider.away, world.provider.reads = True, 0
        with capture_logs() as logs:
            for _ in range(50):
                await world.clock.sleep(FRESH_S / 10)
                assert await world.oidc.caller_of(good) is not None
        assert [entry["log_level"] for entry in logs] == ["warning"]
        assert world.provider.reads <= 50
        await world.clock.sleep(KEPT_S)
        assert await world.oidc.caller_of(good) is None
        world.provider.away = False
        await world.clock.sleep(AGAIN_S)
        assert await world.oidc.caller_of(good) is not None

    told(story)


def test_new_keys_are_read_when_a_token_names_them_and_not_more_often_for_a_flood() -> None:
    """A rotation lets nobody wait for long; what names no key of the provider's costs it nothing."""

    async def story(world: World) -> None:
        await world.oidc.caller_of(world.token())
        world.provider.keys["two"] = ec.generate_private_key(ec.SECP256R1())
        await world.clock.sleep(AGAIN_S)
        assert await world.oidc.caller_of(world.token("two")) is not None
        world.provider.reads = 0
        forged = jwt.encode({}, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": "three"})
        for _ in range(100):
            assert await world.oidc.caller_of(forged) is None
        assert world.provider.reads == 0

    told(story)


@pytest.mark.parametrize(
    "answers",
    [
        {"openid-configuration": b"[" * 100_000},
        {"openid-configuration": {"issuer": "https://evil.example", "jwks_uri": f"{ISSUER}/jwks"}},
        {"openid-configuration": {"issuer": ISSUER, "jwks_uri": "http://login.example/jwks"}},
        {"jwks": b"x" * 300_000},
        {"jwks": {"keys": []}},
        {"jwks": {"keys": [{"kty": "oct", "kid": "one", "k": "c2VjcmV0"}]}},
        {"jwks": {"keys": [{"kty": "EC", "kid": "one"}]}},
        {"jwks": {"keys": [{}] * (MAX_KEYS + 1)}},
    ],
    ids=lambda answers: str(answers)[:60],
)
def test_what_a_provider_must_not_say_is_not_believed(answers: dict[str, Any]) -> None:
    """A key that is a secret, keys where no TLS is, another issuer's, too many or too long: nobody gets in by it."""

    async def story(world: World) -> None:
        world.provider.answers = answers
        with capture_logs() as logs:
            assert await world.oidc.caller_of(world.token()) is None
        assert [entry["log_level"] for entry in logs] == ["warning"]

    told(story)
