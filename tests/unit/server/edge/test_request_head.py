"""The framing of a request's head: the quick check of an ordinary request agrees with the whole one."""

from __future__ import annotations

import random

from orbital_relay.errors import OrbitalError
from orbital_relay.server.edge.request_head import FRAMING, RequestHead, judge
from orbital_relay.server.edge.request_head import _judge_all as judge_all

FIELDS = (
    (b"host", (b"a.example", b"[::1]:3000", b"a b", b"")),
    (b"content-length", (b"0", b"5", b" 00 ")),
    (b"connection", (b"keep-alive", b"upgrade", b"close, Upgrade")),
    (b"upgrade", (b"websocket", b"h2c")),
    (b"transfer-encoding", (b"chunked", b"gzip, chunked")),
    (b"expect", (b"100-continue", b"other")),
    (b"accept", (b"*/*",)),
)


def outcome(check, *head) -> RequestHead | type[OrbitalError]:
    """Return what a check finds, or the kind of its refusal."""
    try:
        return check(*head)
    except OrbitalError as refusal:
        return type(refusal)


def test_the_fast_check_agrees(seed: int):
    """[HEAD1] An ordinary request is validated in one pass over its fields, with the same result as rule by rule."""
    drawn = random.Random(seed)
    found = set()
    for _ in range(3_000):
        count = drawn.choice((1, 2, 2, 3, 3, 4, 6))
        fields = [
            (name, drawn.choice(values)) for name, values in drawn.choices(FIELDS, (6, 2, 2, 1, 1, 1, 4), k=count)
        ]
        method, version = drawn.choice((b"GET", b"POST", b"CONNECT")), drawn.choice(("1.1", "1.1", "1.0", "2.0"))
        quick = outcome(judge, method, version, fields)
        found.add(quick)

        assert quick == outcome(judge_all, method, version, [field for field in fields if field[0] in FRAMING]), fields

    # Each kind of result was among the draws.
    assert {
        RequestHead(None, has_body=False),
        RequestHead(None, has_body=True),
        RequestHead(b"websocket", has_body=False),
    } <= found
    assert any(isinstance(one, type) for one in found)
