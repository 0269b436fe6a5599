"""
The client class that shipped programs carry, cut at run time out of the document that published it.

Neither the document nor its text is part of this project; it lies beside the checkout, or where
`ORBITAL_PUBLISHED_DOC` says.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.support.programs import CHECKOUT, missing

NAME = "OrbitalWebSocketManager"


def document() -> Path:
    """Return the place of the published document."""
    place = Path(os.environ.get("ORBITAL_PUBLISHED_DOC") or CHECKOUT.parent / "shared" / "published-realtime.md")
    if not place.is_file():
        missing("the published document", remedy="ORBITAL_PUBLISHED_DOC may say where it is")
    return place


def client_class() -> str:
    """Return the JavaScript text of the client class, unchanged."""
    found = re.search(rf"^class {NAME} \{{\n.*?^\}}$", document().read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{document()} has no class {NAME}"
    return found[0]
