"""Tokens as another service, or a forger, would make them; without the library that the server uses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from tests.support.server import SECRET


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def sign(claims: Mapping[str, Any], *, secret: str = SECRET, header: Mapping[str, Any] | None = None) -> str:
    """Return a JWT (RFC 7519) of exactly these claims, signed with HS256 whatever the header says."""
    head = json.dumps(header or {"alg": "HS256", "typ": "JWT"}).encode()
    signed = f"{_part(head)}.{_part(json.dumps(dict(claims)).encode())}"
    return f"{signed}.{_part(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


def token(user_id: str, username: str = "outsider", *, lives_s: float = 3600, secret: str = SECRET) -> str:
    """Return a good token for any user; negative `lives_s` makes one that has expired."""
    now = int(time.time())
    return sign({"userId": user_id, "username": username, "iat": now, "exp": int(now + lives_s)}, secret=secret)
