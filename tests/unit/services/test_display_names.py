"""Display names as they are stored, and those that are refused."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.errors import ValidationFailed
from orbital_relay.services.display_names import DISPLAY_NAME_CHARS, read_display_name

FAMILY = "👩\u200d👧\u200d👦"


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("Großmutter Ólöf 👵", "Großmutter Ólöf 👵"),
        ("O\u0301lo\u0308f", "Ólöf"),
        ("  Ada \u00a0\u2003 Lovelace\u3000", "Ada Lovelace"),
        ("אבא", "אבא"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        (f"{FAMILY} Wir", f"{FAMILY} Wir"),
        ("👵🏽", "👵🏽"),
        ("¡Tío!", "¡Tío!"),
        ("ह" * DISPLAY_NAME_CHARS, "ह" * DISPLAY_NAME_CHARS),
        ("o\u0308" * DISPLAY_NAME_CHARS, "ö" * DISPLAY_NAME_CHARS),
    ],
)
def test_names(text: str, stored: str):
    """[DISPNAME2] A name keeps its letters of any script, in the form NFC, with single spaces."""
    assert read_display_name(text) == stored
    assert read_display_name(stored) == stored


@pytest.mark.parametrize(
    "text",
    [
        *("", "   ", "\u3000", "a" * (DISPLAY_NAME_CHARS + 1)),
        *("a\tb", "a\nb", "a\0b", "a\x1bb", "a\x85b", "a\u2028b", "a\u2029b"),
        *("\u202eadA", "a\u202a", "a\u2066b\u2069", "a\u200e", "a\u200f", "a\u061c"),
        *("a\u200bb", "a\ufeff", "a\u00adb", "a\u2060b", "\ue000", "\U000e0041"),
        *("\u0301a", "\u200d", "\u200c\u200c", "\ufe0f", "\u20dd"),
    ],
)
def test_refused(text: str):
    """[DISPNAME3] A name that is empty, too long, or has a character that disturbs the text around it is refused."""
    with pytest.raises(ValidationFailed) as refused:
        read_display_name(text)

    assert refused.value.details == {"field": "display_name"}


@given(st.text(max_size=80))
def test_any_text(text: str):
    """[DISPNAME4] Any text is refused, or read as a name that is read as itself."""
    try:
        name = read_display_name(text)
    except ValidationFailed:
        return

    assert read_display_name(name) == name == unicodedata.normalize("NFC", name)
    assert 1 <= len(name) <= DISPLAY_NAME_CHARS
    assert not {unicodedata.bidirectional(letter) for letter in name} & {
        "LRO",
        "RLO",
        "LRE",
        "RLE",
        "PDF",
        "LRI",
        "RLI",
    }
