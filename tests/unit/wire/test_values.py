"""Values of the wire: moments, UUIDs and base64, each against its standard."""

from __future__ import annotations

import base64
import time
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.wire import (
    decoded_size,
    encode_bytes,
    is_base64,
    is_uuid,
    iso,
    read_uuid,
    timed_uuid,
    uuid_time_ms,
)

UUID = "9f0c1d2e-0a4b-4c00-8000-00000000000b"


@pytest.mark.parametrize(
    "at_ms, text",
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (1000, "1970-01-01T00:00:01.000Z"),
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_moments(at_ms: int, text: str):
    """[WVAL1] A moment is RFC 3339 in UTC with `Z` and three digits of milliseconds."""
    assert iso(at_ms) == text
    assert datetime.fromisoformat(text) == datetime.fromtimestamp(at_ms // 1000, UTC).replace(
        microsecond=at_ms % 1000 * 1000
    )


def test_the_zone_of_the_machine_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    """[WVAL4] A moment is in UTC, also on a machine in another time zone."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert iso(86_399_000) == "1970-01-01T23:59:59.000Z"  # a second that no other test writes
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.uuids())
def test_uuids(drawn: uuid.UUID):
    """[WVAL2] A UUID is written in lower case with hyphens, and read in any case (RFC 9562 §4)."""
    assert is_uuid(str(drawn))
    assert read_uuid(str(drawn)) == str(drawn)
    assert read_uuid(str(drawn).upper()) == str(drawn)
    assert not is_uuid(drawn.hex)
    assert read_uuid(drawn.hex) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        UUID[:-1],
        UUID + "0",
        f"{{{UUID}}}",
        f" {UUID}",
        f"{UUID}\n",
        UUID.replace("-", "_"),
        UUID.replace("f", "g"),
        "0" + UUID.replace("-", "", 1),
        # The long s, the Kelvin sign and full-width digits are no hexadecimal digits, whatever their lower case is.
        UUID.replace("0", "\uff10"),
        UUID.replace("b", "\u212a"),
    ],
)
def test_no_uuid(text: str):
    """[WVAL5] A text with another length, other characters or other separators is not a UUID, in any case."""
    assert not is_uuid(text)
    assert read_uuid(text) is None
    assert read_uuid(text.upper()) is None


def test_only_six_letters_are_capitals_of_hexadecimal_digits():
    """[WVAL6] A UUID in another script is not read: no other letter has a lower case among the digits of a UUID."""
    folding = {chr(number) for number in range(0x110000) if set(chr(number).lower()) & set("0123456789abcdef-")}

    assert folding == set("0123456789abcdefABCDEF-")


def test_capitals_are_not_written():
    """[WVAL7] A UUID in capitals is read, but is not the form that the server writes."""
    assert not is_uuid(UUID.upper())


@given(st.binary(min_size=1, max_size=70))
def test_base64(data: bytes):
    """[WVAL3] Base64 in either alphabet, with padding or without, is accepted, and its size is that of the bytes."""
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        assert is_base64(text)
        assert is_base64(text.rstrip("="))
        assert decoded_size(text) == decoded_size(text.rstrip("=")) == len(data)
    assert encode_bytes(data) == base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "==",
        "A",  # six bits are no byte
        "AAAAA",
        "AA=",  # padding that is too short
        "AAA==",
        "AAAA=",
        "AAAA==",
        "AA===",
        "A=AA",
        "AA==AA==",
        "+-AA",  # both alphabets
        "_/AA",
        "AAAA\n",
        " AAAA",
        "AA AA",
        "AAä=",
        "AA\uff21=",
    ],
)
def test_no_base64(text: str):
    """[WVAL8] Both alphabets at once, wrong padding, an impossible length or white space is not base64 (RFC 4648)."""
    assert not is_base64(text)


@pytest.mark.parametrize("text", ["AA", "AAA", "AAAA", "AA==", "AAA=", "+/AA", "-_AA", "-_A", "a9Z="])
def test_forms_of_base64(text: str):
    """[WVAL9] Each length, padding and alphabet of RFC 4648 §4 and §5 is base64."""
    assert is_base64(text)


@pytest.mark.parametrize("at_ms", [0, 1, 1_700_000_000_123, 2**48 - 1])
def test_a_moment_in_a_uuid(at_ms: int):
    """[WVAL10] A UUID of version 7 holds its moment and keeps the random bits; other versions hold none (RFC 9562)."""
    random_id = str(uuid.uuid4())

    timed_id = timed_uuid(random_id, at_ms)

    assert uuid.UUID(timed_id).version == 7
    assert uuid.UUID(timed_id).variant == uuid.RFC_4122
    assert timed_id[15:] == random_id[15:]
    assert is_uuid(timed_id)
    assert (uuid_time_ms(timed_id), uuid_time_ms(random_id)) == (at_ms, None)
