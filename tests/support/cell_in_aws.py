"""A cell's resources in AWS for a worker process, and the records that arrive there."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

from router.adapters.aws.resources import AwsCellResources, ResourceNames
from router.adapters.aws.session import AwsConfig, open_client


async def make_cell(stack: AsyncExitStack, endpoint: str, environment: str) -> tuple[Any, str]:
    """Make the resources of cell-0000 in AWS. Returns an S3 client, and the bucket in which the cell's lines arrive."""
    aws = AwsConfig("us-east-1", endpoint)
    clients = [await open_client(stack, aws, service) for service in ("sqs", "s3", "firehose")]
    names = ResourceNames("cellrouter", environment, "q", "d")
    resources = AwsCellResources(names, *clients, region="us-east-1", firehose_role="arn:aws:iam::000000000000:role/r")
    await resources.ensure("cell-0000")
    return clients[1], names.cell("cell-0000")


async def arrived(s3: Any, bucket: str) -> list[dict[str, Any]]:
    """Read every record that has arrived in a bucket."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [found["Key"] async for page in pages for found in page.get("Contents", ())]
    bodies = [await (await s3.get_object(Bucket=bucket, Key=key))["Body"].read() for key in keys]
    return [json.loads(line) for body in bodies for line in body.splitlines()]
