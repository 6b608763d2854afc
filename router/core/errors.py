"""The one family of errors. Adapters translate what their driver raises into these and keep it as `__cause__`."""


class CellRouterError(Exception):
    """The root."""


class ConfigError(CellRouterError):
    """The configuration can't be used; the text names every fault and what to do."""


class SourceUnavailableError(CellRouterError):
    """A whole call to a queue failed: nothing is known to have happened."""


class SourceMissingError(SourceUnavailableError):
    """There is no such queue; somebody may make it anew."""


class RegistryUnavailableError(CellRouterError):
    """The registry can't be reached or doesn't answer; what was read last stays in force."""


class NotLeaderError(CellRouterError):
    """A write was refused because another controller leads, or led later."""


class NoLeaderError(RegistryUnavailableError):
    """No controller leads, so nothing can be changed."""


class PolicyRefusedError(CellRouterError):
    """The leader refused a change of the policy; the text names every reason, a line each."""


class CellUnavailableError(CellRouterError):
    """The cell could not be reached, or stopped answering: what it has not answered has the outcome `retry`."""

    def __init__(self, text: str, *, reached: bool = True) -> None:
        self.reached = reached  # False: no instance got anything of it
        super().__init__(text)


class CellRefusedError(CellRouterError):
    """The cell answered and took nothing: not its generation (409), draining (503), wrong secret (401)."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(f"refused with HTTP {status}: {detail}")


class ChaosRefusedError(CellRouterError):
    """The instance doesn't allow fault injection, or can't do this one; the text says why."""


class ProvisionError(CellRouterError):
    """An instance could not be launched or stopped."""


class PayloadMissingError(CellRouterError):
    """There is no such object, or S3 takes the name for none; it won't get better."""


class PayloadTooLargeError(CellRouterError):
    """The object is larger than what may be read; nothing of it was kept."""


class MalformedMessageError(CellRouterError):
    """A message holds no event that could be routed; the text says why, for a person."""
