"""S3 pointers, which the SQS extended client libraries send in place of a body that is too large for the queue.

The body is `["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": …, "s3Key": …}]`, which Java writes
without spaces and Python with some. Old versions write `com.amazon.sqs.javamessaging.MessageS3Pointer`; builds that
shade their dependencies write a longer package name. The attribute beside it (`ExtendedPayloadSize`, once
`SQSLargePayloadSize`) is not looked at: an array is no event either way, and messages that were held or redriven have
lost that attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from router.core.errors import MalformedMessageError
from router.core.messages.strict_json import JsonText
from router.core.models import Message

_CLASSES: Final = (".PayloadS3Pointer", ".MessageS3Pointer")
_MAX_POINTER_BYTES: Final = 16 * 1024  # a key has 1024 bytes at most; escaped, six times that
_NAME: Final = "the S3 pointer"


@dataclass(frozen=True, slots=True)
class S3Pointer:
    """The S3 object in which a message's body lies."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def pointer_of(message: Message) -> S3Pointer | None:
    """Return the pointer that the message has in place of a body, or None when it has a body.

    Raises MalformedMessageError for a pointer that names no object.
    """
    return pointer_in(message.body)


def pointer_in(text: str) -> S3Pointer | None:
    """Return the pointer that the text is, or None when it is none.

    Raises MalformedMessageError for a pointer that names no object.
    """
    head = text[:200].lstrip()
    if not head.startswith("[") or not any(name in head for name in _CLASSES):
        return None
    match JsonText.of(text, _NAME, _MAX_POINTER_BYTES).decode():
        case [str(kind), {"s3BucketName": str(bucket), "s3Key": str(key)}] if (
            kind.endswith(_CLASSES) and bucket and key
        ):
            return S3Pointer(bucket, key)
        case [str(kind), *_] if kind.endswith(_CLASSES):
            raise MalformedMessageError(f"{_NAME} names no object: s3BucketName and s3Key are needed")
        case _:
            return None
