"""clients/javascript/src/api-types.js, made from the same document as `/openapi.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final, get_args

from orbital_relay import wire
from orbital_relay.server.http import ENDPOINTS
from orbital_relay.server.http.docs import asyncapi
from orbital_relay.server.http.docs.openapi import Document, describe

_HEAD: Final = """\
/**
 * The bodies of requests and responses, and the data of the frames that the server sends.
 * Made by `make docs` (orbital_relay.server.http.docs.javascript) from the types of `/openapi.json` and
 * `/asyncapi.json`.
 */
"""
_PLAIN: Final = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def types() -> str:
    """Write a module of JSDoc types, one for each JSON body and for the data of each frame that the server sends."""
    document = describe(ENDPOINTS)
    described = asyncapi.describe()["components"]["schemas"]
    schemas = document["components"]["schemas"]
    bodies = {name: schemas[name] for name in _used(document)}
    sent = {data.__name__: described[data.__name__] for data in (*wire.EVENTS.values(), *get_args(wire.ServerData))}
    nested = {"GroupState": described["GroupState"]}
    every = bodies | sent | nested
    blocks = [_typedef(name, every[name]) for name in sorted(every)]
    return "\n".join([_HEAD, *blocks, "export {};\n"])


def _used(document: Document) -> set[str]:
    """Return the schemas of JSON bodies; the events of a page are the frames whose union wire.js makes."""
    schemas = document["components"]["schemas"]
    found: set[str] = set()

    def visit(part: Any) -> None:  # noqa: ANN401 - JSON is anything
        if isinstance(part, list):
            for each in part:
                visit(each)
        elif isinstance(part, dict):
            name = part.get("$ref", "").rpartition("/")[2]
            if name in schemas and name not in found and name not in {"Events", "KeyMessages"}:
                found.add(name)
                visit(schemas[name])
            for key, each in part.items():
                if key != "multipart/form-data":
                    visit(each)

    visit(document["paths"])
    return found


def _typedef(name: str, schema: Document) -> str:
    return "\n".join(["/**", f" * {schema['description']}", " *", *_members(name, schema), " */", ""])


def _members(name: str, schema: Document) -> Iterator[str]:
    yield f" * @typedef {{object}} {name}"
    required = schema.get("required", ())
    for member, each in schema["properties"].items():
        about = f" {each['description']}" if "description" in each else ""
        shown = member if member in required else f"[{member}]"
        yield f" * @property {{{_type(each)}}} {shown}{about}"


def _type(schema: Document) -> str:
    """Write a JSON Schema as a type of TypeScript."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(json.dumps(each).replace('"', "'") for each in schema["enum"])
    if schema.get("type") == "array":
        return f"Array<{_type(schema['items'])}>"
    return _PLAIN.get(schema.get("type", ""), "Record<string, any>")


if __name__ == "__main__":
    sys.stdout.write(types())
