"""CloudTrail log files for demos, tests and benchmarks: made up, or real ones spread over many accounts.

The same arguments give the same bytes. A made-up file says which findings it must lead to (`LogFile.expected`).
"""

from __future__ import annotations

import gzip
import json
import random  # noqa: TID251 - only random.Random(seed): what is generated is a function of the seed
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from router.demo.attacks import ATTACKS, RULE_IDS, Actor, ApiCall, Attack
from router.demo.background import Caller, benign_call

START: Final = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
FILE_INTERVAL: Final = timedelta(minutes=5)
CALL_INTERVAL: Final = timedelta(seconds=7)
REGIONS: Final = ("us-east-1", "eu-central-1", "ap-southeast-2")
FIRST_ACCOUNT: Final = 111_100_000_000
RECORDS_A_FILE: Final = (5, 60)
UNIQUE_CHARS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
ATTACKER_NET: Final = "203.0.113"
OFFICE_NET: Final = "198.51.100"
"""The first three bytes of addresses. Both networks are reserved for documentation: they belong to nobody."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """One CloudTrail log file, as CloudTrail would put it into S3."""

    account: str  # 12 digits
    key: str
    body: bytes  # gzipped JSON
    expected: Counter[str] | None  # rule id → how many findings; None: not known, as for real files
    path: Path | None = None  # of a real file


def account_id(number: int) -> str:
    """Return the 12-digit id of the demo's account with this number, which starts at 0."""
    return f"{FIRST_ACCOUNT + number:012d}"


def generate(files: int, accounts: int, seed: int, attack_share: float = 0.2) -> Iterator[LogFile]:
    """Make up log files, for each account in turn. About `attack_share` of them (0 to 1) contain one attack.

    Attacks are dealt from a shuffled deck: each comes up once before any comes up again.
    Raises ValueError for arguments out of range.
    """
    if files < 0 or accounts < 1 or not 0 <= attack_share <= 1:
        raise ValueError("files >= 0, accounts >= 1 and 0 <= attack_share <= 1 are needed")
    rng = random.Random(seed)  # noqa: S311 - test data, not secrets
    deck: list[Attack] = []
    for number in range(files):
        attack = None
        if rng.random() < attack_share:
            deck = deck or rng.sample(ATTACKS, len(ATTACKS))
            attack = deck.pop()
        yield LogFileBuilder(rng, number, account_id(number % accounts)).file(attack)


def real_files(folder: Path, accounts: int, files: int) -> Iterator[LogFile]:
    """Yield a folder's log files (*.json, *.json.gz) under new keys, again and again until there are `files` of them.

    The keys name `accounts` accounts in turn; the records stay as they are. Raises FileNotFoundError when the folder is
    missing or has no such file.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of CloudTrail log files")
    paths = sorted(path for path in folder.iterdir() if path.name.endswith((".json", ".json.gz")))
    if not paths:
        raise FileNotFoundError(f"{folder}: no *.json or *.json.gz file in it")
    rng = random.Random(0)  # noqa: S311 - names of files, not secrets
    for number in range(files):
        path = paths[number % len(paths)]
        body = path.read_bytes()
        body = body if path.name.endswith(".gz") else _compressed(body)
        builder = LogFileBuilder(rng, number, account_id(number % accounts))
        yield LogFile(builder.account, builder.key(), body, None, path)


class LogFileBuilder:
    """Makes up one log file: fixes its account, region and time, and makes the records from calls."""

    def __init__(self, rng: random.Random, number: int, account: str) -> None:
        self.rng = rng
        self.account = account
        self.region = REGIONS[number % len(REGIONS)]
        self.time = START + FILE_INTERVAL * number

    def key(self) -> str:
        """Return the key under which CloudTrail would put the file."""
        unique = "".join(self.rng.choices(UNIQUE_CHARS, k=16))
        name = f"{self.account}_CloudTrail_{self.region}_{self.time:%Y%m%dT%H%MZ}_{unique}.json.gz"
        return f"AWSLogs/{self.account}/CloudTrail/{self.region}/{self.time:%Y/%m/%d}/{name}"

    def file(self, attack: Attack | None) -> LogFile:
        """Return a file of benign calls, with the attack, if there is one, somewhere among them."""
        records = [self._benign() for _ in range(self.rng.randint(*RECORDS_A_FILE))]
        if attack is not None:
            at = self.rng.randint(0, len(records))
            records[at:at] = self._attack(attack)
        expected = Counter({RULE_IDS[rule]: count for rule, count in attack.finds.items()} if attack else {})
        body = json.dumps({"Records": records}, separators=(",", ":")).encode()
        return LogFile(self.account, self.key(), _compressed(body), expected)

    def _attack(self, attack: Attack) -> list[dict[str, Any]]:
        address = f"{ATTACKER_NET}.{self.rng.randint(1, 254)}"
        identity = self._identity(attack.actor, "mallory")
        return [
            self._record(call, identity, address, self.time + CALL_INTERVAL * index)
            for index, call in enumerate(attack.calls)
        ]

    def _benign(self) -> dict[str, Any]:
        person = self.rng.choice(("alice", "bob", "carol", "deploy"))
        call = benign_call(Caller(self.rng, self.account, person))
        address = f"{OFFICE_NET}.{self.rng.randint(1, 254)}"
        identity = self._identity("user", person)
        return self._record(call, identity, address, self.time + timedelta(seconds=self.rng.randint(0, 299)))

    def _record(self, call: ApiCall, identity: Mapping[str, Any], address: str, time: datetime) -> dict[str, Any]:
        failure = {"errorCode": call.error, "errorMessage": f"{call.name} was refused"} if call.error else {}
        return {
            "eventVersion": "1.11",
            "userIdentity": identity,
            "eventTime": f"{time:%Y-%m-%dT%H:%M:%SZ}",
            "eventSource": f"{call.service}.amazonaws.com",
            "eventName": call.name,
            "awsRegion": self.region,
            "sourceIPAddress": address,
            "userAgent": "aws-cli/2.15.30 Python/3.11.8 Linux/6.1 exe/x86_64",
            **failure,
            "requestParameters": call.request,
            "responseElements": call.response,
            "requestID": self._uuid(),
            "eventID": self._uuid(),
            "readOnly": call.name.startswith(("Get", "List", "Describe", "Lookup", "Head")),
            "eventType": "AwsConsoleSignIn" if call.service == "signin" else "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": self.account,
            "eventCategory": "Management",
            **call.extra,
        }

    def _identity(self, actor: Actor, name: str) -> dict[str, Any]:
        if actor == "root":
            arn = f"arn:aws:iam::{self.account}:root"
            return {"type": "Root", "principalId": self.account, "arn": arn, "accountId": self.account}
        if actor == "instance":
            session = f"i-{self.rng.getrandbits(68):017x}"
            arn = f"arn:aws:sts::{self.account}:assumed-role/web/{session}"
            return {
                "type": "AssumedRole",
                "principalId": f"AROAEXAMPLE:{session}",
                "arn": arn,
                "accountId": self.account,
            }
        return {
            "type": "IAMUser",
            "principalId": f"AIDAEXAMPLE{name.upper()}",
            "arn": f"arn:aws:iam::{self.account}:user/{name}",
            "accountId": self.account,
            "accessKeyId": "AKIAEXAMPLE",
            "userName": name,
        }

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))


def _compressed(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=6, mtime=0)  # no present time in it: the same input gives the same bytes
