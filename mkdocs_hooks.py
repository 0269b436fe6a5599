"""
What `make site` changes of the pages: links out of docs/ lead to the repository, and the Python API is added.

In the repository the pages link to files beside docs/ (a configuration, a test); a site has no such files.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_LINK = re.compile(r"(?P<head>\]\()(?P<place>(?!https?:|mailto:|#)[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_API = """# Python SDK, every name

::: orbital_relay.client
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page that mkdocstrings fills from the docstrings, and every folder's pages to the navigation."""
    files.append(File.generated(config, "reference/python-api.md", content=_API))
    pages = sorted(file.src_uri for file in files.documentation_pages())
    config.nav = [_entry(entry, pages) for entry in config.nav or []]
    return files


def _entry(entry: Any, pages: list[str]) -> Any:  # noqa: ANN401 - as YAML has it
    """Put the pages of a folder in its place."""
    ((title, place),) = entry.items()
    if not place.endswith("/"):
        return entry
    return {title: [page for page in pages if page.startswith(place)]}


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_rest: Any) -> str:
    """Turn links that leave docs/ into links to the repository."""
    docs = Path(config.docs_dir)
    here = Path(page.file.src_uri).parent

    def lead(found: re.Match[str]) -> str:
        place = found["place"]
        target = (docs / here / place).resolve()
        if target.is_relative_to(docs) or not target.exists():
            return found[0]
        inside = target.relative_to(docs.parent).as_posix()
        return f"]({config.extra['repository']}/blob/main/{inside}{found['anchor'] or ''})"

    return _LINK.sub(lead, markdown)
