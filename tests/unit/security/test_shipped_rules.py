"""The shipped rules: each one finds its attack and nothing else, in generated logs and in real ones."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
import yaml

from cell_worker.handlers.security.logs import LogObject, parse
from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.settings import MIB, SHIPPED_RULES
from cell_worker.handlers.security.sigma import load_rules
from router.demo.attacks import ATTACKS, RULE_IDS
from router.demo.cloudtrail import generate, real_files
from tests.support.paths import REPOSITORY

REAL_DATA = REPOSITORY.parent / "shared" / "data" / "cloudtrail"
RULES = load_rules(SHIPPED_RULES, remedies=REMEDIES.keys())
NAMES = {rule_id: name for name, rule_id in RULE_IDS.items()}
COUNTED_ONLY = {"secret_read", "parameter_decrypted", "user_data_read"}

REAL_FINDINGS = {
    "cloudtrail_logging_stopped": 4,
    "cloudtrail_trail_narrowed": 1,
    "console_login_without_mfa": 1,
    "gpu_instances_started": 1,
    "lambda_open_to_all": 1,
    "log_group_deleted": 1,
    "organization_left": 1,
    "parameters_mass_read": 2,
    "roles_anywhere_trust": 1,
    "s3_objects_expire_soon": 1,
    "secrets_mass_read": 2,
    "snapshot_shared": 1,
    "ssm_shell_command": 1,
    "user_data_mass_read": 1,
    "windows_password_read": 5,
}
"""What the known techniques left in the 1666 real records, checked by hand against them."""


def found(body: bytes) -> Counter[str]:
    """The findings in a log file, by the rule's name."""
    records = parse([body], LogObject("b", "k", None), 256 * MIB)
    return Counter(NAMES[match.rule.rule_id] for match in RULES.evaluate(records))


def named(expected: Counter[str] | None) -> Counter[str]:
    """Expected findings by the rule's name."""
    return Counter({NAMES[rule_id]: count for rule_id, count in (expected or {}).items()})


def test_all_shipped_rules_load() -> None:
    """Every shipped file is in use, and has what a reader of its findings needs."""
    files = sorted(SHIPPED_RULES.glob("*.yml"))
    assert RULES.skipped == []
    assert len(RULES) == len(files) >= 15
    for file in files:
        rule = yaml.safe_load(file.read_text())
        missing = {"id", "title", "description", "references", "tags", "level", "falsepositives"} - rule.keys()
        assert not missing, file.name
        assert any(re.fullmatch(r"attack\.t\d{4}(\.\d{3})?", tag) for tag in rule["tags"]), file.name


def test_every_rule_has_an_attack() -> None:
    """The demo's table of ids is that of the shipped files, and every rule that reports has an attack."""
    shipped = {file.stem: str(yaml.safe_load(file.read_text())["id"]) for file in SHIPPED_RULES.glob("*.yml")}
    assert {name: rule_id for name, rule_id in shipped.items() if name not in COUNTED_ONLY} == RULE_IDS
    assert {name for attack in ATTACKS for name in attack.finds} == RULE_IDS.keys()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_made_up_logs_give_exactly_what_was_put_in(seed: int) -> None:
    """For each file, the findings are what the generator says, through all attacks and much benign work."""
    files = list(generate(files=200, accounts=7, seed=seed, attack_share=0.5))
    wrong = [
        (file.key, named(file.expected), found(file.body)) for file in files if found(file.body) != named(file.expected)
    ]
    assert wrong == []
    assert sum((named(file.expected) for file in files), Counter()).keys() == RULE_IDS.keys()


def test_benign_work_finds_nothing() -> None:
    """Thousands of everyday calls, some of them near misses, give no finding."""
    files = list(generate(files=150, accounts=3, seed=4, attack_share=0))
    assert sum((found(file.body) for file in files), Counter()) == Counter()


@pytest.mark.skipif(
    not REAL_DATA.is_dir() and os.environ.get("CI") != "true",
    reason="the real CloudTrail logs are not at ../shared/data",
)
def test_real_logs_give_what_is_known_to_be_in_them() -> None:
    """Known techniques were run while these logs were written. The findings are those techniques and no more."""
    files = len([path for path in REAL_DATA.iterdir() if path.name.endswith(".json")])
    assert files > 0
    logs = real_files(REAL_DATA, accounts=3, files=files)
    assert sum((found(log.body) for log in logs), Counter()) == REAL_FINDINGS
