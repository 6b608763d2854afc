"""The errors of the router, with one root. Adapters translate what their drivers raise and keep it as `__cause__`."""


class CellRouterError(Exception):
    """The root of all errors that the router raises on purpose."""


class ConfigError(CellRouterError):
    """The configuration can't be used; the text names every fault, one a line, and what to do."""


class SourceUnavailableError(CellRouterError):
    """A whole call to a queue or to S3 failed; whether it had an effect is not known."""


class SourceMissingError(SourceUnavailableError):
    """There is no such queue; somebody may create it again."""


class SourceDeniedError(SourceUnavailableError):
    """AWS refuses us, for our credentials, our rights or a key of KMS: no event is at fault, and people mend it."""


class RegistryUnavailableError(CellRouterError):
    """The registry can't be reached or read; what was read last stays in force."""


class NotLeaderError(CellRouterError):
    """A write was refused because another controller has taken the leadership since."""


class NoLeaderError(RegistryUnavailableError):
    """No controller leads, so the policy can't be changed."""


class PolicyRefusedError(CellRouterError):
    """The leader refused a change of the policy; the text names every reason, one a line."""


class BadEditError(CellRouterError):
    """An edit of the policy asks for what nobody can want; the text says why, and what can be."""


class NoSuchCellError(CellRouterError):
    """An edit or a question is about a cell that there is not; the text lists those that there are."""


class NothingToChangeError(CellRouterError):
    """An edit that is meant to change something changes nothing; the text says why."""


class PlanChangedError(CellRouterError):
    """What a person has agreed to is not what would be done now; the text says what would be."""


class CellUnavailableError(CellRouterError):
    """The cell could not be reached or stopped answering; events without a result have the outcome `retry`."""

    def __init__(self, text: str, *, reached: bool = True) -> None:
        self.reached = reached  # False: no instance got any of the request
        super().__init__(text)


class NoDescriptorError(CellUnavailableError):
    """This process has no file descriptor left to call a cell with, which says nothing of the cell."""

    def __init__(self, text: str) -> None:
        super().__init__(text, reached=False)


class NotBegunError(CellUnavailableError):
    """The cell has begun nothing of what it was given, which says nothing of how well it is."""


class CellRefusedError(CellRouterError):
    """The cell answered and took no event: wrong generation (409), draining (503), no trust (401)."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail  # what it said
        super().__init__(f"refused with HTTP {status}: {detail}")


class ChaosRefusedError(CellRouterError):
    """The instance does not allow fault injection, or can't inject this fault; the text says why."""


class ProvisionError(CellRouterError):
    """A provisioner or AWS could not do what was asked; the text says what and why."""


class NotYetError(ProvisionError):
    """What was asked for is being made, which takes minutes; the text says how far it is. Ask again."""


class PayloadMissingError(CellRouterError):
    """There is no such object, or S3 says the name can't be one; trying again won't help."""


class PayloadTooLargeError(CellRouterError):
    """The object is larger than what may be read; none of it was kept."""


class MalformedMessageError(CellRouterError):
    """A message holds no event that can be routed; the text says why, for a person."""


class UnconfirmedSubscriptionError(MalformedMessageError):
    """A message is no event but SNS' question about a subscription, which only people answer."""
