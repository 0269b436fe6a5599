"""`/openapi.json`, made from the table of endpoints: there is no second description."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from orbital_relay import __version__
from orbital_relay.api.errors import Error
from orbital_relay.api.fields import ResponseBody
from orbital_relay.errors import (
    AccountDisabled,
    Conflict,
    Forbidden,
    OrbitalError,
    PayloadTooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from orbital_relay.server.http.endpoint import Answer, Endpoint

Document = dict[str, Any]

_UUID: Final[Document] = {"type": "string", "format": "uuid"}
_NAMED: Final[dict[str, Document]] = {
    "number": {"type": "integer", "minimum": 1},
    "device_id": {"type": "integer", "minimum": 1, "maximum": 127},
    "session_id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{16}$"},
    "mailbox": {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"},
}
"""Parts of a path that are no UUID."""

_ABOUT: Final = """\
Orbital relays end-to-end encrypted events to small groups: a client POSTs an opaque event; the server gives it the
next number of its group, stores it, and delivers it to every subscribed member in that order. Every `encrypted_*`
field is base64 of bytes that are opaque to the server.

JSON in, JSON out. Ids are UUIDs; `…_at` is RFC 3339 in UTC; `timestamp`, `server_timestamp` and `…_time` are
milliseconds since the epoch. Events come over the WebSocket at `/ws`.
"""

_TAGS: Final = {
    "Accounts": "Signing up, logging in and out, tickets; one's own password, logins and account.",
    "Groups": "Groups, their members, and their invite codes.",
    "Messages": "Opaque envelopes.",
    "Threads": "Threads and replies.",
    "Media": "Encrypted photos and videos.",
    "Keys": "Devices, their public keys, rosters, and mailboxes for linking: for clients that encrypt end to end.",
    "Push": "Web Push: notify devices whose page is closed.",
    "Recovery": "Events that a client missed while it was offline.",
    "WebSocket": "Where events arrive.",
    "Administration": "For server administrators: users, invitations, storage, health. No content is visible.",
    "Running it": "For operators.",
}


def errors_of(endpoint: Endpoint) -> list[type[OrbitalError]]:
    """Return all errors that an endpoint may answer with: its own, and those that follow from its declaration."""
    found = set(endpoint.errors)
    if endpoint.query is not None or endpoint.body is not None or endpoint.form is not None or endpoint.idempotent:
        found.add(ValidationFailed)
    if endpoint.body is not None:
        found.add(PayloadTooLarge)
    if endpoint.idempotent:
        found.add(Conflict)
    if endpoint.auth:
        found |= {Unauthorized, AccountDisabled}
    if endpoint.admin:
        found.add(Forbidden)
    if endpoint.auth or endpoint.limited:
        found.add(TooManyRequests)
    if not endpoint.always:
        found.add(Unavailable)
    return sorted(found, key=lambda error: (error.status, error.code))


def describe(endpoints: Sequence[Endpoint], *, server: str = "/") -> Document:
    """Make the OpenAPI 3.1 document of a table of endpoints."""
    types: list[Any] = [Error]
    for endpoint in endpoints:
        types += [kind for kind in (endpoint.body, endpoint.form, endpoint.query) if kind is not None]
        types += [answer.body for answer in endpoint.answers if answer.body is not None]
        types += [answer.lines for answer in endpoint.answers if answer.lines is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(map(id, types), schemas, strict=True))

    paths: Document = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, by_type, components)
    require_all(components)
    # A query is no object of its own in an address: its fields are written out where they are used.
    for endpoint in endpoints:
        if endpoint.query is not None:
            components.pop(endpoint.query.__name__, None)
    used = {endpoint.tag for endpoint in endpoints}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Orbital", "version": __version__, "description": _ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": server}],
        "tags": [{"name": name, "description": about} for name, about in _TAGS.items() if name in used],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "From signup or login.",
                }
            },
        },
        "security": [{"token": []}],
    }


def require_all(components: Document) -> None:
    """
    Declare every member of the response bodies among `components` as present.

    The server writes all of them; the structs' defaults are what a client assumes when an older server omits one.
    """
    for name in components.keys() & _response_names():
        schema = components[name]
        schema["required"] = list(schema["properties"])
        for member in schema["properties"].values():
            member.pop("default", None)


def _response_names() -> set[str]:
    found, kinds = set[str](), [ResponseBody]
    while kinds:
        subclasses = kinds.pop().__subclasses__()
        found.update(kind.__name__ for kind in subclasses)
        kinds += subclasses
    return found


def _operation(endpoint: Endpoint, schemas: dict[int, Any], components: Document) -> Document:
    operation: Document = {
        "tags": [endpoint.tag],
        "summary": endpoint.summary.removesuffix("."),
        "operationId": endpoint.handler.__name__,
        "parameters": _parameters(endpoint, components),
        "responses": _responses(endpoint, schemas),
    }
    if endpoint.about:
        operation["description"] = endpoint.about
    if not endpoint.auth:
        operation["security"] = []
    if endpoint.body is not None:
        operation["requestBody"] = _content("application/json", schemas[id(endpoint.body)])
    elif endpoint.form is not None:
        operation["requestBody"] = _content("multipart/form-data", schemas[id(endpoint.form)])
    return operation


def _content(media_type: str, schema: Document) -> Document:
    return {"required": True, "content": {media_type: {"schema": schema}}}


def _parameters(endpoint: Endpoint, components: Document) -> list[Document]:
    found: list[Document] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"} if name in endpoint.spans else _NAMED.get(name, _UUID),
        }
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    if endpoint.query is not None:
        form = components[endpoint.query.__name__]
        for name, schema in form["properties"].items():
            about = schema.get("description", "")
            bare = {key: value for key, value in schema.items() if key != "description"}
            required = name in form.get("required", ())
            found.append({"name": name, "in": "query", "required": required, "description": about, "schema": bare})
    if endpoint.idempotent:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "A repeated key within 24 hours gets the first response, and emits nothing.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            }
        )
    return found


def _responses(endpoint: Endpoint, schemas: dict[int, Any]) -> Document:
    responses: Document = {}
    for answer in endpoint.answers:
        response = responses.setdefault(str(answer.status), {"description": answer.about})
        if response["description"] != answer.about:
            response["description"] += " " + answer.about
        content = _answer_content(answer, schemas)
        if content:
            response.setdefault("content", {}).update(content)
        if answer.headers:
            response.setdefault("headers", {}).update(
                {name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers.items()}
            )
    by_status: dict[int, list[type[OrbitalError]]] = {}
    for error in errors_of(endpoint):
        by_status.setdefault(error.status, []).append(error)
    for status, errors in by_status.items():
        response = {
            "description": " ".join(f"`{error.code}`: {_first_line(error)}" for error in errors),
            "content": {"application/json": {"schema": schemas[id(Error)]}},
        }
        if any(error.retryable for error in errors):
            response["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
        responses[str(status)] = response
    return responses


def _first_line(error: type[OrbitalError]) -> str:
    return (error.__doc__ or HTTPStatus(error.status).phrase).strip().splitlines()[0]


def _answer_content(answer: Answer, schemas: dict[int, Any]) -> Document:
    if answer.body is not None:
        return {answer.media_type: {"schema": schemas[id(answer.body)]}}
    if answer.media_type != "application/json":
        # OpenAPI 3.1 knows no type of a line: it is described beside the text (3.2 has `itemSchema`).
        line = {} if answer.lines is None else {"x-itemSchema": schemas[id(answer.lines)]}
        return {answer.media_type: {"schema": {"type": "string"}, **line}}
    return {}
