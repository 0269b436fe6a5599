"""docs/reference/settings.md against the table."""

from __future__ import annotations

from pathlib import Path

from orbital_relay.config import OPTIONS
from orbital_relay.config.reference import reference

ROOT = Path(__file__).parents[3]


def test_the_reference_is_current():
    """[SET20] docs/reference/settings.md equals the page that the table of settings generates."""
    written = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")

    assert written == reference(), "run: python -m orbital_relay.config.reference > docs/reference/settings.md"


def test_the_reference_has_a_row_for_each_setting():
    """[SET21] Every setting is in the reference once, in a row with as many cells as the header."""
    rows = [line for line in reference().splitlines() if line.startswith("| `")]

    assert [row.split("`")[1] for row in rows] == [option.env for option in OPTIONS]
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows)
