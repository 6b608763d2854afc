"""The CloudFormation templates, as the package has them.

They lie in deploy/cloudformation; router/cloudformation leads there, so that package, image and checkout have the same.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final, Literal

MAX_BODY_BYTES: Final = 51_200
"""CloudFormation takes no longer template in a call; a longer one has to lie in a bucket."""


def template(name: Literal["platform", "cell"]) -> str:
    """Return a template as CloudFormation takes it."""
    return files("router").joinpath("cloudformation", f"{name}.yaml").read_text("utf-8")
