"""Every frame that a test's socket receives is held against `/asyncapi.json`; a member that it does not name fails."""

from __future__ import annotations

import copy
from typing import Any

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
    validator = _VALIDATORS.get(frame["type"])
    assert validator is not None, f"/asyncapi.json has no frame of the type {frame['type']!r}"
    errors = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(frame)]
    assert not errors, f"not as /asyncapi.json says: {frame}: {errors}"
    _fitting.add(shape)


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return tuple(sorted((str(name), _shape(member)) for name, member in value.items()))
    if isinstance(value, list):
        return tuple(_shape(item) for item in value)
    return type(value).__name__
