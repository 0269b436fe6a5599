"""`/docs`: the OpenAPI document as a page to read. One file, no script, nothing from elsewhere: it works offline."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from typing import Any, Final

Document = dict[str, Any]

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #f4f5f7; --line: #d8dce1; --mark: #0a5bd3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --paper: #14171a; --soft: #1e2226; --line: #363c43; --mark: #7db1ff; }
}
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 6rem; }
a { color: var(--mark); }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
nav ul { columns: 18rem; padding-left: 1.1rem; }
code, pre { font: 0.9em/1.5 ui-monospace, monospace; }
code { overflow-wrap: anywhere; }
article { margin: 1.5rem 0; padding: 0.25rem 1rem 1rem; border: 1px solid var(--line); border-radius: 0.5rem; }
article h3 { margin: 0.75rem 0 0.25rem; font-size: 1rem; }
article:target { border-color: var(--mark); }
h4 { margin: 1rem 0 0.25rem; }
.method { display: inline-block; min-width: 4.2rem; font-weight: 700; color: var(--mark); }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { background: var(--soft); font-weight: 600; }
"""

# CSP3 §8.3: a style element is allowed by the hash of its text; nothing else is allowed at all.
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)


def render(document: Document) -> str:
    """Write the page of an OpenAPI document that `describe` made."""
    info = document["info"]
    chapters: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    contents: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation["tags"][0]
            anchor = escape(operation["operationId"])
            chapters[tag].append(_operation(method.upper(), path, operation))
            contents[tag].append(f'<li><a href="#{anchor}"><code>{method.upper()} {escape(path)}</code></a></li>')
    about = "".join(f"<p>{_prose(part)}</p>" for part in info["description"].strip().split("\n\n"))
    body = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}: the HTTP API</h1>",
        about,
        '<p>For programs: <a href="/openapi.json">/openapi.json</a>.</p>',
        "<nav>",
        *(f"<h4>{escape(tag)}</h4><ul>{''.join(items)}</ul>" for tag, items in contents.items()),
        "</nav>",
    ]
    for tag in document["tags"]:
        body.append(f"<h2>{escape(tag['name'])}</h2><p>{_prose(tag['description'])}</p>")
        body += chapters[tag["name"]]
    body.append("<h2>Forms</h2><p>What stands in bodies and answers.</p>")
    body += [_form(name, schema) for name, schema in document["components"]["schemas"].items()]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}: the HTTP API</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _prose(text: str) -> str:
    """Escape a text, with `code` between back-ticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _operation(method: str, path: str, operation: Document) -> str:
    parts = [
        f'<article id="{escape(operation["operationId"])}">',
        f'<h3><span class="method">{method}</span> <code>{escape(path)}</code></h3>',
        f"<p>{_prose(operation['summary'])}.</p>",
    ]
    parts += [f"<p>{_prose(part)}</p>" for part in operation.get("description", "").split("\n\n") if part]
    if operation.get("security") == []:
        parts.append("<p>Needs no token.</p>")
    if operation["parameters"]:
        rows = [
            (
                f"<code>{escape(each['name'])}</code>{'' if each['required'] else ' (optional)'}",
                escape(each["in"]),
                _type(each["schema"]),
                _prose(each.get("description", "")),
            )
            for each in operation["parameters"]
        ]
        parts.append(_table(("Parameter", "In", "Type", ""), rows))
    if "requestBody" in operation:
        ((media_type, content),) = operation["requestBody"]["content"].items()
        parts.append(f"<h4>Body</h4><p><code>{escape(media_type)}</code>: {_type(content['schema'])}</p>")
    answers = []
    for status, response in operation["responses"].items():
        types = [
            f"<code>{escape(media_type)}</code>: {_type(content['schema'])}"
            for media_type, content in response.get("content", {}).items()
        ]
        heads = [
            f"<code>{escape(name)}</code>: {_prose(head['description'])}"
            for name, head in response.get("headers", {}).items()
        ]
        answers.append((f"<code>{status}</code>", _prose(response["description"]), "<br>".join(types + heads)))
    parts.append(_table(("Status", "", "What comes back"), answers))
    parts.append("</article>")
    return "".join(parts)


def _form(name: str, schema: Document) -> str:
    rows = [
        (
            f"<code>{escape(field)}</code>{'' if field in schema.get('required', ()) else ' (optional)'}",
            _type(each),
            _prose(each.get("description", "")),
        )
        for field, each in schema.get("properties", {}).items()
    ]
    return (
        f'<article id="form-{escape(name)}"><h3><code>{escape(name)}</code></h3>'
        f"<p>{_prose(schema.get('description', ''))}</p>{_table(('Field', 'Type', ''), rows)}</article>"
    )


def _type(schema: Document) -> str:
    """Say a JSON Schema in few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#form-{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        words = " or ".join(f"<code>{escape(str(each))}</code>" for each in schema.get("enum", [schema.get("const")]))
        return words + _default(schema)
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    notes = [str(schema[key]) for key in ("format", "contentEncoding") if key in schema]
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        notes.append(f"{'…' if low is None else low} to {'…' if high is None else high}")
    return escape(kind + (f" ({', '.join(notes)})" if notes else "")) + _default(schema)


def _default(schema: Document) -> str:
    return f"; {escape(str(schema['default']))} if left out" if schema.get("default") is not None else ""


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
