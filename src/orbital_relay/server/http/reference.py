"""docs/reference/http.md, made from the same document as `/openapi.json` and `/docs`."""

from __future__ import annotations

import sys
from typing import assert_never

from orbital_relay.server.http import ENDPOINTS
from orbital_relay.server.http.docs.manual import Block, CodeBlock, Heading, Prose, Table, manual
from orbital_relay.server.http.docs.openapi import describe
from orbital_relay.server.http.static.site import Site


def reference() -> str:
    """Write docs/reference/http.md."""
    first, *rest = manual(describe((*ENDPOINTS, *Site().endpoints)))
    made = (
        "<!-- Made by `python -m orbital_relay.server.http.reference > docs/reference/http.md` "
        "from the table of routes. -->"
    )
    return "\n\n".join([_markdown(first), made, *map(_markdown, rest)]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(level=level, text=text):
            return f"{'#' * level} {text}"
        case Prose(text=text):
            return text
        case CodeBlock(text=text):
            return f"```bash\n{text}\n```"
        case Table(heads=heads, rows=rows):
            return "\n".join(_row(cells) for cells in (heads, tuple("---" for _ in heads), *rows))
        case _:
            assert_never(block)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(reference())
