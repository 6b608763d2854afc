"""Releases of images under a steady load: a good one goes out wave by wave, bad ones are stopped in wave 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compose_world import CELLS, ComposeSystem, Load
from tests.support.docker import IMAGE, docker

pytestmark = pytest.mark.alone

RATE = 12.0  # log files a second: enough in one cell for its share of failures to say something
SITE = "/opt/cellrouter/lib/python3*/site-packages"
FAILS = """
from cell_worker.handlers.security import SecurityMonitor
handle, seen = SecurityMonitor.__call__, 0
async def fails_often(self, *given, **named):
    global seen
    seen += 1
    if seen % 5 == 0:
        raise RuntimeError("a fault of this release")
    return await handle(self, *given, **named)
SecurityMonitor.__call__ = fails_often
"""
STEPS = {
    "good": "LABEL release=good",
    "crashes": "USER root\nRUN printf '#!/bin/sh\\necho a fault of this release >&2\\nexit 3\\n' "
    "> /opt/cellrouter/bin/cell-worker\nUSER 10001:10001",
    "fails": f"USER root\nCOPY faulty_release.py /tmp/\nRUN cp /tmp/faulty_release.py {SITE}/ && "
    f"echo import faulty_release > $(echo {SITE})/faulty_release.pth\nUSER 10001:10001",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, system: ComposeSystem) -> Iterator[dict[str, str]]:
    """Images made from the system's own, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "faulty_release.py").write_text(FAILS)
    made = {name: f"{system.compose.project}-{name}:1" for name in STEPS}
    for name, steps in STEPS.items():
        file = Path(folder / f"Dockerfile.{name}")
        file.write_text(f"FROM {IMAGE}\n{steps}\n")
        docker("build", "--tag", made[name], "--file", str(file), str(folder))
    yield made
    deploy(system, IMAGE, "100%")  # the tests after these find the system as it was, and no image is in use
    for image in made.values():
        docker("image", "rm", "--force", image, check=False)


@pytest.fixture(scope="module")
def load(system: ComposeSystem) -> Iterator[Load]:
    """More than the other tests' load."""
    with Load(f"http://{system.compose.address('localstack', 4566)}", RATE) as running:
        yield running


def deploy(system: ComposeSystem, image: str, waves: str) -> str:
    """Release an image and follow it to its end; return what the command says."""
    lenient = ("--slower", "10", "--at-once", "1")  # launches slow all cells of one small machine, whatever the image
    command = ("cellrouter", "deploy", "cells", "--image", image, "--waves", waves, "--bake", "25", "--yes", *lenient)
    said = system.compose("exec", "-T", "--user", "10001", "controller-0", *command, check=False)
    print(said)  # noqa: T201 - pytest shows it after a failure
    return said


def images_of(system: ComposeSystem) -> dict[str, str]:
    """The image of each cell's container, by the engine's word."""
    serving = system.serving()
    return {
        cell: docker("inspect", "--format", "{{.Config.Image}}", system.container(cell, serving[cell])).strip()
        for cell in CELLS
    }


@pytest.mark.parametrize("fault", ["crashes", "fails"])
def test_a_bad_image_is_stopped_in_wave_1_and_rolled_back(
    system: ComposeSystem, load: Load, images: dict[str, str], fault: str
) -> None:
    """At most one cell gets another instance, the audit says why, and nothing is lost."""
    before, ran = system.serving(), images_of(system)
    said = deploy(system, images[fault], "1,25%,100%")
    assert "rolled back to" in said
    assert "wave 1 of 3" in said
    why = "exit code 3" if fault == "crashes" else "events fail"
    assert [e for e in system.audit() if e["action"] == "roll back release" and why in e["why"]]
    assert images_of(system) == ran
    changed = [cell for cell, generation in system.serving().items() if generation != before[cell]]
    assert len(changed) == (fault == "fails")
    assert load.accounted().dead_lettered == 0


def test_a_good_image_goes_out_in_waves(system: ComposeSystem, load: Load, images: dict[str, str]) -> None:
    """Every cell runs it; no key has moved, and no event was lost or done twice."""
    before = system.serving()
    said = deploy(system, images["good"], "1,100%")
    assert "done: wave 2 of 2 is good" in said
    assert set(images_of(system).values()) == {images["good"]}
    after = system.serving()
    assert all(after[cell] > generation for cell, generation in before.items())
    load.stop()
    ledger = load.accounted()
    assert (ledger.lost, ledger.duplicates, ledger.dead_lettered, ledger.keys_moved) == (0, 0, 0, 0)
