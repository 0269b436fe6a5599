"""Any input: a response that the description declares, never an internal error."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.server.http import ENDPOINTS
from orbital_relay.server.http.endpoint import Endpoint
from tests.server.api import Api

pytestmark = pytest.mark.asyncio(loop_scope="module")

# HTTP carries bytes; a text that a client in JavaScript or Python encodes may contain anything.
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_REVEALING = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "null",
        "true",
        "AAAA",
        "AAA=",
        "\x00",
        "../..",
        "1e9",
        str(2**63),
        str(10**30),
        "created_asc",
        "{}",
        "ABCD1234",
        "00000000-0000-4000-8000-000000000000",
        "00000000-0000-4000-8000-00000000000g",
        "ada",
        "Correct-Horse-7",
    ]
)
_VALUE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _REVEALING
    | _TEXT
    | st.lists(_REVEALING, max_size=3)
    | st.dictionaries(_TEXT, _REVEALING, max_size=3)
)


def _names(form: type[msgspec.Struct] | None) -> list[str]:
    return ["more"] if form is None else [*form.__struct_fields__, "more"]


@st.composite
def _requests(draw: st.DrawFn) -> tuple[Endpoint, str, bytes, dict[str, str]]:
    """Requests that come close: a route's own path, its own fields, with anything in them."""
    each = draw(st.sampled_from(ENDPOINTS))
    path = each.path
    for name in ("group_id", "thread_id", "user_id", "media_id"):
        path = path.replace(f"{{{name}}}", quote(draw(_REVEALING | _TEXT), safe="") or "x")
    fields = draw(st.lists(st.tuples(st.sampled_from(_names(each.query)), _REVEALING | _TEXT), max_size=4))
    query = "&".join(f"{name}={quote(value)}" for name, value in fields)
    body: bytes
    if draw(st.booleans()):
        body = json.dumps(draw(st.dictionaries(st.sampled_from(_names(each.body)), _VALUE, max_size=6))).encode()
    else:
        body = draw(st.binary(max_size=60) | _VALUE.map(lambda value: json.dumps(value).encode()))
    headers = draw(
        st.dictionaries(
            st.sampled_from(
                ["Idempotency-Key", "Accept", "Content-Type", "If-None-Match", "Range", "X-Forwarded-For", "Origin"]
            ),
            (_REVEALING | _TEXT).map(lambda text: text.encode().replace(b"\0", b"").decode("latin-1")),
            max_size=2,
        )
    )
    return each, f"{path}?{query}", body, headers


@pytest.fixture
def api(shared_api: Api) -> Api:
    """One node for all of these."""
    return shared_api


@hypothesis.settings(max_examples=300, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(asked=_requests(), known=st.booleans())
async def test_anything_has_an_answer(api: Api, asked: Any, *, known: bool):
    """[ANY1] Every input, valid or not, with a token or without, gets a declared response, and never a 500."""
    each, path, body, headers = asked
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    if known:
        raw.append((b"Authorization", api.user().headers["Authorization"].encode()))

    answer = await api.ask(each.method, path, content=body, headers=raw)

    assert answer.status_code != 500
