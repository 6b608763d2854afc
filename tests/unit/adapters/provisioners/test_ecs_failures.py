"""Each way in which ECS says why it starts no task, or ended one, is told apart and kept in its own words."""

from __future__ import annotations

import pytest

from router.adapters.provisioners.ecs_failures import MEANINGS, Trouble, described, trouble

SAID = [
    (
        "",
        "Capacity is unavailable at this time. Please try again later or in a different availability zone",
        "CAPACITY",
    ),
    ("", "RESOURCE:MEMORY", "CAPACITY"),
    ("", "RESOURCE:ENI", "CAPACITY"),
    ("ClientException", "No Container Instances were found in your cluster.", "CAPACITY"),
    ("ClientException", "You've reached the limit on the number of vCPUs you can run concurrently", "QUOTA"),
    ("ClientException", "The requested CPU configuration is above your limit", "QUOTA"),
    ("ThrottlingException", "Rate exceeded", "THROTTLED"),
    ("ClientException", "Too many concurrent attempts to create a new revision", "THROTTLED"),
    ("", "AGENT", "AWS"),
    ("ServerException", "Service Unavailable. Please try again later.", "AWS"),
    ("", "TimeoutError: ", "AWS"),
    ("", "MISSING", "DEFINITION"),
    ("AccessDeniedException", "User: x is not authorized to perform: ecs:RunTask on resource: y", "DENIED"),
    ("AccessDeniedException", "User: x is not authorized to perform: iam:PassRole on resource: y", "DENIED"),
    ("ClusterNotFoundException", "Cluster not found.", "CLUSTER"),
    ("ClientException", "ECS was unable to assume the role 'arn:aws:iam::1:role/x' that was provided", "ROLE"),
    ("ClientException", "Role is not valid", "ROLE"),
    ("ClientException", "TaskDefinition is inactive", "DEFINITION"),
    ("InvalidParameterException", "The subnet ID 'subnet-1' does not exist", "NETWORK"),
    ("TaskFailedToStart", "Timeout waiting for network interface provisioning to complete.", "NETWORK"),
    ("TaskFailedToStart", "CannotPullContainerError: pull image manifest has been retried 5 time(s)", "IMAGE"),
    ("TaskFailedToStart", "CannotPullContainerError: pull access denied for x, is not authorized to perform", "IMAGE"),
    ("TaskFailedToStart", "ResourceInitializationError: unable to pull secrets or registry auth", "SECRETS"),
    (
        "TaskFailedToStart",
        "ResourceInitializationError: unable to retrieve secret: role/x is not authorized to perform: kms:Decrypt",
        "SECRETS",
    ),
    ("TaskFailedToStart", "CannotStartContainerError: exec: no such file", "START"),
    ("TaskFailedToStart", "Unexpected EC2 error while attempting to untag", "AWS"),
    ("EssentialContainerExited", "Essential container in task exited", "EXITED"),
    ("EssentialContainerExited", "OutOfMemoryError: Container killed due to memory usage", "MEMORY"),
    ("SpotInterruption", "Your Spot Task was interrupted.", "SPOT"),
    ("TerminationNotice", "ECS is performing maintenance on the underlying infrastructure", "MAINTENANCE"),
    ("", "ECS is performing maintenance on the underlying infrastructure hosting the task.", "MAINTENANCE"),
    ("InfrastructureHealth", "the host is impaired", "MAINTENANCE"),
    ("UserInitiated", "Rate exceeded, says somebody who stopped it", "ASKED"),
    ("", "", "UNKNOWN"),
    ("NewException", "something that nobody has seen yet", "UNKNOWN"),
]


@pytest.mark.parametrize(("code", "words", "kind"), SAID)
def test_trouble_is_told_by_code_and_words(code: str, words: str, kind: str) -> None:
    """What people read has ECS' own words, what they mean, and whether somebody has to act."""
    assert trouble(code, words) is Trouble[kind]
    text = described(code, words)
    assert words in text
    assert text.startswith(f"{Trouble[kind]}, which {'may pass' if MEANINGS[Trouble[kind]].passes else 'needs'}")


def test_every_kind_of_trouble_has_a_meaning_and_is_told_by_some_words() -> None:
    """None is left out of the table, neither of meanings nor of this test."""
    assert MEANINGS.keys() == set(Trouble) == {Trouble[kind] for _, _, kind in SAID}
