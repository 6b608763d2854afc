"""The workload that ships: security monitoring of AWS accounts from their CloudTrail logs in S3.

It needs the extra `security`. Without it the import raises a ModuleNotFoundError that says how to install it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cell_worker.handlers.security.handler import SecurityMonitor

__all__ = ["SecurityMonitor"]


def __getattr__(name: str) -> Any:
    """Import the handler when it is asked for: the processes that evaluate logs need no client of AWS."""
    if name != "SecurityMonitor":
        raise AttributeError(name)
    try:
        from cell_worker.handlers.security.handler import SecurityMonitor  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"sigma", "yaml"}:  # what the extra brings
            raise
        why = "it needs more packages: pip install 'cellrouter[security]'"
        raise ModuleNotFoundError(why, name=error.name) from error
    return SecurityMonitor
