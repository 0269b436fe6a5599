"""Validation of a request head (HTTP/1.1): framing, target, upgrade, request id."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import msgspec

from orbital_relay.errors import ValidationFailed

FRAMING: Final = frozenset({b"host", b"connection", b"upgrade", b"content-length", b"transfer-encoding", b"expect"})
"""Header fields that decide where a request ends, for which host it is, and whether it asks for another protocol."""

ENCODED_SLASH: Final = "\udc2f"
"""Stands for `%2F` in a decoded path. A lone surrogate: no percent-encoding decodes to it."""

_REQUEST_ID: Final = re.compile("[0-9A-Za-z._:-]{1,64}")
_ENCODED_SLASH: Final = re.compile("%2f", re.IGNORECASE)
# RFC 9110 §7.2 and RFC 3986 §3.2.2: a name or an address, perhaps in brackets, optionally with a port.
_HOST: Final = re.compile(rb"(?:\[[0-9A-Za-z:.%]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]*)?")


class VersionRefused(ValidationFailed):
    """RFC 9110 §15.6.6: the major version of HTTP in the request line is not supported."""

    status = 505


class CodingRefused(ValidationFailed):
    """RFC 9112 §6.1: the body has a transfer coding that this server does not support."""

    status = 501


class RequestHead(msgspec.Struct, frozen=True):
    """
    What the framing fields of a head say.

    Attributes:
        upgrade: The value of `Upgrade` in lower case, if `Connection` names it.
        has_body: Whether a body follows.
        expects_continue: Whether the client waits for 100 (Continue) before it sends the body.
    """

    upgrade: bytes | None
    has_body: bool
    expects_continue: bool = False


_NO_BODY: Final = RequestHead(upgrade=None, has_body=False)
_WITH_BODY: Final = RequestHead(upgrade=None, has_body=True)


def judge(method: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> RequestHead:
    """
    Check that a head can be understood in one way only.

    Two servers that read one head in two ways can be made to disagree about where the next request begins (RFC 9112
    §11.2). The parser has checked the form of each field, and that there is one length.

    Args:
        method: In capitals.
        version: Of HTTP, as "1.1".
        headers: All fields, names in lower case.

    Raises:
        VersionRefused: If the version is neither 1.0 nor 1.1.
        CodingRefused: If the body has another transfer coding than chunked.
        ValidationFailed: For anything else that is not clear.
    """
    host = length = None
    # The ordinary request, in one pass: one Host, perhaps a length, nothing else that touches the framing.
    for name, value in headers:
        if name in FRAMING:
            if name == b"host" and host is None:
                host = value
            elif name == b"content-length":
                length = value
            elif name != b"connection":
                break
    else:
        if host is not None and version == "1.1" and method != b"CONNECT" and _is_host(host):
            return _NO_BODY if length is None or length.strip(b" \t0") == b"" else _WITH_BODY
    return _judge_all(method, version, [field for field in headers if field[0] in FRAMING])


def _judge_all(method: bytes, version: str, framing: list[tuple[bytes, bytes]]) -> RequestHead:
    if version not in {"1.1", "1.0"}:
        raise VersionRefused(f"HTTP/{version} is not supported; send HTTP/1.1.")
    if method == b"CONNECT":
        raise ValidationFailed("This server is not a proxy: CONNECT is not supported.")
    hosts = 0
    connection: list[bytes] = []
    upgrades: list[bytes] = []
    codings: list[bytes] = []
    has_body = expects_continue = False
    for name, value in framing:
        if name == b"host":
            hosts += 1
            if not _is_host(value):
                raise ValidationFailed("The header Host is not a host name or address, optionally with a port.")
        elif name == b"content-length":
            has_body = value.strip(b" \t0") != b""
        elif name == b"transfer-encoding":
            codings.append(value.strip().lower())
        elif name == b"connection":
            connection += [option.strip().lower() for option in value.split(b",")]
        elif name == b"expect":
            # RFC 9110 §10.1.1: HTTP/1.0 has no interim answers.
            expects_continue = expects_continue or (version == "1.1" and value.lower() == b"100-continue")
        else:
            upgrades.append(value.strip().lower())
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        # RFC 9112 §3.2.
        raise ValidationFailed(f"An HTTP/1.1 request has exactly one Host header; this one has {hosts}.")
    if codings:
        if version == "1.0":
            # RFC 9112 §6.1: its framing is to be taken as faulty.
            raise ValidationFailed("HTTP/1.0 has no Transfer-Encoding; send Content-Length.")
        if codings != [b"chunked"]:
            raise CodingRefused("The only transfer coding supported here is chunked.")
        has_body = True
    asked = b", ".join(upgrades) if upgrades and b"upgrade" in connection else None
    return RequestHead(asked, has_body, expects_continue)


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    # A server is reached by few names, and the pattern costs more than the rest of an ordinary head.
    return _HOST.fullmatch(value.strip()) is not None


def request_id(given: str | None) -> str:
    """Return the id by which a request is found in logs: the header `X-Request-Id` of a proxy, or a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given) is not None:
        return given
    return secrets.token_hex(8)


def decode_path(raw_path: str) -> str:
    """
    Decode a path's percent-encodings once; an encoded slash becomes ENCODED_SLASH and separates nothing.

    A proxy's rule for `/api/groups` does not see `/api%2Fgroups`, so the two are not one path (RFC 3986 §2.2).
    """
    if "%" not in raw_path:
        return raw_path
    return ENCODED_SLASH.join(unquote(part) for part in _ENCODED_SLASH.split(raw_path))


def write_head(method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of a head, for another parser to read."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [b"%b: %b" % field for field in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"
