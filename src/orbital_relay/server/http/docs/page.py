"""`/docs`: the OpenAPI document as one HTML page without scripts, which works offline."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Final, assert_never

from orbital_relay.server.http.docs.manual import Block, CodeBlock, Heading, Prose, Table, manual
from orbital_relay.server.http.docs.openapi import Document

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
code, pre { font: 0.9em/1.5 ui-monospace, monospace; }
pre { margin: 0.5rem 0; padding: 0.6rem 0.8rem; overflow-x: auto; background: var(--soft); border-radius: 0.4rem; }
code { overflow-wrap: break-word; }
article { margin: 1.5rem 0; padding: 0.25rem 1rem 1rem; border: 1px solid var(--line); border-radius: 0.5rem; }
article h3 { margin: 0.75rem 0 0.25rem; font: 600 1rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
article:target { border-color: var(--mark); }
.table { overflow-x: auto; margin: 0.5rem 0; }
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
    title = f"{document['info']['title']}: the HTTP API"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(_html(manual(document)))}"
        '<p>For programs: <a href="openapi.json">/openapi.json</a>.</p></main></body></html>\n'
    )


def _html(blocks: Iterable[Block]) -> Iterator[str]:
    """Write blocks; each entry is an article, which ends where the next heading is."""
    inside = False
    for block in blocks:
        match block:
            case Heading(level=level, text=text, anchor=anchor):
                if inside:
                    yield "</article>"
                inside = level == 3
                opening = f'<article id="{escape(anchor)}"><h3>' if inside else f'<h{level} id="{escape(anchor)}">'
                yield f"{opening}{_inline(text)}</h{level}>"
            case Prose(text=text):
                yield f"<p>{_inline(text)}</p>"
            case CodeBlock(text=text):
                yield f"<pre>{escape(text)}</pre>"
            case Table(heads=heads, rows=rows):
                head = "".join(f"<th>{_inline(cell)}</th>" for cell in heads)
                body = "".join(f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in rows)
                yield f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
            case _:
                assert_never(block)
    if inside:
        yield "</article>"


def _inline(text: str) -> str:
    """Escape a text, with its `code` and [links](#anchor)."""
    linked = re.sub(r"\[([^\]]+)\]\((#[^)]+)\)", r'<a href="\2">\1</a>', escape(text))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", linked)
