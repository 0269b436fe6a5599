"""
What the build adds to pyproject.toml: the web page and the JavaScript SDK in the wheel, a README with absolute links.

A checkout serves page and SDK from where they are written; an installed server finds them beside its own modules, as
`orbital_relay/_web` and `orbital_relay/_sdk`. An editable install takes neither: there the checkout is available.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

CARRIED = {"web": "orbital_relay/_web", "clients/javascript/src": "orbital_relay/_sdk"}
# What is there to develop a page and not to show it.
LEFT_OUT = frozenset({"node_modules", "test", "types", "scripts", "package.json", "package-lock.json"})


def carried(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder` that a server serves, in an order that is the same on every machine."""
    for path in sorted(folder.iterdir()):
        if path.name in LEFT_OUT or path.name.startswith((".", "tsconfig", "biome", "eslint")):
            continue
        if path.is_dir():
            yield from carried(path)
        else:
            yield path


class CarryWebAndSdk(BuildHookInterface[Any]):
    """Adds the files of each carried folder that exists to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files, unless the build is an editable one."""
        if version == "editable":
            return
        for source, inside in CARRIED.items():
            folder = Path(self.root, source)
            if folder.is_dir():
                for path in carried(folder):
                    build_data["force_include"][str(path)] = f"{inside}/{path.relative_to(folder).as_posix()}"


class AbsoluteReadme(MetadataHookInterface):
    """Gives the README as the description, its links and pictures absolute: on an index there is no tree beside it."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme` from README.md."""
        source = metadata["urls"]["Source"]
        raw = source.replace("://github.com/", "://raw.githubusercontent.com/")

        def absolute(found: re.Match[str]) -> str:
            picture, text, place = found["picture"], found["text"], found["place"]
            base = f"{raw}/main" if picture else f"{source}/blob/main"
            return f"{picture}[{text}]({base}/{place})"

        text = Path(self.root, "README.md").read_text("utf-8")
        link = r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?:|#|mailto:)(?P<place>[^)\s]+)\)"
        metadata["readme"] = {"content-type": "text/markdown", "text": re.sub(link, absolute, text)}
