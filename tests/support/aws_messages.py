"""Messages as the documentation of AWS and of CloudEvents shows them, each with the shape that it is an example of."""

from __future__ import annotations

import json
from typing import Any, Final

S3_RECORD: Final[dict[str, Any]] = {
    "eventVersion": "2.1",
    "eventSource": "aws:s3",
    "awsRegion": "us-west-2",
    "eventTime": "1970-01-01T00:00:00.000Z",
    "eventName": "ObjectCreated:Put",
    "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
    "requestParameters": {"sourceIPAddress": "127.0.0.1"},
    "responseElements": {
        "x-amz-request-id": "C3D13FE58DE4C810",
        "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD",
    },
    "s3": {
        "s3SchemaVersion": "1.0",
        "configurationId": "testConfigRule",
        "bucket": {
            "name": "amzn-s3-demo-bucket",
            "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
            "arn": "arn:aws:s3:::amzn-s3-demo-bucket",
        },
        "object": {
            "key": "HappyFace.jpg",
            "size": 1024,
            "eTag": "d41d8cd98f00b204e9800998ecf8427e",
            "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
            "sequencer": "0055AED6DCD90281E5",
        },
    },
}
_ANOTHER: Final[dict[str, Any]] = {**S3_RECORD["s3"], "object": {"key": "b", "sequencer": "0055AED6DCD90281E6"}}
S3_TEST: Final[dict[str, Any]] = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2014-10-13T15:57:02.089Z",
    "Bucket": "amzn-s3-demo-bucket",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
}
BRIDGED: Final[dict[str, Any]] = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2021-11-12T00:00:00Z",
    "region": "ca-central-1",
    "resources": ["arn:aws:s3:::amzn-s3-demo-bucket1"],
    "detail": {
        "version": "0",
        "bucket": {"name": "amzn-s3-demo-bucket1"},
        "object": {
            "key": "example-key",
            "size": 5,
            "etag": "b1946ac92492d2347c6235b4d2611184",
            "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
            "sequencer": "617f08299329d189",
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "source-ip-address": "1.2.3.4",
        "reason": "PutObject",
    },
}
TRAIL: Final[dict[str, Any]] = {
    "s3Bucket": "your-bucket-name",
    "s3ObjectKey": [
        "AWSLogs/123456789012/CloudTrail/us-east-1/2013/12/13/123456789012_CloudTrail_us-west-2_20131213T1920Z.json.gz"
    ],
}
CONFIG_ITEM: Final[dict[str, Any]] = {
    "configurationItemDiff": {"changedProperties": {}, "changeType": "CREATE"},
    "configurationItem": {
        "relatedEvents": [],
        "relationships": [],
        "configuration": {"name": "example-trail"},
        "supplementaryConfiguration": {},
        "tags": {},
        "configurationItemVersion": "1.2",
        "configurationItemCaptureTime": "2016-09-27T18:07:29.133Z",
        "configurationStateId": 1475000849133,
        "awsAccountId": "123456789012",
        "configurationItemStatus": "ResourceDiscovered",
        "resourceType": "AWS::CloudTrail::Trail",
        "resourceId": "example-trail",
        "resourceName": "example-trail",
        "ARN": "arn:aws:cloudtrail:us-east-2:123456789012:trail/example-trail",
        "awsRegion": "us-east-2",
    },
    "notificationCreationTime": "2016-09-27T18:07:33.049Z",
    "messageType": "ConfigurationItemChangeNotification",
    "recordVersion": "1.2",
}
CONFIG_OLD_ITEM: Final[dict[str, Any]] = {
    "MessageVersion": "1.0",
    "NotificationCreateTime": "2014-03-18T10:11:00Z",
    "messageType": "ConfigurationItemChangeNotification",
    "configurationItem": [
        {
            "configurationItemVersion": "1.0",
            "configurationItemCaptureTime": "2014-03-07T23:47:08.918Z",
            "arn": "arn:aws:us-west-2b:123456789012:volume/vol-ce676ccc",
            "resourceId": "vol-ce676ccc",
            "accountId": "123456789012",
            "configurationStateID": "3e660fdf-4e34-4f32-afeb-0ace5bf3d63a",
            "resourceType": "AWS::EC2::VOLUME",
        }
    ],
}
CONFIG_OVERSIZED: Final[dict[str, Any]] = {
    "configurationItemSummary": {
        "changeType": "UPDATE",
        "configurationItemVersion": "1.2",
        "configurationItemCaptureTime": "2016-10-06T16:46:16.261Z",
        "configurationStateId": 0,
        "awsAccountId": "123456789012",
        "configurationItemStatus": "OK",
        "resourceType": "AWS::EC2::Instance",
        "resourceId": "resourceId_14b76876-7969-4097-ab8e-a31942b02e80",
        "resourceName": None,
    },
    "s3DeliverySummary": {"s3BucketLocation": "amzn-s3-demo-bucket/AWSLogs/123456789012/Config/x", "errorCode": None},
    "notificationCreationTime": "2016-10-06T16:46:16.261Z",
    "messageType": "OversizedConfigurationItemChangeNotification",
    "recordVersion": "1.0",
}
CONFIG_HISTORY: Final[dict[str, Any]] = {
    "s3ObjectKey": "AWSLogs/123456789012/Config/us-east-2/2016/9/27/ConfigHistory/"
    "123456789012_Config_us-east-2_ConfigHistory_AWS::CloudTrail::Trail_20160927T195818Z_20160927T195818Z_1.json.gz",
    "s3Bucket": "config-bucket-123456789012-ohio",
    "notificationCreationTime": "2016-09-27T20:37:05.217Z",
    "messageType": "ConfigurationHistoryDeliveryCompleted",
    "recordVersion": "1.1",
}
CONFIG_STARTED: Final[dict[str, Any]] = {
    "configSnapshotId": "108e0794-84a7-4cca-a179-76a199ddd11a",
    "notificationCreationTime": "2016-10-18T17:26:09.572Z",
    "messageType": "ConfigurationSnapshotDeliveryStarted",
    "recordVersion": "1.1",
}
CONFIG_COMPLIANCE: Final[dict[str, Any]] = {
    "awsAccountId": "123456789012",
    "configRuleName": "encrypted-volumes",
    "configRuleARN": "arn:aws:config:us-east-2:123456789012:config-rule/config-rule-9rpvxc",
    "resourceType": "AWS::EC2::Instance",
    "resourceId": "i-0123456789abcdef0",
    "awsRegion": "us-east-2",
    "newEvaluationResult": {"complianceType": "NON_COMPLIANT"},
    "oldEvaluationResult": None,
    "notificationCreationTime": "2016-09-27T19:49:05.217Z",
    "messageType": "ComplianceChangeNotification",
    "recordVersion": "1.0",
}
STREAM_RECORD: Final[dict[str, Any]] = {
    "eventID": "1",
    "eventVersion": "1.0",
    "dynamodb": {
        "Keys": {"Id": {"N": "101"}},
        "NewImage": {"Message": {"S": "New item!"}, "Id": {"N": "101"}},
        "StreamViewType": "NEW_AND_OLD_IMAGES",
        "SequenceNumber": "111",
        "SizeBytes": 26,
    },
    "awsRegion": "us-west-2",
    "eventName": "INSERT",
    "eventSourceARN": "arn:aws:dynamodb:us-east-1:111122223333:table/EventSourceTable",
    "eventSource": "aws:dynamodb",
}
STREAM_RECORD_BY_KINESIS: Final[dict[str, Any]] = {
    "awsRegion": "us-east-1",
    "eventID": "9b9b1d3d-9c1a-4b0c-8f2a-1a2b3c4d5e6f",
    "eventName": "MODIFY",
    "userIdentity": None,
    "recordFormat": "application/json",
    "tableName": "EventSourceTable",
    "dynamodb": {"ApproximateCreationDateTime": 1636997892, "Keys": {"Id": {"N": "101"}}, "SizeBytes": 26},
    "eventSource": "aws:dynamodb",
}
CLOUD_EVENT: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "type": "com.github.pull_request.opened",
    "source": "https://github.com/cloudevents/spec/pull",
    "subject": "123",
    "id": "A234-1234-1234",
    "time": "2018-04-05T17:31:00Z",
    "comexampleextension1": "value",
    "partitionkey": "acme",
    "datacontenttype": "application/json",
    "data": {"appinfoA": "abc", "appinfoB": 123},
}
SUBSCRIPTION: Final[dict[str, Any]] = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
    "Token": "2336412f37...",
    "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
    "Message": "You have chosen to subscribe to the topic arn:aws:sns:us-west-2:123456789012:MyTopic.\n"
    "To confirm the subscription, visit the SubscribeURL included in this message.",
    "SubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn="
    "arn:aws:sns:us-west-2:123456789012:MyTopic&Token=2336412f37...",
    "Timestamp": "2012-04-26T20:45:04.751Z",
    "SignatureVersion": "1",
    "Signature": "EXAMPLEpH+DcEwjAPg8O9mY8dReBSwksfg2S7WKQcikcNKW",
    "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
}
NOTIFICATION: Final[dict[str, Any]] = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
    "Subject": "My First Message",
    "Message": "Hello world!",
    "Timestamp": "2012-05-02T00:54:06.655Z",
    "SignatureVersion": "1",
    "Signature": "EXAMPLEw6JRNwm1LFQL4ICB0bnXrdB8ClRMTQFGBqwLpGbM",
    "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
    "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=x",
}
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "S3": {"Records": [S3_RECORD]},
    "S3, several records": {"Records": [S3_RECORD, {**S3_RECORD, "s3": _ANOTHER}]},
    "S3 by EventBridge": BRIDGED,
    "S3's test": S3_TEST,
    "CloudTrail": TRAIL,
    "CloudTrail, several keys": {**TRAIL, "s3ObjectKey": [*TRAIL["s3ObjectKey"], "AWSLogs/210987654321/b"]},
    "Config item": CONFIG_ITEM,
    "Config item, old": CONFIG_OLD_ITEM,
    "Config item, oversized": CONFIG_OVERSIZED,
    "Config history": CONFIG_HISTORY,
    "Config snapshot": CONFIG_STARTED,
    "Config compliance": CONFIG_COMPLIANCE,
    "DynamoDB": STREAM_RECORD,
    "DynamoDB by Kinesis": STREAM_RECORD_BY_KINESIS,
    "DynamoDB, several records": {"Records": [STREAM_RECORD, {**STREAM_RECORD, "eventID": "2"}]},
    "CloudEvent": CLOUD_EVENT,
}
"""The shapes by name, as they arrive directly or by SNS with raw delivery."""


def by_sns(body: str, **more: Any) -> str:
    """Wrap a body as SNS does without raw delivery."""
    return json.dumps({**NOTIFICATION, "Message": body, **more})
