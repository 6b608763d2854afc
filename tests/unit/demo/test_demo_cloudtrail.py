"""The demo's made-up and real CloudTrail files."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from router.demo.attacks import ATTACKS
from router.demo.cloudtrail import generate, real_files

KEY = re.compile(
    r"AWSLogs/(\d{12})/CloudTrail/([a-z0-9-]+)/(\d{4})/(\d\d)/(\d\d)/\1_CloudTrail_\2_\3\4\5T\d{4}Z_[A-Za-z0-9]{16}\.json\.gz"
)


def test_the_same_seed_gives_the_same_bytes() -> None:
    """The same arguments give the same files, and another seed gives others."""
    first, again, other = (list(generate(30, 4, seed, 0.5)) for seed in (1, 1, 2))
    assert first == again
    assert {file.body for file in first}.isdisjoint(file.body for file in other)
    assert {file.body[4:8] for file in first} == {bytes(4)}  # where gzip has the time of compression


def test_files_look_as_cloudtrail_writes_them() -> None:
    """Keys have CloudTrail's form and are unique; records name the account and have ids of their own."""
    files = list(generate(60, 5, 3, 0.5))
    assert len({file.key for file in files}) == 60
    ids = []
    for file in files:
        match = KEY.fullmatch(file.key)
        assert match, file.key
        assert match[1] == file.account
        records = json.loads(gzip.decompress(file.body))["Records"]
        assert {record["recipientAccountId"] for record in records} == {file.account}
        ids += [record["eventID"] for record in records]
    assert len(ids) == len(set(ids)) > 300


def test_accounts_share_the_files_evenly() -> None:
    """Each account gets as many files as the others."""
    accounts = [file.account for file in generate(20, 4, 1)]
    assert sorted(accounts.count(account) for account in set(accounts)) == [5, 5, 5, 5]


def test_every_attack_comes_up_before_any_repeats() -> None:
    """With an attack in each file, as many files as there are attacks show each attack once."""
    expected = [file.expected for file in generate(len(ATTACKS), 1, 5, attack_share=1)]
    dealt = sorted(sum(each.values()) for each in expected if each is not None)
    assert dealt == sorted(sum(attack.finds.values()) for attack in ATTACKS)


@pytest.mark.parametrize(("share", "low", "high"), [(0, 0, 0), (0.2, 20, 70), (1, 200, 200)])
def test_the_share_of_attacks(share: float, low: int, high: int) -> None:
    """About as many files as asked for contain an attack."""
    assert low <= sum(1 for file in generate(200, 3, 1, share) if file.expected) <= high


@pytest.mark.parametrize(("files", "accounts", "share"), [(-1, 1, 0.1), (1, 0, 0.1), (1, 1, 1.5)])
def test_arguments_out_of_range(files: int, accounts: int, share: float) -> None:
    """Arguments for which no files can be made raise ValueError."""
    with pytest.raises(ValueError, match="are needed"):
        next(generate(files, accounts, 1, share))


def test_real_files_are_repeated_under_new_keys(tmp_path: Path) -> None:
    """Two files on disk become five in S3, over two accounts, gzipped and with unchanged records."""
    (tmp_path / "a.json").write_bytes(b'{"Records": [1]}')
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(b'{"Records": [2]}'))
    (tmp_path / "LICENSE").write_text("not a log")
    files = list(real_files(tmp_path, accounts=2, files=5))
    assert [gzip.decompress(file.body)[-3:-2] for file in files] == [b"1", b"2", b"1", b"2", b"1"]
    assert [file.path.name for file in files if file.path] == ["a.json", "b.json.gz", "a.json", "b.json.gz", "a.json"]
    assert len({file.key for file in files}) == 5
    assert len({file.account for file in files}) == 2
    assert all(KEY.fullmatch(file.key) and file.account in file.key and file.expected is None for file in files)


def test_no_real_files_is_an_error(tmp_path: Path) -> None:
    """The error names the folder, whether it is missing or has no log files."""
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FileNotFoundError, match=re.escape(str(folder))):
            next(real_files(folder, 1, 1))
