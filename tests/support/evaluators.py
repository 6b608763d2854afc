"""The processes that evaluate logs, as tests make them."""

from __future__ import annotations

from typing import Final

from botocore.httpsession import get_cert_path

from cell_worker.handlers.security.evaluation.pool import Evaluators
from cell_worker.handlers.security.logs import LogObject
from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.settings import MIB, SHIPPED_RULES
from cell_worker.handlers.security.sigma import RuleSet, load_rules

SOURCE: Final = LogObject("logs", "a.json.gz", None)
PATIENCE_S: Final = 300.0
"""On a busy machine little CPU is left for slow logs."""


def shipped() -> RuleSet:
    """The rules as the handler loads them."""
    return load_rules(SHIPPED_RULES, remedies=REMEDIES.keys())


def evaluating() -> Evaluators:
    """Evaluators that trust what AWS' own clients trust."""
    return Evaluators(str(get_cert_path(verify=True)), 32 * MIB)
