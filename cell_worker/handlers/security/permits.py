"""Whether a remedy may act for a record. Whoever can write an object into a bucket can claim anything in it.

A remedy acts when the object lies in a configured bucket, when its key, its event and its record name one account, and
when the record is young. So a writer who is kept to the prefix of one account reaches no other. Remedies are bounded in
number too: an account that may write its own log can't keep the cell busy or use up what AWS allows it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cell_worker.handlers.security.logs import LogObject
from cell_worker.handlers.security.matching import Record
from cell_worker.handlers.security.values import time_of

MAX_AN_OBJECT: Final = 20
"""Remedies for the records of one log object."""
MAX_AHEAD: Final = timedelta(minutes=5)
"""How far a record's time may lie ahead of this machine's clock."""
HOUR_S: Final = 3600.0
MAX_ACCOUNTS: Final = 10_000
"""Accounts whose remedies are counted at once."""


def why_refused(source: LogObject, partition_key: str, record: Record, now: datetime, max_age: timedelta) -> str | None:
    """Say why no remedy may act for this record of this object. None when one may, in the account of the key."""
    account, claimed = source.account, record.get("recipientAccountId")
    if account is None:
        return "the object's key names no account, as CloudTrail's do: AWSLogs/ACCOUNT/CloudTrail/"
    if partition_key != account:
        return f"the object is of account {account} and its event has the key {partition_key:.80}"
    if claimed != account:
        return f"the object is of account {account} and the record claims to be of {claimed!r:.80}"
    return _why_not_now(record, now, max_age)


def _why_not_now(record: Record, now: datetime, max_age: timedelta) -> str | None:
    time = time_of(record.get("eventTime"))
    if time is None or time.tzinfo is None:
        return f"the record has no readable time: {record.get('eventTime')!r:.80}"
    if now - time > max_age:
        return f"the record is of {time:%Y-%m-%dT%H:%M:%SZ}, older than CELL_SECURITY_REMEDY_MAX_AGE_S allows"
    if time - now > MAX_AHEAD:
        return f"the record is of {time:%Y-%m-%dT%H:%M:%SZ}, which lies in the future"
    return None


class Allowance:
    """How many remedies may act: so many an hour for each account, and so many for all. A pause saves up an hour's.

    It is counted in memory: a new instance of the cell begins with all of it.
    """

    def __init__(self, an_hour: int, an_hour_for_account: int) -> None:
        self._all = _Bucket(an_hour)
        self._account_size = an_hour_for_account
        self._accounts: dict[str, _Bucket] = {}

    def why_spent(self, account: str, now: float) -> str | None:
        """Take one remedy of the account, or say why there is none left. `now` is in monotonic seconds."""
        bucket = self._accounts.get(account)
        if bucket is None:
            if len(self._accounts) >= MAX_ACCOUNTS:
                self._accounts = {name: each for name, each in self._accounts.items() if each.full_at > now}
            bucket = self._accounts[account] = _Bucket(self._account_size)
        if not bucket.has_one(now):
            return f"account {account} had its {bucket.size} remedies of the hour (CELL_SECURITY_REMEDIES_PER_ACCOUNT)"
        if not self._all.has_one(now):
            return f"this cell had its {self._all.size} remedies of the hour (CELL_SECURITY_REMEDIES_PER_HOUR)"
        bucket.take(now)
        self._all.take(now)
        return None

    def give_back(self, account: str, count: int) -> None:
        """Give back remedies of an event that is tried again as a whole."""
        for bucket in (self._all, self._accounts[account]) if count else ():
            bucket.full_at -= count * bucket.interval_s


class _Bucket:
    """A token bucket that holds an hour's remedies, kept as the time at which it is full again (GCRA)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.interval_s = HOUR_S / size
        self.full_at = 0.0

    def has_one(self, now: float) -> bool:
        return self.full_at - now <= HOUR_S - self.interval_s + 1e-6

    def take(self, now: float) -> None:
        self.full_at = max(self.full_at, now) + self.interval_s
