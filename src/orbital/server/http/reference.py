"""docs/reference/http.md, made from the same document as `/openapi.json` and `/docs`."""

from __future__ import annotations

import sys
from typing import Any

from orbital.errors import OrbitalError
from orbital.server.http import ENDPOINTS
from orbital.server.http.openapi import describe, errors_of
from orbital.server.http.site import Site

Document = dict[str, Any]


def reference() -> str:
    """Write docs/reference/http.md."""
    endpoints = (*ENDPOINTS, *Site().endpoints)
    document = describe(endpoints)
    lines = [
        "# The HTTP API",
        "",
        "<!-- Made by `python -m orbital.server.http.reference > docs/reference/http.md` from the table of routes. -->",
        "",
        *document["info"]["description"].strip().splitlines(),
        "",
        "A running server has the same at `/docs`, and for programs at `/openapi.json`.",
        "",
        "## Errors",
        "",
        "Every answer that is no success is an [Error](#form-error).",
        "",
        "| status | code | when |",
        "| --- | --- | --- |",
        *_errors({error for each in endpoints for error in errors_of(each)}),
        "",
        "Those with 429 and 503 have a `Retry-After`, in seconds.",
        "Any path that is none of these is 404, any other method of one of them 405 with `Allow`.",
    ]
    by_name = {each.handler.__name__: each for each in endpoints}
    for tag in document["tags"]:
        lines += ["", f"## {tag['name']}", "", tag["description"]]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if operation["tags"] == [tag["name"]]:
                    lines += _operation(method.upper(), path, operation)
                    refusals = errors_of(by_name[operation["operationId"]])
                    if refusals:
                        lines += ["", f"Refusals: {', '.join(f'{each.status} `{each.code}`' for each in refusals)}."]
    lines += ["", "## Forms", "", "What stands in bodies and answers."]
    for name, schema in document["components"]["schemas"].items():
        lines += ["", f"### Form {name}", "", schema.get("description", ""), ""]
        lines += ["| field | type | |", "| --- | --- | --- |"]
        required = schema.get("required", ())
        for field, each in schema.get("properties", {}).items():
            optional = "" if field in required else " (optional)"
            lines.append(f"| `{field}`{optional} | {_type(each)} | {_cell(each.get('description', ''))} |")
    return "\n".join(lines) + "\n"


def _errors(errors: set[type[OrbitalError]]) -> list[str]:
    rows = sorted((error.status, error.code, (error.__doc__ or "").strip().splitlines()[0]) for error in errors)
    return [f"| {status} | `{code}` | {_cell(about)} |" for status, code, about in rows]


def _operation(method: str, path: str, operation: Document) -> list[str]:
    lines = ["", f"### {method} {path}", "", f"{operation['summary']}."]
    if "description" in operation:
        lines += ["", *operation["description"].splitlines()]
    if operation.get("security") == []:
        lines += ["", "Needs no token."]
    if "requestBody" in operation:
        ((media_type, content),) = operation["requestBody"]["content"].items()
        lines += ["", f"Body: {_type(content['schema'])}, as `{media_type}`."]
    if operation["parameters"]:
        lines += ["", "| parameter | in | type | |", "| --- | --- | --- | --- |"]
        for each in operation["parameters"]:
            optional = "" if each["required"] else " (optional)"
            about = _cell(each.get("description", ""))
            lines.append(f"| `{each['name']}`{optional} | {each['in']} | {_type(each['schema'])} | {about} |")
    lines += ["", "| status | | what comes back |", "| --- | --- | --- |"]
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            continue
        comes = [
            f"{_type(content['schema'])}" + ("" if media_type == "application/json" else f" as `{media_type}`")
            for media_type, content in response.get("content", {}).items()
        ]
        comes += [f"`{name}`: {head['description']}" for name, head in response.get("headers", {}).items()]
        lines.append(f"| {status} | {_cell(response['description'])} | {_cell('<br>'.join(comes))} |")
    return lines


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


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(reference())
