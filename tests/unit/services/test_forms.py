"""The form of what clients send."""

from __future__ import annotations

import base64
import json
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.errors import PayloadTooLarge, ValidationFailed
from orbital_relay.services.forms import check_encrypted, make_idempotency_key, new_id, read, read_uuid


@given(st.binary(min_size=1, max_size=300), st.booleans(), st.booleans())
def test_both_base64_alphabets_are_accepted(content: bytes, safe: bool, padded: bool):
    """[FORM1] Both base64 alphabets are accepted, with or without padding."""
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(content).decode()

    check_encrypted("field", text if padded else text.rstrip("="), limit_bytes=300)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "====",
        "A",
        "AAAAA",
        "AA===",
        "A===",
        "AAA==",
        "AA=A",
        "+_AA",
        "AAAA\n",
        " AAAA",
        "hello world",
        "é",
        "AA AA",
    ],
)
def test_invalid_base64_is_refused(text: str):
    """[FORM1] Empty input, wrong length or padding, mixed alphabets and plain text are refused with the field name."""
    with pytest.raises(ValidationFailed) as refused:
        check_encrypted("encrypted_body", text, limit_bytes=100)

    assert refused.value.details["field"] == "encrypted_body"


@pytest.mark.parametrize("text", ["AAAA" * 2, "AAAA" * 2 + "A", "!" * 100])
def test_size_is_checked_first(text: str):
    """[FORM2] Input over the limit is refused for its size, whether or not it is base64; it is not decoded."""
    with pytest.raises(PayloadTooLarge) as refused:
        check_encrypted("encrypted_body", text, limit_bytes=5)

    assert refused.value.details == {"field": "encrypted_body", "limit_bytes": 5}


def test_the_limit_counts_decoded_bytes():
    """[FORM2] Input of exactly the limit is accepted, with or without padding, and one byte more is refused."""
    for size in range(1, 12):
        text = base64.b64encode(bytes(size)).decode()
        check_encrypted("field", text, limit_bytes=size)
        check_encrypted("field", text.rstrip("="), limit_bytes=size)
        with pytest.raises(PayloadTooLarge):
            check_encrypted("field", text, limit_bytes=size - 1)


@pytest.mark.parametrize(
    "text",
    ["", "x", uuid.uuid4().hex, f"{uuid.uuid4()}\n", f"{{{uuid.uuid4()}}}", f"\u212a{str(uuid.uuid4())[1:]}"],
    ids=["empty", "short", "without hyphens", "line feed", "braces", "Kelvin sign"],
)
def test_ids_are_uuids_with_hyphens(text: str):
    """[FORM3] A UUID has hyphens and no surrounding characters; anything else is refused with the field's name."""
    with pytest.raises(ValidationFailed) as refused:
        read_uuid("group_id", text)

    assert refused.value.details == {"field": "group_id"}


def test_ids_in_capitals_are_read():
    """[CASE1] A UUID in upper case is the same id, and is converted to lower case."""
    made = str(uuid.uuid4())

    assert read_uuid("group_id", made.upper()) == read_uuid("group_id", made) == made


def test_new_ids_are_random_uuids():
    """[FORM4] New ids are unique UUIDs of version 4 and the RFC variant."""
    ids = [new_id() for _ in range(1000)]

    parsed = [uuid.UUID(text) for text in ids]
    assert [str(each) for each in parsed] == ids
    assert {(each.version, each.variant) for each in parsed} == {(4, uuid.RFC_4122)}
    assert len(set(ids)) == 1000


# IdempotencyKey

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def _shuffled(value: object) -> object:
    if isinstance(value, dict):
        return {name: _shuffled(value[name]) for name in reversed(value)}
    if isinstance(value, list):
        return [_shuffled(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and float(value) == value:
        return float(value)
    return value


@given(_JSON)
def test_equal_json_has_one_fingerprint(body: object):
    """[ONCE1] The order of members, and `1` instead of `1.0`, do not change the fingerprint of a body."""
    one = make_idempotency_key("key", "operation", body=body)
    other = make_idempotency_key("key", "operation", body=_shuffled(body))

    assert one == other


@pytest.mark.parametrize("other", [{"a": 2}, {"a": "1"}, {"a": True}, {"a": 1, "b": None}, {}, {"a": [1]}, {"a": 1.5}])
def test_other_json_has_another_fingerprint(other: object):
    """[ONCE1] Another value, type or member changes the fingerprint of a body."""
    assert make_idempotency_key("key", "operation", body={"a": 1}) != make_idempotency_key(
        "key", "operation", body=other
    )


def test_operation_and_ids_belong_to_the_fingerprint():
    """[ONCE2] The same body for another operation or path is a different request."""
    idempotency_key = [
        make_idempotency_key("key", operation, *ids, body={})
        for operation, ids in [("a", ()), ("b", ()), ("a", ("1",)), ("a", ("2",)), ("a", ("1", "2"))]
    ]

    assert len({each.fingerprint for each in idempotency_key if each is not None}) == 5


@pytest.mark.parametrize("key", ["", " ", "a b", "a" * 129, "ä", "a\x7f", "a\n"])
def test_the_format_of_keys(key: str):
    """[ONCE3] An idempotency key is 1-128 visible ASCII characters."""
    with pytest.raises(ValidationFailed) as refused:
        make_idempotency_key(key, "operation", body={})

    assert refused.value.details == {"field": "Idempotency-Key"}


def test_keys_of_every_length_are_accepted():
    """[ONCE3] Keys of 1 and of 128 characters are accepted; without a key a request is not idempotent."""
    assert make_idempotency_key("!", "operation", body={}) is not None
    assert make_idempotency_key("~" * 128, "operation", body={}) is not None
    assert make_idempotency_key(None, "operation", body={}) is None


def test_deep_nesting_is_refused():
    """[ONCE1] A body nested deeper than the fingerprint supports is refused as invalid."""
    body: object = []
    for _ in range(100_000):
        body = [body]

    with pytest.raises(ValidationFailed):
        make_idempotency_key("key", "operation", body=body)
    # Taken apart by hand: the interpreter's own way down is as deep.
    while body:
        body = body.pop()  # type: ignore[attr-defined]


# Reading


class _Form(msgspec.Struct):
    number: int
    inner: dict[str, int] = {}


_decoder = msgspec.json.Decoder(_Form)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b"", None),
        (b"{", None),
        (b"null", None),
        (b"[]", None),
        (b"{}", "number"),
        (b'{"number": "1"}', "number"),
        (b'{"number": 1.5}', "number"),
        (b'{"number": true}', "number"),
        (b'{"number": null}', "number"),
        (b'{"number": 1, "inner": {"a": "b"}}', "inner[...]"),
        (b'{"number": 1} x', None),
        (b'{"number": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b'{"inner": {"\xff": 1}, "number": 1}', None),
        (b'{"number": ' + b"9" * 5000 + b"}", "number"),
    ],
)
def test_bad_json_is_explained(text: bytes, field: str | None):
    """[FORM5] Invalid JSON, or JSON of another structure, is refused with a message and, if known, the field."""
    with pytest.raises(ValidationFailed) as refused:
        read(_decoder, text)

    assert refused.value.details == ({} if field is None else {"field": field})
    assert refused.value.message.endswith(".")
    assert json.loads(refused.value.body())["error"] == "VALIDATION_ERROR"


def test_unknown_fields_are_ignored():
    """[FORM5] An unknown field is ignored."""
    assert read(_decoder, b'{"number": 1, "more": {"a": []}}') == _Form(1)
