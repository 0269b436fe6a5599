"""Error messages for input that the decoder refuses: they name the field, not the decoder or Python's types."""

from __future__ import annotations

import re
from typing import Final

import msgspec

_PATH: Final = re.compile(r" - at (?:`key` in )?`([^`]*)`$")
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_BOUND: Final = re.compile(r"Expected `\w+` (>=|<=|>|<) (-?[0-9.]+)")
_LENGTH: Final = re.compile(r"Expected `(\w+)` of length (>=|<=|==) ([0-9]+)")
_TYPE: Final = re.compile(r"Expected `([^`]+)`(?:, got `([^`]+)`)?")
_SYNTAX: Final = re.compile(r"JSON is malformed: ([a-z0-9 ,-]+) \(byte ([0-9]+)\)")

_TYPES: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_BOUNDS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than", "==": "exactly"}
_UNITS: Final = {"timestamp": " of milliseconds"}
"""What a whole number counts, by the last name of the field."""


def explain(exc: Exception) -> str:
    """
    Return a sentence for the sender of what could not be read, such as "timestamp must be a whole number".

    Args:
        exc: What msgspec raised, or the RecursionError of something nested too deeply.
    """
    match exc:
        case RecursionError():
            return "The JSON is nested too deeply."
        case UnicodeError():
            return "The JSON is not UTF-8."
        case msgspec.ValidationError():
            return f"{_subject(exc)} {_predicate(exc)}."
        case _:
            found = _SYNTAX.fullmatch(str(exc))
            if found:
                return f"This is not JSON: {found[1]} at byte {found[2]}."
            if "truncated" in str(exc):
                return "This is not JSON: it ends too early."
            return "This is not JSON."


def field_of(exc: Exception) -> str | None:
    """Return the dotted path of the field that was refused; for a missing one, its own; None for the whole."""
    if not isinstance(exc, msgspec.ValidationError):
        return None
    text = str(exc)
    found = _PATH.search(text)
    path = found[1].removeprefix("$").removeprefix(".") if found else ""
    missing = _MISSING.match(text)
    if missing:
        path = f"{path}.{missing[1]}" if path else missing[1]
    return path or None


def _subject(exc: msgspec.ValidationError) -> str:
    path = field_of(exc)
    if path is None:
        return "The JSON"
    name = path.removesuffix("[...]")
    if name == path:
        return path
    kind = "name" if "`key` in" in str(exc) else "entry"
    return f"Each {kind} of {name or 'the JSON'}"


def _predicate(exc: msgspec.ValidationError) -> str:
    text = _PATH.sub("", str(exc))
    path = field_of(exc) or ""
    if _MISSING.match(text):
        return "is missing"
    if "out of range" in text:
        return "is a number too large to be read"
    if text.startswith("Invalid"):
        return "is not one of the values that are known"
    if "multiple of 1.0" in text:
        return f"must be a whole number{_UNITS.get(path.rpartition('.')[2], '')}"
    if found := _BOUND.match(text):
        return f"must be {_BOUNDS[found[1]]} {found[2].removesuffix('.0')}"
    if found := _LENGTH.match(text):
        what = "characters" if found[1] == "str" else "entries"
        return f"must have {_BOUNDS[found[2]]} {found[3]} {what}"
    if found := _TYPE.fullmatch(text):
        wanted = _listed(found[1])
        return f"must be {wanted}" if found[2] is None else f"must be {wanted}, not {_listed(found[2])}"
    return "does not have the form that is asked for"


def _listed(types: str) -> str:
    return " or ".join(_TYPES.get(name, "another kind of value") for name in types.split(" | "))
