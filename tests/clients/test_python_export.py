"""The export of an account through the Python SDK: line by line, whole, or with an error where it is cut off."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from orbital_relay.client import Api, ApiError, BadAnswer, Unreachable, responses
from orbital_relay.client.api.exports import LINE_BYTES
from tests.clients.test_python_rest import sign_up
from tests.conftest import Serve
from tests.support.client import opaque
from tests.support.server import Server


async def _read(
    api: Api, on_line: Callable[[responses.ExportLine], None]
) -> tuple[list[responses.ExportLine], Exception | None]:
    """Read an export to its end; return the lines, and what it ended with."""
    found: list[responses.ExportLine] = []
    try:
        async for line in api.iter_export():
            found.append(line)
            on_line(line)
    except (ApiError, Unreachable) as exc:
        return found, exc
    return found, None


async def test_an_export(shared: Server) -> None:
    """[RST7] `iter_export` yields every line of the export, the last one included; a refusal is an ApiError."""
    async with await sign_up(shared) as anna:
        group = await anna.create_group("bmFtZQ==", "a2V5")
        sent = [await anna.post_message(group.group_id, opaque(), timestamp=1) for _ in range(3)]
        lines = [line async for line in anna.iter_export()]
        for _ in range(4):
            assert [line.type async for line in anna.iter_export()] == [line.type for line in lines]
        with pytest.raises(ApiError) as refused:
            await anext(anna.iter_export())

    assert [line.type for line in lines] == ["begin", "account", "session", "group", "member", *["event"] * 4, "end"]
    stored = [line.data for line in lines if line.type == "event"]
    assert [frame["type"] for frame in stored] == ["member_joined", *["new_message"] * 3]
    assert [frame["data"]["message_id"] for frame in stored[1:]] == [each.message_id for each in sent]
    assert lines[-1].data["counts"]["event"] == 4
    assert (refused.value.status, refused.value.retryable) == (429, True)


async def test_a_server_that_dies(serve: Serve) -> None:
    """[RST8] When the server is killed during an export, the lines before are yielded, and then Unreachable raised."""
    server = serve()
    async with await sign_up(server) as anna:
        group = await anna.create_group("bmFtZQ==", "a2V5")
        for _ in range(80):
            await anna.post_message(group.group_id, opaque(b"x" * 128 * 1024), timestamp=1)
        found, raised = await _read(anna, lambda line: server.kill() if line.type == "event" else None)

    assert type(raised) is Unreachable
    assert 0 < sum(line.type == "event" for line in found) < 80
    assert all(line.type != "end" for line in found)


def _served(body: bytes) -> Api:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7_919):
            yield body[start : start + 7_919]

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=pieces()))
    return Api("http://orbital.test", token="t", transport=transport)


@pytest.mark.parametrize(
    ("rest", "error"),
    [
        (b"", Unreachable),
        (b'{"type":"end"', Unreachable),
        (b"<html>a portal</html>\n", BadAnswer),
        (b'"' + b"x" * LINE_BYTES, BadAnswer),
    ],
)
async def test_an_export_that_ends_short(rest: bytes, error: type[Exception]) -> None:
    """[RST9] An export without its last line, or with a line that is not the server's, ends with an error."""
    line = json.dumps({"type": "event", "data": {"text": "Großmutter 👵" * 900}}, ensure_ascii=False).encode()
    async with _served((line + b"\n") * 3 + rest) as api:
        found, raised = await _read(api, lambda _: None)

    assert type(raised) is error
    assert [each.data for each in found] == [json.loads(line)["data"]] * 3
