"""A release: one image for the workers of all cells, and the waves in which it goes out to them. Pure.

A person proposes it as a part of the policy. What it has come to stands there too, and only the leader writes that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import Final

from router.core.models import Reason, Whole, age_ms

MAX_IMAGE_CHARS: Final = 500
MAX_WAVES: Final = 20
MAX_AT_ONCE: Final = 50  # more cold starts at once would be felt by whatever the cells share
MIN_BAKE_S: Final = 20.0
"""Seconds. What is judged is what was seen within 15 s, and a slow cell has to be slow for 5 s."""
MAX_BAKE_S: Final = 7 * 86400.0
MIN_SLOWER, MAX_SLOWER = 1.1, 10.0
MAX_ERRORS: Final = 0.5
ALL: Final = 100.0  # per cent


class Phase(StrEnum):
    """How far a release is with its present wave, or how it has ended."""

    PROPOSED = "proposed"  # accepted, and nothing is done yet
    CHANGING = "changing"  # cells of the wave get the image
    BAKING = "baking"  # all of them have it, and are judged
    ROLLING_BACK = "rolling back"  # every cell that has it gets the image before again
    DONE = "done"
    ROLLED_BACK = "rolled back"


class ReleaseAction(StrEnum):
    """What the leader does with a release as a whole, as the audit stream calls it."""

    BEGIN = "begin release"
    BAKE = "bake release"
    WAVE = "release wave"
    WAIT = "release waits"
    GO_ON = "release goes on"
    ROLL_BACK = "roll back release"
    ROLLED_BACK = "release rolled back"
    END = "end release"


_ENDED: Final = frozenset({Phase.DONE, Phase.ROLLED_BACK})


@dataclass(frozen=True, slots=True)
class Wave:
    """How many cells have the image once this wave and those before it are through."""

    cells: Whole = 0  # a number of cells; 0: by `percent`
    percent: float = 0.0  # of all cells, each counted by its weight

    def __str__(self) -> str:
        return str(self.cells) if self.cells else f"{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class Release:
    """What a person wants released and how it is judged; from `number` on, what the leader has made of it."""

    image: str
    waves: tuple[Wave, ...]
    bake_s: float = 120.0  # for how long each wave is judged
    at_once: Whole = 3  # cells whose instances are replaced at the same time
    slower: float = 1.5  # times the latency of canaries in cells on the image before: more is bad
    errors: float = 0.02  # share of events, above that of the cells on the image before: more is bad
    number: Whole = 0  # the version of the policy that it began with; 0: a person proposes it
    before: str = ""  # what most cells ran when it began; empty: whatever their provisioner launches by itself
    phase: Phase = Phase.PROPOSED
    wave: Whole = 0  # the present one, from 0
    since_ms: Whole = 0  # when the phase began, or what it waited for was over
    waits: Reason | None = None  # why nothing is changed and nothing is judged now
    why: Reason | None = None  # why it was rolled back, or what has to be known of its end

    @property
    def runs(self) -> bool:
        """Return whether it has not ended yet."""
        return self.phase not in _ENDED

    def has(self, image: str) -> bool:
        """Return whether a cell with this image is one that the release has changed, and that it still answers for."""
        return self.runs and image == self.image

    def image_for(self, has: str) -> str:
        """Return the image of the next instance of a cell, by the one that the cell has now."""
        forward = self.phase not in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
        return self.image if self.phase is Phase.DONE or (forward and self.has(has)) else self.before


def why_bad_release(release: Release | None) -> Iterator[Reason]:
    """Every number and text of a release with which it could not be carried out or judged."""
    if release is None:
        return
    for image in (release.image, release.before):
        if len(image) > MAX_IMAGE_CHARS or not image.isprintable() or " " in image:
            yield f"an image is named by at most {MAX_IMAGE_CHARS} characters without spaces: {image!r:.100}"
    if not release.image:
        yield "a release needs an image"
    yield from _why_bad_waves(release.waves)
    if release.wave >= max(1, len(release.waves)):
        yield "a release can't be at a wave that it doesn't have"
    # A comparison with NaN is always false, so each condition says what is good.
    if not MIN_BAKE_S <= release.bake_s <= MAX_BAKE_S:
        yield f"a wave bakes for {MIN_BAKE_S:g} s to {MAX_BAKE_S / 86400:g} days"
    if not 1 <= release.at_once <= MAX_AT_ONCE:
        yield f"1 to {MAX_AT_ONCE} cells are changed at once"
    if not MIN_SLOWER <= release.slower <= MAX_SLOWER:
        yield f"canaries may be {MIN_SLOWER:g} to {MAX_SLOWER:g} times slower"
    if not 0 <= release.errors <= MAX_ERRORS:
        yield f"the share of errors may rise by 0 to {MAX_ERRORS:g}"


def _why_bad_waves(waves: tuple[Wave, ...]) -> Iterator[Reason]:
    if not 1 <= len(waves) <= MAX_WAVES:
        yield f"a release has 1 to {MAX_WAVES} waves"
        return
    for wave in waves:
        if not (wave.cells or 0 < wave.percent <= ALL):
            yield "a wave is a number of cells from 1, or more than 0 % and at most 100 % of them"
    if waves[-1].cells or waves[-1].percent != ALL:
        yield "the last wave is 100%: else cells would stay on the image before"
    for one, next_one in pairwise(waves):
        if one.percent > next_one.percent > 0 or one.cells > next_one.cells > 0:
            yield f"each wave holds those before it: {next_one} can't follow on {one}"


def why_not_now(
    wanted: Release | None, current: Release | None, image: str, *, takes_images: bool, warm_up_s: float
) -> tuple[Reason, ...]:
    """Say why a release that somebody proposes can't begin; empty when it can, or when none is proposed.

    `image` is the one that all cells have by now, `warm_up_s` the time in which a new instance may be slow.
    """
    if wanted is None or wanted.number:
        return ()
    reasons = []
    if not takes_images:
        reasons.append(
            "the controllers launch no images here: only cells.provisioner docker or ecs does. What something else "
            "starts, or runs as a process, is changed there"
        )
    if current is not None and current.runs:
        reasons.append(
            f"a release of {current.image} is under way: wait for its end, or take it back with "
            f"cellrouter deploy cells --stop"
        )
    if wanted.image == image:
        reasons.append("all cells have this image; one that was left out gets it with its next instance")
    if wanted.bake_s < warm_up_s + MIN_BAKE_S:
        reasons.append(
            f"a new instance may be slow for {warm_up_s:g} s (cells.warm_up_s), so a wave that bakes for "
            f"{wanted.bake_s:g} s says little: bake for {warm_up_s + MIN_BAKE_S:g} s at least"
        )
    return tuple(reasons)


def ruled(wanted: Release | None, current: Release | None, version: int) -> Release | None:
    """Return the release that is in the policy once a wanted policy comes into force in this version.

    A new one begins. One that runs is rolled back when the wanted policy no longer has it; what it has come to is never
    taken from there. One that has ended stays.
    """
    if wanted is not None and not wanted.number:
        return Release(
            wanted.image, wanted.waves, wanted.bake_s, wanted.at_once, wanted.slower, wanted.errors, number=version
        )
    gone = wanted is None or current is None or wanted.number != current.number
    if current is not None and current.runs and gone and current.phase is not Phase.ROLLING_BACK:
        return replace(current, phase=Phase.ROLLING_BACK, since_ms=0, waits=None, why="a person has taken it back")
    return current


def progress(release: Release, now_ms: int) -> str:
    """Say in words how far a release is."""
    wave = f"wave {release.wave + 1} of {len(release.waves)}"
    waits = f"; waits: {release.waits}" if release.waits is not None else ""
    match release.phase:
        case Phase.PROPOSED:
            return "about to begin"
        case Phase.CHANGING:
            return f"{wave}: cells get {release.image}{waits}"
        case Phase.BAKING:
            baked_s = 0 if waits else min(age_ms(release.since_ms, now_ms) / 1000, release.bake_s)
            return f"{wave}, baking {baked_s:.0f} s of {release.bake_s:g} s{waits}"
        case Phase.ROLLING_BACK:
            return f"rolling back to {_named(release.before)}: {release.why}"
        case Phase.DONE:
            return f"done: {release.why}"
        case Phase.ROLLED_BACK:
            return f"rolled back to {_named(release.before)}: {release.why}"


def _named(image: str) -> str:
    return image or "the provisioner's own image"
