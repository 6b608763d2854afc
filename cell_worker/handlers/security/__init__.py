"""The workload that ships: security monitoring of AWS accounts from their CloudTrail logs in S3.

It needs the extra `security`. Without it the import raises a ModuleNotFoundError that says how to install it.
"""

try:
    from cell_worker.handlers.security.handler import SecurityMonitor
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] not in {"sigma", "yaml"}:  # what the extra brings
        raise
    raise ModuleNotFoundError("it needs more packages: pip install 'cellrouter[security]'", name=error.name) from error

__all__ = ["SecurityMonitor"]
