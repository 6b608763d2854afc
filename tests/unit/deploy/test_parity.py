"""The templates and `cellrouter init` with the controller's own hand make the same queues, buckets and streams."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from router.adapters.aws.intake import Intake
from router.adapters.aws.resources import AwsCellResources, ResourceNames
from router.core.intake.emitted import EmittedPath, emitted_path, why_no_path
from tests.support.fake_clock import FakeClock
from tests.support.templates import PLATFORM, Rendered, queue_attributes

CELL_ID: Final = "cell-0007"
ARN: Final = "arn:aws:sqs:us-east-1:000000000000:{}"
PARAMETERS: Final = {
    "Prefix": "acme",
    "Environment": "live",
    "CellId": CELL_ID,
    "Image": "cellrouter:dev",
    "CellSecret": "s",
    "KmsKeyArn": "key",
    "ExecutionRoleArn": "role",
    "BoundaryArn": "boundary",
    "RedisUrl": "rediss://cell@redis:6379",
}
FOLDERS: Final = "sales/shop={shop}/day={day}/hour={hour}/"
EMITTED: Final = emitted_path(FOLDERS)
assert EMITTED is not None
CELL: Final = PARAMETERS | {
    "WorkloadTable": "shop",
    "EmittedPrefix": EMITTED.prefix,
    "EmittedQuery": EMITTED.query,
}


class Asked:
    """An AWS client of an empty account, which notes what is made."""

    def __init__(self) -> None:
        self.made: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def __getattr__(self, operation: str) -> Any:
        async def call(**request: Any) -> dict[str, Any]:
            if operation == "get_caller_identity":
                return {"Account": "000000000000", "Arn": "arn:aws:iam::000000000000:root"}
            if operation in ("head_bucket", "describe_delivery_stream"):
                raise ClientError({"Error": {"Code": "404"}}, operation)
            if operation == "describe_table":
                raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, operation)
            if operation == "get_queue_url":
                if request["QueueName"] not in [made["QueueName"] for made in self.made["create_queue"]]:
                    raise ClientError({"Error": {"Code": "QueueDoesNotExist"}}, operation)
                return {"QueueUrl": request["QueueName"]}
            if operation == "get_queue_attributes":
                written = [each["Attributes"] for each in self.made["set_queue_attributes"]]
                return {"Attributes": {"QueueArn": ARN.format(request["QueueUrl"]), **(written or [{}])[-1]}}
            if operation == "get_bucket_notification_configuration":
                told = self.made["put_bucket_notification_configuration"]
                return told[-1]["NotificationConfiguration"] if told else {}
            if operation.startswith("get_"):
                return {}
            self.made[operation].append(request)
            return {}

        return call

    def get_waiter(self, _: str) -> Any:
        return SimpleNamespace(wait=self.waited)


def made_by_hand(*, fifo: bool) -> Asked:
    """Make all that `cellrouter init` and a controller make, and return what was asked for."""
    source = "acme-live-events.fifo" if fifo else "acme-live-events"
    names = ResourceNames("acme", "live", source, "acme-live-dead-letters", "acme-live-quarantine", 30, "shop", FOLDERS)
    asked = Asked()

    async def story() -> None:
        intake = Intake(names, asked, asked, asked, region="us-east-1", clock=FakeClock())
        await intake.carry_out(await intake.plan())
        cells = AwsCellResources(
            *(names, asked, asked, asked, asked),
            region="us-east-1",
            firehose_role="StreamRole.Arn",
            own_tables=asked,
        )
        await cells.ensure(CELL_ID)

    asyncio.run(story())
    return asked


def stacks(*, fifo: bool) -> list[dict[str, Any]]:
    """Return the resources of both templates."""
    platform = Rendered("platform", **PLATFORM, Fifo=str(fifo).lower(), Archive="true")
    return [*platform.resources.values(), *Rendered("cell", **CELL).resources.values()]


@pytest.mark.parametrize("fifo", [False, True])
def test_queues_are_the_same(*, fifo: bool) -> None:
    """Names, retention, what SQS dead-letters, FIFO; how long a message stays hidden is the router's to say."""
    by_hand = {
        request["QueueName"]: dict(request["Attributes"]) for request in made_by_hand(fifo=fifo).made["create_queue"]
    }
    for attributes in by_hand.values():
        if "RedrivePolicy" in attributes:
            attributes["RedrivePolicy"] = json.loads(attributes["RedrivePolicy"])
    by_stack = {
        each["Properties"]["QueueName"]: queue_attributes(each["Properties"])
        for each in stacks(fifo=fifo)
        if each["Type"] == "AWS::SQS::Queue"
    }
    for attributes in by_stack.values():
        if "RedrivePolicy" in attributes:
            attributes["RedrivePolicy"]["deadLetterTargetArn"] = ARN.format("acme-live-dead-letters")  # which it names
    assert by_stack == by_hand


