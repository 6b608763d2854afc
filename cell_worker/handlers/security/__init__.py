"""The workload that ships: security monitoring of AWS accounts from their CloudTrail logs in S3."""

from cell_worker.handlers.security.handler import SecurityMonitor

__all__ = ["SecurityMonitor"]
