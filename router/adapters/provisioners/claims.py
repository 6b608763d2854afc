"""Keeps a folder of cells to the one environment that has used it first: volumes and process ids are its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from router.core.models import Reason

MARK: Final = "environment"
_MOST_BYTES: Final = 64  # of the mark: a name has 40 at most


def why_not_claimed(folder: Path, environment: str) -> Reason | None:
    """Claim a folder for an environment, or say whose it is already; None when it is ours. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    mark, new = folder / MARK, folder / f"{MARK}.{os.getpid()}"
    new.write_text(environment)
    try:
        os.link(new, mark)  # whole or not at all, whoever else claims it at this moment
    except FileExistsError:
        pass
    finally:
        new.unlink(missing_ok=True)
    with mark.open("rb") as file:
        owner = file.read(_MOST_BYTES + 1)
    if owner == environment.encode():
        return None
    whose = owner.decode(errors="replace")[:_MOST_BYTES]
    return f"{folder} is of the environment {whose}, whose cells' volumes are there: name another folder"
