"""Types of the fields that several bodies have, and the base of every response."""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec

Encrypted = Annotated[
    str,
    msgspec.Meta(
        description="Base64 (standard or URL-safe alphabet, padding optional, not empty) of bytes that are "
        "opaque to the server.",
        examples=["bm90IGEgc2VjcmV0"],
        extra_json_schema={"contentEncoding": "base64"},
    ),
]
"""An `encrypted_*` field in a body. The annotation describes; `services.forms.check_encrypted` checks."""

Uuid = Annotated[
    str,
    msgspec.Meta(
        description="A UUID with hyphens, in any case; answered in lower case.",
        examples=["6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11"],
        extra_json_schema={"format": "uuid"},
    ),
]
"""An id in a body. The annotation describes; `services.forms.read_uuid` checks."""

JsonSafeInt = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
"""A number that every client can represent exactly: JavaScript's are exact up to 2^53 - 1 (RFC 8259 §6)."""

IfEpoch = Annotated[
    JsonSafeInt | None,
    msgspec.Meta(
        description="The epoch for which the content was encrypted: the number of the group's last `member_joined`, "
        "`member_left`, `identity_changed` or `new_record`. 409 `EPOCH_CHANGED` when the group's is higher."
    ),
]
"""The optional `if_epoch` of a body that posts to a group."""

DisplayName = Annotated[
    str | None,
    msgspec.Meta(
        description="The name that the user chose to be shown under, of any letters; null for none. Two may share one.",
        examples=["Großmutter Ólöf 👵"],
    ),
]
"""The optional name beside `username`."""

HasMore = Annotated[
    bool,
    msgspec.Meta(
        description="Whether entries follow: repeat the request with `offset` plus the number of entries here."
    ),
]


class ResponseBody(msgspec.Struct, frozen=True, kw_only=True):
    """
    The base of every response body.

    The server writes every member. A default is what a client assumes when a server of an older version omits one;
    members that a client does not know are ignored.
    """


def as_sent(text: bytes) -> dict[str, Any]:
    """
    Return a stored JSON object that is encoded byte for byte as it was sent.

    It has the type that its readers decode. On the server it is opaque: an encoder copies its text.
    """
    return cast("dict[str, Any]", msgspec.Raw(text))
