"""`/asyncapi.json`: generated from the types of the frames, and true for every frame that the tests receive."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from orbital_relay import wire
from tests.server.api import Api
from tests.support.frames import check_frame

FRAME = {
    "type": "ping",
    "data": {"server_time": 1},
    "server_timestamp": 2,
}


@pytest.fixture
async def document(api: Api) -> Any:
    """The document as a client gets it."""
    answer = await api.ask("GET", "/asyncapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


async def test_every_frame_is_described(document: Any):
    """[ASYNC1] The document has a message for each frame of both directions, in one operation of the channel `/ws`."""
    server = {data.kind for data in get_args(wire.ServerData)} | set(wire.EVENTS) | {"posted", "error"}
    client = {frame.__struct_config__.tag for frame in get_args(wire.ClientFrame)}
    messages = document["components"]["messages"]

    assert set(messages) == {f"server.{name}" for name in server} | {f"client.{name}" for name in client}
    assert document["channels"]["socket"]["address"] == "/ws"
    for operation, way in (("sendToClient", "server"), ("receiveFromClient", "client")):
        referred = {each["$ref"].rpartition("/")[2] for each in document["operations"][operation]["messages"]}
        assert referred == {name for name in messages if name.startswith(f"{way}.")}


async def test_every_reference_leads_somewhere(document: Any):
    """[ASYNC2] Every reference in the document resolves within it, and every schema is used and well-formed."""
    references = set(re.findall(r"'#/([^']+)'", str(document)))
    for reference in references:
        part = document
        for name in reference.split("/"):
            part = part[name]

    schemas = document["components"]["schemas"]
    assert {name.rpartition("/")[2] for name in references if "/schemas/" in name} == set(schemas)
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "pingg"},
        {"data": {"server_time": "1"}},
        {"data": {}},
        {"data": {"server_time": 1, "more": 1}},
        {"more": 1},
        {"server_timestamp": 1.5},
        {"reply_to": []},
    ],
    ids=str,
)
def test_an_undeclared_frame_is_noticed(change: dict[str, Any]):
    """[ASYNC3] The check of the tests' sockets accepts a frame and fails for one that the document does not allow."""
    check_frame(FRAME)

    with pytest.raises(AssertionError, match=r"asyncapi\.json"):
        check_frame({**FRAME, **change})
