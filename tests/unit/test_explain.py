"""Sentences for input that the decoder refuses."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay import wire
from orbital_relay.explain import explain, field_of
from orbital_relay.server.http import ENDPOINTS

VALIDATOR = re.compile(r"`|Expected|Object |\bgot\b|\$|\b(?:str|int|float|bool|array|dict|NoneType|msgspec|codec)\b")
"""What a sentence of the decoder has, and none of ours."""


class Inner(msgspec.Struct):
    deep: Annotated[str, msgspec.Meta(min_length=2, max_length=4)]


class Form(msgspec.Struct):
    number: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    timestamp: Annotated[float, msgspec.Meta(ge=0, multiple_of=1)] = 0
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    inner: Inner | None = None
    names: list[str] = []
    since: dict[str, int | Inner] = {}
    few: Annotated[list[int], msgspec.Meta(max_length=1)] = []


def _refused(text: bytes, form: Any = Form) -> Exception:
    with pytest.raises((ValueError, RecursionError)) as refused:
        msgspec.json.decode(text, type=form)
    return refused.value


@pytest.mark.parametrize(
    ("text", "field", "sentence"),
    [
        (b'{"number": "x"}', "number", "number must be a whole number, not text."),
        (b'{"number": 0}', "number", "number must be at least 1."),
        (b'{"number": 6}', "number", "number must be at most 5."),
        (b'{"number": ' + b"9" * 5000 + b"}", "number", "number is a number too large to be read."),
        (b'{"timestamp": 1.5}', "timestamp", "timestamp must be a whole number of milliseconds."),
        (b'{"timestamp": -1}', "timestamp", "timestamp must be at least 0."),
        (b'{"flag": null}', "flag", "flag must be true or false, not null."),
        (b'{"kind": "c"}', "kind", "kind is not one of the values that are known."),
        (b'{"inner": {}}', "inner.deep", "inner.deep is missing."),
        (b'{"inner": {"deep": "x"}}', "inner.deep", "inner.deep must have at least 2 characters."),
        (b'{"inner": []}', "inner", "inner must be an object or null, not a list."),
        (b'{"names": [1]}', "names[0]", "names[0] must be text, not a whole number."),
        (b'{"since": {"a": "b"}}', "since[...]", "Each entry of since must be a whole number or an object, not text."),
        (b'{"few": [1, 2]}', "few", "few must have at most 1 entries."),
        (b"[]", None, "The JSON must be an object, not a list."),
        (b"{", None, "This is not JSON: it ends too early."),
        (b'{"number": 01}', None, "This is not JSON: invalid number at byte 12."),
        (b'{"names": ["\xff"]}', None, "The JSON is not UTF-8."),
    ],
)
def test_a_refusal_names_field_and_value(text: bytes, field: str | None, sentence: str):
    """[SENT1] A refusal names the field and the required value, in JSON terms."""
    exc = _refused(text)

    assert (field_of(exc), explain(exc)) == (field, sentence)


def test_nested_too_deeply():
    """[SENT1] Input that is nested too deeply is refused with a message, too."""
    assert explain(RecursionError("maximum recursion depth exceeded")) == "The JSON is nested too deeply."


FORMS = [each.body for each in ENDPOINTS if each.body is not None] + [wire.ClientFrame]
WRONG = [None, True, 5, -1, 1.5, 1e300, "x", "", [], [1], {}, {"a": 1}, "x" * 100]


def _fields(form: Any) -> list[str]:
    structs = form.__args__ if hasattr(form, "__args__") else (form,)
    return sorted({field.encode_name for each in structs for field in msgspec.structs.fields(each)} | {"type", "data"})


@pytest.mark.parametrize("form", FORMS, ids=str)
@given(st.data())
def test_no_message_has_the_decoders_wording(form: Any, data: st.DataObject):
    """[SENT2] For any body or frame, no message contains the decoder's wording or Python type names."""
    names = st.sampled_from(_fields(form))
    wrong = st.sampled_from(WRONG)
    values = wrong | st.dictionaries(names | st.sampled_from(["group_ids", "since"]), wrong)
    kinds = st.sampled_from(["subscribe", "unsubscribe", "authenticate", "typing_indicator", "x", "pong"])
    body = data.draw(st.dictionaries(names, values, max_size=6) | wrong)
    if isinstance(body, dict) and form is wire.ClientFrame and data.draw(st.booleans()):
        body["type"] = data.draw(kinds)

    refusal: Exception | None = None
    try:
        msgspec.json.decode(msgspec.json.encode(body), type=form)
    except msgspec.ValidationError as exc:
        refusal = exc

    if refusal is not None:
        sentence = explain(refusal)
        assert VALIDATOR.search(sentence) is None, (sentence, str(refusal))
        assert sentence.endswith(".")
        assert "does not have the form" not in sentence, str(refusal)
