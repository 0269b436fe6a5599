"""The OpenAPI document as readable blocks, from which `/docs` and docs/reference/http.md are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from orbital_relay.server.http.docs.openapi import Document

SERVER: Final = "http://localhost:3000"
"""Where the examples ask: a server started as the README says."""


class Heading(msgspec.Struct, frozen=True):
    """A title; one of level 3 opens an entry that others lead to by its anchor."""

    level: int
    text: str
    anchor: str


class Prose(msgspec.Struct, frozen=True):
    """A paragraph, with `code` and [links](#anchor) in it."""

    text: str


class CodeBlock(msgspec.Struct, frozen=True):
    """Lines for a terminal."""

    text: str


class Table(msgspec.Struct, frozen=True):
    """Rows of cells that are written as prose is."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Heading | Prose | CodeBlock | Table


def manual(document: Document) -> list[Block]:
    """Write a document that `describe` made, as blocks."""
    info, schemas = document["info"], document["components"]["schemas"]
    blocks: list[Block] = [Heading(1, f"The HTTP API of {info['title']} {info['version']}", "top")]
    blocks += [Prose(part) for part in info["description"].strip().split("\n\n")]
    blocks.append(Prose("A running server has this page at `/docs`, and the same for programs at `/openapi.json`."))
    blocks += [Heading(2, "Contents", "contents"), *_contents(document)]
    blocks += [
        Heading(2, "Errors", "errors"),
        Prose("Every response that reports an error is an [Error](#form-error)."),
        Table(("Status", "Code", "When"), tuple(sorted(set(_refusals(document))))),
        Prose("Those with 429 and 503 have a `Retry-After`, in seconds."),
        Prose("Any other path is 404; another method of one of these paths is 405, with `Allow`."),
    ]
    for tag in document["tags"]:
        blocks += [Heading(2, tag["name"], _anchor(tag["name"])), Prose(tag["description"])]
        for method, path, operation in _operations(document):
            if operation["tags"] == [tag["name"]]:
                blocks += _operation(method, path, operation, schemas)
    blocks += [Heading(2, "Forms", "forms"), Prose("The bodies of requests and responses.")]
    for name, schema in schemas.items():
        blocks += [
            Heading(3, f"Form {name}", f"form-{name.lower()}"),
            Prose(schema.get("description", "")),
            _fields(schema),
        ]
    return blocks


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def _contents(document: Document) -> Iterator[Table]:
    for tag in document["tags"]:
        rows = tuple(
            (f"[{method} {path}](#{_anchor(f'{method} {path}')})", f"{operation['summary']}.")
            for method, path, operation in _operations(document)
            if operation["tags"] == [tag["name"]]
        )
        yield Table((tag["name"], ""), rows)


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w -]", "", heading).replace(" ", "-").lower()


_REFUSAL: Final = re.compile(r"`([A-Z_]+)`: (.*?[.])(?= `[A-Z_]+`: |$)")


def _refusals(document: Document) -> Iterator[tuple[str, str, str]]:
    for _, _, operation in _operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                for code, about in _REFUSAL.findall(response["description"]):
                    yield status, f"`{code}`", about


def _operation(method: str, path: str, operation: Document, schemas: Document) -> Iterator[Block]:
    yield Heading(3, f"{method} {path}", _anchor(f"{method} {path}"))
    yield Prose(f"{operation['summary']}.")
    yield from (Prose(part) for part in operation.get("description", "").split("\n\n") if part)
    if operation.get("security") == []:
        yield Prose("Needs no token.")
    if operation["parameters"]:
        yield Table(
            ("Parameter", "In", "Type", ""),
            tuple(
                (
                    f"`{each['name']}`" + ("" if each["required"] else " (optional)"),
                    each["in"],
                    _type(each["schema"]),
                    each.get("description", ""),
                )
                for each in operation["parameters"]
            ),
        )
    if "requestBody" in operation:
        ((media_type, content),) = operation["requestBody"]["content"].items()
        yield Prose(f"Body: {_type(content['schema'])}" + ("." if media_type == _JSON else f", as `{media_type}`."))
        yield _fields(_resolved(content["schema"], schemas))
    yield Table(("Status", "", "Response body"), tuple(_answers(operation)))
    refusals = [
        f"{status} `{code}`"
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for code, _ in _REFUSAL.findall(response["description"])
    ]
    if refusals:
        yield Prose(f"Refusals: {', '.join(refusals)}.")
    if "101" not in operation["responses"]:
        yield CodeBlock(example(method, path, operation, schemas))


_JSON: Final = "application/json"


def _answers(operation: Document) -> Iterator[tuple[str, str, str]]:
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            continue
        comes = [
            _type(content["schema"]) + ("" if media_type == _JSON else f" as `{media_type}`")
            for media_type, content in response.get("content", {}).items()
        ]
        comes += [f"`{name}`: {head['description']}" for name, head in response.get("headers", {}).items()]
        yield status, response["description"], "; ".join(comes)


def _fields(schema: Document) -> Table:
    return Table(
        ("Field", "Type", ""),
        tuple(
            (
                f"`{field}`" + ("" if field in schema.get("required", ()) else " (optional)"),
                _type(each),
                each.get("description", ""),
            )
            for field, each in schema.get("properties", {}).items()
        ),
    )


def _type(schema: Document) -> str:
    """Say a JSON Schema in few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#form-{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        text = " or ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    elif schema.get("type") == "array":
        text = f"list of {_type(schema.get('items', {}))}"
    else:
        text = str(schema.get("type", "any JSON"))
        notes = [str(schema[key]) for key in ("format", "contentEncoding") if key in schema]
        if "minimum" in schema or "maximum" in schema:
            notes.append(f"{schema.get('minimum', '…')} to {schema.get('maximum', '…')}")
        text += f" ({', '.join(notes)})" if notes else ""
    return text + (f", `{schema['default']}` if left out" if schema.get("default") is not None else "")


# Chapter: examples


def example(method: str, path: str, operation: Document, schemas: Document) -> str:
    """Write a request with curl, with everything that has to be in it and nothing else."""
    query = "&".join(
        f"{each['name']}=${each['name'].upper()}"
        for each in operation["parameters"]
        if each["in"] == "query" and each["required"]
    )
    where = re.sub(r"{(\w+)}", lambda found: f"${found[1].upper()}", path) + (f"?{query}" if query else "")
    words = ["curl", *([] if method == "GET" else ["-X", method]), f'"{SERVER}{where}"']
    lines = [" ".join(words)]
    if operation.get("security") != []:
        lines.append('-H "Authorization: Bearer $TOKEN"')
    if "requestBody" in operation:
        ((media_type, content),) = operation["requestBody"]["content"].items()
        body = sample(content["schema"], schemas)
        if media_type == _JSON:
            lines += [f'-H "Content-Type: {_JSON}"', f"-d '{json.dumps(body)}'"]
        else:
            lines += [f'-F "{name}={value}"' for name, value in body.items()]
    return " \\\n  ".join(lines)


def sample(schema: Document, schemas: Document) -> Any:  # noqa: ANN401 - JSON is anything
    """Make the smallest value of a JSON Schema, of its own examples where it has some."""
    schema = _resolved(schema, schemas)
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("type") == "object":
        required = schema.get("required", ())
        return {name: sample(each, schemas) for name, each in schema.get("properties", {}).items() if name in required}
    if schema.get("type") == "integer":
        return schema.get("minimum", 1)
    if schema.get("format") == "binary":
        return "@file"
    return "…"


def _resolved(schema: Document, schemas: Document) -> Document:
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
