"""Inputs that once ended a process, or might: each reader has to survive all of them."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

DEEP: Final = 7000  # far more than any Python's recursion limit

CORPUS: Final = (
    b"",
    b"\n",
    b"null",
    b"{",
    b"[]",
    b"{}",
    b"\xff",
    b'"\xff"',
    b'{"\xff":1}',
    b'{"cell_id":"\xff","generation":1}',
    b'{"index":0,"outcome":"ok","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    b"[" * DEEP + b"]" * DEEP,
    b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b"[" * 900 + b"]" * 900,
    b'{"index":0,"outcome":"ok","reason":"' + b"x" * 600_000 + b'"}',
    b"x" * 600_000,
    b"9" * 5000,
    b"1e999",
    b"-0",
    b"NaN",
    b'"\\ud800"',
    b'{"index":18446744073709551616,"outcome":"ok"}',
    b'{"index":-1,"outcome":"ok"}',
    b'{"index":0,"outcome":"ok","waited_s":1e308}',
    b'{"index":0,"outcome":"\\u0000"}',
    b'{"cell_id":"cell-0002","generation":9223372036854775807}',
    b'{"cell_id":"cell-0002","generation":-1}',
    b'{"cell_id":"cell-0002","generation":1e300}',
    b'{"cell_id":"' + b"c" * 5000 + b'"}',
    b'{"expires_at_ms":9223372036854775808,"ready":true,"record":""}',
    b'{"expires_at_ms":1,"ready":true,"record":"\\ud83d\\ude00."}',
    b'{"expires_at_ms":1,"ready":true,"record":"","vitals":[1.0,0.5,null,1e400,0.1,0.0,0.0,-0.0]}',
    b'{"expires_at_ms":1,"report":{"router_id":"r","epoch":18446744073709551615,"quiet":true}}',
    b'{"at_ms":1,"said":{"number":1,"lag_s":0,"cells":{"c":{"generation":1,"events":1,"ok":1,"log_s":1e300}}}}',
    b'{"at_ms":1,"said":{"number":1,"lag_s":0,"cells":{"c":{"generation":1,"tenants":{"t":{"events":0,"busy_s":0}}}}}}',
    b'{"epoch":-1,"cells":[],"owners":"","pins":null,"move":null}',
    b'{"epoch":1,"cells":[[[]]],"owners":"AAAA"}',
    b'{"policy":{"version":-1},"audit":{"at_ms":1,"who":"","action":"","cell_id":"","why":""}}',
    b'{"policy":{},"audit":{"at_ms":' + b"9" * 400 + b',"who":"","action":"","cell_id":"","why":""}}',
    b'{"cell_id":"../../x","generation":1,"pid":99999999999}',
    b'{"cell_id":"a","generation":1,"pid":-1}',
    b'{"Labels":null,"State":1}',
    b'{"Labels":{"cellrouter.cell":"c","cellrouter.generation":"' + b"9" * 5000 + b'"},"State":"running"}',
    b'{"Labels":{"cellrouter.cell":"c","cellrouter.generation":"1"},"State":"running","NetworkSettings":null}',
    b'{"ExitCode":"1","Error":[]}',
    b'{"Records":[{"s3":{"object":{"key":"%ff"},"bucket":{"name":1}}}]}',
    b'{"Type":"Notification","TopicArn":"a","Message":"{\\"TopicArn\\":1}"}',
    b'{"detail":' + b"[" * 500 + b"]" * 500 + b"}",
    b"\x1f\x8b" + b"\x00" * 50,
    # Answers of a server that is no Redis, or a broken one
    b"*1\r\n" * DEEP,
    b":x\r\n:1e9\r\n",
    b"$-7\r\n$x\r\n",
    b"*-9\r\n*x\r\n",
    b"*99999999999\r\n",
    b"$99999999999999\r\n",
    b"+OK\r\n*2\r\n$1\r\n\xff\r\n-ERR \xff\r\n" * 5,
    b"+OK\r\n+OK\r\n$1\r\n1\r\n*9\r\n" + b":1\r\n" * 20,
    # Answers of SQS
    b'{"Messages":{"a":1},"Failed":{"a":1},"QueueUrl":1}',
    b'{"Messages":[{"MessageId":1,"ReceiptHandle":null,"Body":1,"Attributes":{"SentTimestamp":"'
    + b"9" * 5000
    + b'"}}]}',
    b'{"Messages":[{}],"Failed":[{"Id":"9"}],"QueueUrl":[]}',
    (
        b'{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"{}","Attributes":{"AWSTraceHeader":1},'
        b'"MessageAttributes":{"a":{"DataType":"Binary","BinaryValue":"!"},"b":{"DataType":1,"StringValue":2},"c":3}}]}'
    ),
    b'{"Attributes":{"MaximumMessageSize":"1e9"},"QueueUrl":"u"}',
    (
        b'{"cell_id":"cell-0000","generation":1,"epoch":1,"deadline_s":1,"events":[{"event_id":"e","partition_key":"k",'
        b'"attempt":1,"body":{},"sent_at_ms":-1,"attributes":{"a":1},"binaries":{"b":"!"},"types":[],"trace_header":{}}]}'
    ),
    b'{"Messages":1,"Failed":1,"QueueUrl":{}}',
    # Files
    b"a = " + b"[" * DEEP,
    b"a: &a [*a, *a]\n",
    b"title: " + b"[" * DEEP,
)

_NAMES: Final = (
    *("index", "outcome", "cell_id", "generation", "expires_at_ms", "record", "at_ms", "said", "report", "policy"),
    *("epoch", "cells", "owners", "Records", "Labels", "State", "detail", "pid", "events", "kind", "body"),
)
_numbers = st.integers() | st.floats() | st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**64, -1])
_leaves: Any = st.none() | st.booleans() | _numbers | st.text(max_size=20)
VALUES: Final[st.SearchStrategy[Any]] = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=15,
)
