"""Multipart bodies: however the line cuts them, and whatever is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.errors import OrbitalError, PayloadTooLarge, ValidationFailed
from orbital_relay.server.http.endpoint import ClientGone
from orbital_relay.server.http.multipart import MOST_PARTS, read_form

BOUNDARY = "x7"
FIELDS = {"a": 10, "b": 1000}


class Draft:
    """Keeps what is written, and how it came."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.largest = 0

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    async def write(self, data: bytes) -> None:
        self.data += data
        self.largest = max(self.largest, len(data))

    async def digest(self) -> bytes:
        return hashlib.sha256(self.data).digest()

    async def discard(self) -> None:
        self.data.clear()


def part(name: str, value: bytes, *, filename: str = "") -> bytes:
    """Write one part."""
    more = f'; filename="{filename}"' if filename else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def line(body: bytes, cuts: list[int], *, end: bool = True) -> Callable[[], Any]:
    """Return an ASGI `receive` that gives the body in pieces; without `end` the client hangs up after them."""
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    pieces = [body[start:stop] for start, stop in pairwise(places)] or [b""]
    messages = [
        {"type": "http.request", "body": piece, "more_body": not end or index < len(pieces) - 1}
        for index, piece in enumerate(pieces)
    ]
    waiting = iter([*messages, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(waiting)

    return receive


async def read(
    body: bytes, *, cuts: list[int] | None = None, file_limit: int = 5000, end: bool = True, declared: int | None = None
) -> tuple[dict[str, str], bytes]:
    """Read a form; return its fields and the file."""
    draft = Draft()
    found = await read_form(
        line(body, cuts or [], end=end),
        content_type=f"multipart/form-data; boundary={BOUNDARY}",
        declared=declared,
        fields=FIELDS,
        file="chunk",
        file_limit=file_limit,
        draft=draft,
    )
    return found, bytes(draft.data)


# Bytes that look like the end of a part, and are not.
_TEASING = st.lists(
    st.sampled_from([b"\r\n", b"--", b"--x7", b"\r\n--x", b"x7", b"\r", b"\n", b"\r\n--x8", b"\0", b"ab" * 50]),
    max_size=30,
).map(b"".join)


@given(
    data=(st.binary(max_size=2000) | _TEASING).filter(lambda data: b"\r\n--x7" not in b"\r\n" + data),
    field=st.text("abcäß€", max_size=3),
    first=st.booleans(),
    cuts=st.lists(st.integers(0, 3000), max_size=30),
)
async def test_parsing_does_not_depend_on_segmentation(data: bytes, field: str, first: bool, cuts: list[int]):
    """[MED6] Fields and file are parsed unchanged, wherever the body is split and whatever bytes it contains."""
    parts = [part("chunk", data, filename="f"), part("a", field.encode())]
    body = b"".join(parts if first else reversed(parts)) + part("other", b"passed over") + END

    found, file = await read(body, cuts=cuts)

    assert found == {"a": field}
    assert file == data


@given(body=st.binary(max_size=300) | _TEASING, cuts=st.lists(st.integers(0, 300), max_size=10))
async def test_any_input_is_answered(body: bytes, cuts: list[int]):
    """[MED6] Any bytes parse as a form or are refused with a message."""
    for text in (body, part("chunk", b"x")[:20] + body, part("chunk", body) + body + END):
        try:
            await read(text, cuts=cuts)
        except OrbitalError as exc:
            answer = (exc.status, exc.message)
        else:
            answer = (400, "fine")
        assert answer[0] in {400, 413}
        assert answer[1]


@pytest.mark.parametrize("over", [0, 1])
async def test_the_file_s_limit_is_exact(over: int):
    """[MED7] A file of exactly the limit passes, and one byte more is refused, wherever the body is split."""
    body = part("chunk", bytes(5000 + over)) + END
    for cuts in ([], [100, 2000], list(range(0, 5000, 7))):
        if over:
            with pytest.raises(PayloadTooLarge):
                await read(body, cuts=cuts)
        else:
            assert (await read(body, cuts=cuts))[1] == bytes(5000)


async def test_fields_and_headers_have_limits():
    """[MED7] Fields, parts and the whole body are bounded; a declared length is refused before a byte is read."""
    with pytest.raises(PayloadTooLarge, match="`a` is over 10"):
        await read(part("a", bytes(11)) + part("chunk", b"x") + END)
    with pytest.raises(ValidationFailed, match="parts"):
        await read(part("more", b"") * (MOST_PARTS + 1) + END)
    with pytest.raises(PayloadTooLarge, match="The body"):
        await read(part("more", bytes(100_000)) + END)
    with pytest.raises(PayloadTooLarge, match="The body"):
        await read(b"", declared=10**9)


async def test_a_client_that_hangs_up():
    """[MED6] A connection that ends within the body is not logged as an error."""
    with pytest.raises(ClientGone):
        await read(part("chunk", bytes(100))[:60], end=False)


async def test_a_truncated_body():
    """[MED6] A body that ends before its last boundary is refused."""
    with pytest.raises(ValidationFailed, match="ends before"):
        await read(part("chunk", b"x"))
    with pytest.raises(ValidationFailed, match="`chunk` is missing"):
        await read(part("a", b"x") + END)
