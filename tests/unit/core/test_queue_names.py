"""A queue by its name, its URL or its ARN: what each says, and which can name no queue."""

from __future__ import annotations

import pytest

from router.core.queue_names import aside_queue, queue_name, why_no_queue, why_out_of_reach

ACCOUNT = "123456789012"
ARN = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:events"
URL = f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/events"


@pytest.mark.parametrize(
    ("text", "account", "region"),
    [
        ("events", "", ""),
        (ARN, ACCOUNT, "eu-west-1"),
        (f"arn:aws-us-gov:sqs:us-gov-west-1:{ACCOUNT}:events", ACCOUNT, "us-gov-west-1"),
        (f"arn:aws-cn:sqs:cn-north-1:{ACCOUNT}:events", ACCOUNT, "cn-north-1"),
        (URL, ACCOUNT, "eu-west-1"),
        (f"https://sqs.cn-north-1.amazonaws.com.cn/{ACCOUNT}/events", ACCOUNT, "cn-north-1"),
        (f"https://sqs-fips.us-east-1.amazonaws.com/{ACCOUNT}/events", ACCOUNT, "us-east-1"),
        (f"https://sqs.us-east-2.api.aws/{ACCOUNT}/events", ACCOUNT, "us-east-2"),
        (f"https://vpce-0a1-b2.sqs.ap-southeast-2.vpce.amazonaws.com/{ACCOUNT}/events", ACCOUNT, "ap-southeast-2"),
        (f"https://us-west-2.queue.amazonaws.com/{ACCOUNT}/events", ACCOUNT, "us-west-2"),
        (f"https://queue.amazonaws.com/{ACCOUNT}/events", ACCOUNT, "us-east-1"),
        ("http://127.0.0.1:4566/000000000000/events", "000000000000", ""),
        ("http://sqs.us-east-1.localhost.localstack.cloud:4566/000000000000/events", "000000000000", "us-east-1"),
        ("http://localstack:4566/queue/eu-north-1/000000000000/events", "000000000000", "eu-north-1"),
    ],
)
def test_a_queue_is_named_in_three_ways(text: str, account: str, region: str) -> None:
    """Each is understood, also of a FIFO queue; a URL is used as it is."""
    for named, fifo in ((text, False), (f"{text}.fifo", True)):
        queue = queue_name(named)
        assert (queue.name, queue.account, queue.region) == ("events.fifo" if fifo else "events", account, region)
        assert queue.url == (named if "://" in named else "")
        assert queue.fifo is fifo
        assert queue.is_plain is (text == "events")
        assert why_no_queue(named, may_be_fifo=True) is None
        assert (why_no_queue(named, may_be_fifo=False) is None) is not fifo


@pytest.mark.parametrize(
    "text",
    [
        *("", "a b", "x" * 81, "x" * 76 + ".fifo", "a.b", "caf\u00e9"),
        *("arn:", "arn:aws:sns:eu-west-1:123456789012:events", "arn:aws:sqs:eu-west-1:1:events", ARN + " "),
        *(
            ARN.replace(":events", ""),
            ARN + ":x",
            ARN.replace("aws", "aws-cn"),
            ARN.replace("eu-west", "cn-north"),
        ),
        *("https://", "https://sqs.eu-west-1.amazonaws.com/", URL.replace(ACCOUNT, "x"), URL + "/", URL + "?Action=x"),
        *("https://[::1", f"https://user:secret@host/{ACCOUNT}/events", f"ftp://host/{ACCOUNT}/events"),
    ],
)
def test_what_can_name_no_queue_is_refused_without_being_shown(text: str) -> None:
    """With the form that is meant; `check-config` says it."""
    why = why_no_queue(text, may_be_fifo=True)
    assert why is not None
    assert "secret" not in why
    assert queue_name(text).text == text


def test_a_queue_of_another_partition_is_out_of_reach() -> None:
    """No credentials are valid in two partitions; in two regions they are."""
    for text, region in (("events", "us-east-1"), (ARN, "us-east-1"), (URL, "ap-south-1"), (ARN, "eu-west-1")):
        assert why_out_of_reach(text, region) is None
    gov = f"arn:aws-us-gov:sqs:us-gov-west-1:{ACCOUNT}:events"
    assert why_out_of_reach(gov, "fips-us-gov-west-1") is None
    why = why_out_of_reach(ARN, "cn-north-1")
    assert why is not None
    assert "eu-west-1" in why
    assert "cn-north-1" in why


@pytest.mark.parametrize(
    ("source", "aside"),
    [
        ("orders.fifo", "orders-aside.fifo"),
        (f"{ARN}.fifo", "events-aside.fifo"),
        (f"{URL}.fifo", "events-aside.fifo"),
        ("orders", ""),
    ],
)
def test_a_fifo_source_has_an_aside_queue_of_our_own(source: str, aside: str) -> None:
    """Whoever has the source; a standard one has none."""
    assert aside_queue(source) == aside


def test_an_aside_queue_has_no_longer_name_than_a_queue_may_have() -> None:
    """The source's name is cut."""
    assert aside_queue("x" * 75 + ".fifo") == "x" * 69 + "-aside.fifo"
    assert why_no_queue(aside_queue("x" * 75 + ".fifo"), may_be_fifo=True) is None
