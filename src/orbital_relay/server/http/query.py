"""Strict decoding of a query string against a declared form."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from orbital_relay.errors import ValidationFailed
from orbital_relay.explain import explain, field_of

_WHOLE: Final = re.compile(r"-?[0-9]{1,20}")
# More names than any endpoint has, with room for what proxies and trackers add.
_FIELDS_MAX: Final = 50

T = TypeVar("T", bound=msgspec.Struct)


def whole_fields(form: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of the fields of a form that are whole numbers."""
    fields = msgspec.json.schema_components([form])[1][form.__name__]["properties"]
    return frozenset(name for name, schema in fields.items() if schema.get("type") == "integer")


def read_query(text: bytes, form: type[T], *, whole: frozenset[str]) -> T:
    """
    Read a query; names that the form does not have are ignored.

    Args:
        text: What follows the question mark.
        form: What is declared; its defaults stand for what is left out.
        whole: Its fields that are whole numbers.

    Raises:
        ValidationFailed: If a value is missing, given twice, no whole number or out of its range; `details.field` says
            which.
    """
    try:
        pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict")
    except UnicodeDecodeError as exc:
        raise ValidationFailed("The query is not UTF-8.") from exc
    except ValueError as exc:
        raise ValidationFailed(f"The query has more than {_FIELDS_MAX} fields.") from exc
    known = form.__struct_fields__
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in known:
            continue
        if name in found:
            raise ValidationFailed(f"{name} is given twice.", field=name)
        if name in whole:
            if _WHOLE.fullmatch(value) is None:
                raise ValidationFailed(f"{name} must be a whole number.", field=name)
            found[name] = int(value)
        else:
            found[name] = value
    try:
        return msgspec.convert(found, form)
    except msgspec.ValidationError as exc:
        raise ValidationFailed(explain(exc), field=field_of(exc)) from exc
