"""
A strict codec for the part of Protocol Buffers that the formats use: varints, byte strings, nested messages.

A message is a schema of fields. Unknown fields are skipped; a single field that comes twice keeps the last value.
Refused as malformed: a truncated field, a varint that is not minimal or exceeds its bound, field number 0, groups, a
known field of another wire type, a byte string of another length than the schema states, and more than MAX_REPEATED
values of one field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NoReturn

import msgspec

from orbital_relay.e2ee.errors import E2eeError

MAX_REPEATED: Final = 1024
"""Bound on one repeated field: more than the devices that fit into one envelope of 256 KiB."""

MAX_SAFE: Final = 2**53 - 1
"""The largest number of any field: every client can hold it exactly."""

U32: Final = 2**32 - 1
MAX_FIELD: Final = 2**29 - 1
VARINT_BYTES: Final = 8

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types (protobuf.dev, "Encoding")."""


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """
    One field of a message.

    Attributes:
        name: Its name.
        type: What it holds.
        length: Of bytes: the exact length.
        max: Of a number: the largest value.
        schema: Of a message: its fields.
        repeated: Whether it may come several times.
        required: Whether it must be there.
    """

    name: str
    type: Literal["uint", "bytes", "message"]
    length: int | None = None
    max: int = U32
    schema: Mapping[int, Field] | None = None
    repeated: bool = False
    required: bool = False


Schema = Mapping[int, Field]
"""Field numbers and fields."""


def malformed(why: str) -> NoReturn:
    """Raise `malformed` with the reason."""
    raise E2eeError("malformed", f"malformed message: {why}")


# Writing


def encode(schema: Schema, message: Mapping[str, Any]) -> bytes:
    """
    Encode a message. Fields are written in the order of their numbers; a missing one, or None, is left out.

    Raises:
        ValueError: If a value does not fit its field: an error of the caller.
    """
    out = bytearray()
    for number, field in sorted(schema.items()):
        value = message.get(field.name)
        if value is None:
            if field.required:
                raise ValueError(f"field {field.name} is required")
            continue
        for one in value if field.repeated else (value,):
            _write_field(out, number, field, one)
    return bytes(out)


def _write_field(out: bytearray, number: int, field: Field, value: Any) -> None:  # noqa: ANN401 - as the schema types it
    if field.type == "uint":
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= field.max:
            raise ValueError(f"field {field.name} cannot hold {value!r:.40}")
        _write_varint(out, number * 8 + VARINT)
        _write_varint(out, value)
        return
    data = encode(field.schema or {}, value) if field.type == "message" else value
    if field.length is not None and len(data) != field.length:
        raise ValueError(f"field {field.name} takes {field.length} bytes, not {len(data)}")
    _write_varint(out, number * 8 + LENGTH)
    _write_varint(out, len(data))
    out += data


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


# Reading


class _Reader:
    """Bytes, and how far they were read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._data)

    def varint(self) -> int:
        value = 0
        for count in range(VARINT_BYTES):
            if self._at == len(self._data):
                malformed("a number is truncated")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << 7 * count
            if byte < 0x80:
                if byte == 0 and count > 0:
                    malformed("a number is not in its shortest form")
                if value > MAX_SAFE:
                    malformed("a number is too large")
                return value
        malformed("a number is too long")

    def take(self, length: int) -> bytes:
        if length > len(self._data) - self._at:
            malformed("a field is truncated")
        self._at += length
        return self._data[self._at - length : self._at]

    def skip(self, wire: int) -> None:
        """Pass over the value of an unknown field."""
        if wire == VARINT:
            self.varint()
        elif wire == FIXED64:
            self.take(8)
        elif wire == LENGTH:
            self.take(self.varint())
        elif wire == FIXED32:
            self.take(4)
        else:
            malformed(f"wire type {wire}")


def decode(schema: Schema, data: bytes) -> dict[str, Any]:
    """
    Decode a message.

    Returns:
        The fields that are there, by name; repeated ones always.

    Raises:
        E2eeError: `malformed`.
    """
    message: dict[str, Any] = {field.name: [] for field in schema.values() if field.repeated}
    reader = _Reader(data)
    while not reader.done:
        tag = reader.varint()
        number, wire = tag >> 3, tag & 7
        if not 1 <= number <= MAX_FIELD:
            malformed("a field number is out of range")
        field = schema.get(number)
        if field is None:
            reader.skip(wire)
            continue
        if wire != (VARINT if field.type == "uint" else LENGTH):
            malformed(f"field {field.name} has wire type {wire}")
        value = _read_field(reader, field)
        if not field.repeated:
            message[field.name] = value
        elif len(message[field.name]) == MAX_REPEATED:
            malformed(f"field {field.name} comes more than {MAX_REPEATED} times")
        else:
            message[field.name].append(value)
    for field in schema.values():
        if field.required and field.name not in message:
            malformed(f"field {field.name} is missing")
    return message


def _read_field(reader: _Reader, field: Field) -> Any:  # noqa: ANN401 - as the schema types it
    if field.type == "uint":
        value = reader.varint()
        if value > field.max:
            malformed(f"field {field.name} is out of range")
        return value
    raw = reader.take(reader.varint())
    if field.length is not None and len(raw) != field.length:
        malformed(f"field {field.name} has {len(raw)} bytes, not {field.length}")
    return decode(field.schema or {}, raw) if field.type == "message" else raw
