"""
Carries the web page and the JavaScript SDK into the wheel.

A checkout serves both from where they are written; an installed server finds them beside its own modules, as
`orbital_relay/_web` and `orbital_relay/_sdk`. An editable install takes neither: there the checkout is at hand.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = {"web": "orbital_relay/_web", "clients/javascript/src": "orbital_relay/_sdk"}


class CarryWebAndSdk(BuildHookInterface[Any]):
    """Adds each carried folder that exists to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folders, unless the build is an editable one."""
        if version == "editable":
            return
        for source, inside in CARRIED.items():
            folder = Path(self.root, source)
            if folder.is_dir():
                build_data["force_include"][str(folder)] = inside
