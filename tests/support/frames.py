"""
Every frame that a test receives of a server is held against `/asyncapi.json`; a member that it does not name fails.

`watch` patches the clients of the websockets library, which the Python SDK uses, too; raw sockets call `observe`, and
JavaScript records what it receives (record_frames.mjs) and passes it to `python -m tests.support.frames`.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterable
from typing import Any, Final

import websockets.asyncio.client
import websockets.sync.client
from jsonschema import Draft202012Validator

from orbital_relay.server.http.docs.asyncapi import describe

Frame = dict[str, Any]


def _strict(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with members forbidden that it does not name: clients ignore them, the server sends none."""
    document = copy.deepcopy(document)
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return document


def _validators() -> dict[str, Draft202012Validator]:
    document = _strict(describe())
    return {
        message["name"]: Draft202012Validator({**message["payload"], "components": document["components"]})
        for name, message in document["components"]["messages"].items()
        if name.startswith("server.")
    }


_VALIDATORS = _validators()
_fitting: set[object] = set()


def check_frame(frame: Frame) -> None:
    """
    Assert that a server's frame is as `/asyncapi.json` says.

    A frame of the same members with values of the same kinds as one before is not validated again.
    """
    shape = (frame.get("type"), _shape(frame))
    if shape in _fitting:
        return
    validator = _VALIDATORS.get(str(frame.get("type")))
    assert validator is not None, f"/asyncapi.json has no frame of the type {frame.get('type')!r}"
    errors = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(frame)]
    assert not errors, f"not as /asyncapi.json says: {frame}: {errors}"
    _fitting.add(shape)


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return tuple(sorted((str(name), _shape(member)) for name, member in value.items()))
    if isinstance(value, list):
        return tuple(_shape(item) for item in value)
    return type(value).__name__


# What is received where no test looks

FAKE: Final = "a fake of the tests"
"""The header `Server` in a handshake's answer by a server that sends bad frames on purpose: those are not checked."""

_violations: list[str] = []


def observe(text: str | bytes) -> None:
    """Check a message that a client received; a violation is kept for `take_violations`, and changes nothing here."""
    try:
        # An id comes back as long as it was sent; Python reads no integer of more than 4,300 digits.
        is_text = isinstance(text, str) or text.startswith(b"{")
        frame = json.loads(text, parse_int=lambda digits: int(digits[:4_000])) if is_text else None
        assert isinstance(frame, dict), f"not as /asyncapi.json says: {text[:200]!r} is no text of a JSON object"
        check_frame(frame)
    except (AssertionError, ValueError) as exc:
        _violations.append(str(exc))


def take_violations() -> list[str]:
    """Return what was received that `/asyncapi.json` does not allow, since the last call."""
    taken = _violations[:]
    _violations.clear()
    return taken


def _is_orbital(connection: Any) -> bool:
    path: str = connection.request.path.partition("?")[0]
    return path.endswith("/ws") and str(connection.response.headers.get("Server")) != FAKE


def watch() -> None:
    """Check, from now on, every message that a client of the websockets library receives from a server of ours."""
    plain = websockets.asyncio.client.ClientConnection.recv
    plain_sync = websockets.sync.client.ClientConnection.recv

    async def recv(self: Any, *args: Any, **options: Any) -> Any:
        message = await plain(self, *args, **options)
        if _is_orbital(self):
            observe(message)
        return message

    def recv_sync(self: Any, *args: Any, **options: Any) -> Any:
        message = plain_sync(self, *args, **options)
        if _is_orbital(self):
            observe(message)
        return message

    websockets.asyncio.client.ClientConnection.recv = recv  # type: ignore[method-assign]
    websockets.sync.client.ClientConnection.recv = recv_sync  # type: ignore[method-assign]


def main(lines: Iterable[str]) -> int:
    """Check frames, one JSON string a line; print every violation, and return 1 if there was one."""
    for line in lines:
        observe(json.loads(line))
    violations = take_violations()
    sys.stdout.writelines(f"{violation}\n" for violation in violations)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin))