@pytest.mark.parametrize("fifo", [False, True])
def test_buckets_and_their_notification_are_the_same(*, fifo: bool) -> None:
    """A FIFO source has neither."""
    asked = made_by_hand(fifo=fifo)
    buckets = [each["Properties"] for each in stacks(fifo=fifo) if each["Type"] == "AWS::S3::Bucket"]
    assert {each["BucketName"] for each in buckets} == {each["Bucket"] for each in asked.made["create_bucket"]}
    notified = {
        each["BucketName"]: [
            ([found["Event"]], found["Queue"].replace("SourceQueue.Arn", ARN.format("acme-live-events")))
            for found in each["NotificationConfiguration"]["QueueConfigurations"]
        ]
        for each in buckets
        if "NotificationConfiguration" in each
    }
    assert notified == {
        each["Bucket"]: [
            (found["Events"], found["QueueArn"]) for found in each["NotificationConfiguration"]["QueueConfigurations"]
        ]
        for each in asked.made["put_bucket_notification_configuration"]
    }


def test_what_is_archived_ends_by_the_same_rule() -> None:
    """After as many days, and nothing else in the bucket."""
    (by_hand,) = made_by_hand(fifo=False).made["put_bucket_lifecycle_configuration"]
    bucket = Rendered("platform", **PLATFORM, Archive="true").properties("ArchiveBucket")
    (rule,), (wanted,) = bucket["LifecycleConfiguration"]["Rules"], by_hand["LifecycleConfiguration"]["Rules"]
    assert bucket["BucketName"] == by_hand["Bucket"]
    assert (rule["Id"], rule["Status"], rule["Prefix"], rule["ExpirationInDays"]) == (
        wanted["ID"],
        wanted["Status"],
        wanted["Filter"]["Prefix"],
        wanted["Expiration"]["Days"],
    )


def test_only_the_source_bucket_may_send_to_the_source_queue() -> None:
    """The same statement in both, so that `init` changes nothing of a stack. The template also denies plain HTTP."""
    (request,) = made_by_hand(fifo=False).made["set_queue_attributes"]
    (by_hand,) = json.loads(request["Attributes"]["Policy"])["Statement"]
    policy = Rendered("platform", **PLATFORM).properties("SourceQueuePolicy")["PolicyDocument"]
    (by_stack,) = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
    assert {**by_stack, "Resource": ARN.format("acme-live-events")} == by_hand


def test_streams_are_the_same() -> None:
    """Name, kind, bucket, and how long Firehose collects."""
    (by_hand,) = made_by_hand(fifo=False).made["create_delivery_stream"]
    (stream,) = [each["Properties"] for each in stacks(fifo=False) if "DeliveryStream" in each["Type"]]
    for key in ("DeliveryStreamName", "DeliveryStreamType"):
        assert stream[key] == by_hand[key]
    wanted = by_hand["ExtendedS3DestinationConfiguration"]
    found = stream["ExtendedS3DestinationConfiguration"]
    assert found["BucketARN"] == "Bucket.Arn"
    assert wanted["BucketARN"] == f"arn:aws:s3:::{Rendered('cell', **PARAMETERS).properties('Bucket')['BucketName']}"
    of_stacks = {"EncryptionConfiguration", "CloudWatchLoggingOptions"}
    assert {key: found[key] for key in found.keys() - of_stacks} | {"BucketARN": ""} == wanted | {"BucketARN": ""}


def test_without_folders_and_table_there_are_none() -> None:
    """Then Firehose makes its own folders, by the time of arrival, and collects as little as it can."""
    rendered = Rendered("cell", **PARAMETERS)
    found = rendered.properties("Stream")["ExtendedS3DestinationConfiguration"]
    assert found["BufferingHints"] == {"SizeInMBs": 1, "IntervalInSeconds": 60}
    assert not {"Prefix", "DynamicPartitioningConfiguration", "ProcessingConfiguration"} & found.keys()
    assert "OwnTable" not in rendered.resources


def test_folders_are_named_by_members() -> None:
    """Whoever sets a path that can't be one is told how one looks."""
    found = emitted_path("sales/shop={shop}/")
    assert found == EmittedPath(
        "sales/shop=!{partitionKeyFromQuery:shop}/!{timestamp:yyyyMMddHHmm}-",
        "{shop:.shop}",
    )
    assert emitted_path("") is None
    assert why_no_path(FOLDERS) is None
    for bad in ("sales/", "/{shop}/", "sales/{shop}", "a//{shop}/", "outbox/{shop}/", "{Shop}/", "!{shop}/", "{s}/\n"):
        assert "must be folders" in str(why_no_path(bad)), bad


def test_tables_are_the_same() -> None:
    """Name, keys, index, stream, billing, and which attribute says when an item is forgotten."""
    asked = made_by_hand(fifo=False)
    (by_hand, own), (forgets,) = asked.made["create_table"], asked.made["update_time_to_live"]
    rendered = Rendered("cell", **CELL)
    table = rendered.properties("Table")
    assert by_hand.pop("Tags") == own.pop("Tags")  # a stack's own tags are on all that it makes
    assert {key: table[key] for key in by_hand} == by_hand
    assert table["TimeToLiveSpecification"] == forgets["TimeToLiveSpecification"]
    table = rendered.properties("OwnTable")
    assert own.pop("StreamSpecification") == {"StreamEnabled": True, **table["StreamSpecification"]}
    assert {key: table[key] for key in own} == own
