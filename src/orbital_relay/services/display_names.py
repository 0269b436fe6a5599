"""Display names: any letters that people write, and nothing that disturbs the text around them."""

from __future__ import annotations

import unicodedata
from typing import Final

from orbital_relay.errors import ValidationFailed

DISPLAY_NAME_CHARS: Final = 64
"""Longest display name, in code points."""

_JOINERS: Final = frozenset("\u200c\u200d")
"""Format characters that spell words and emoji (Unicode Standard, section 23.2): joiner and non-joiner."""

_FORBIDDEN: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
"""Controls, marks and overrides of direction, private use, surrogates, separators of lines and paragraphs."""

_VISIBLE: Final = frozenset("LNPS")
"""Letters, numbers, punctuation and symbols, by the first letter of the category."""


def read_display_name(text: str) -> str:
    """
    Return a display name as it is stored: in Unicode's form NFC, with single spaces in between and none around.

    Raises:
        ValidationFailed: If it is empty, too long, or has a character that is not shown as itself.
    """
    if any(unicodedata.category(letter) in _FORBIDDEN and letter not in _JOINERS for letter in text):
        raise _refusal("has a control character, an override of the direction of writing, or a private one")
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in text)
    name = unicodedata.normalize("NFC", " ".join(word for word in spaced.split(" ") if word))
    if not name or len(name) > DISPLAY_NAME_CHARS:
        raise _refusal(f"has {len(name)} characters: it must have 1 to {DISPLAY_NAME_CHARS}")
    if unicodedata.category(name[0])[0] not in _VISIBLE:
        raise _refusal("must begin with a letter, a number or a symbol")
    return name


def _refusal(what: str) -> ValidationFailed:
    return ValidationFailed(f"The display name {what}.", field="display_name")
