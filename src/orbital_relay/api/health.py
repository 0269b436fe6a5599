"""Health checks."""

from __future__ import annotations

from orbital_relay.api.fields import ResponseBody


class Health(ResponseBody, frozen=True, kw_only=True):
    """The process answers."""

    status: str


class Readiness(ResponseBody, frozen=True, kw_only=True):
    """Posts are stored; `degraded` names what is away or full (`redis`, `disk`); empty when `status` is `ready`."""

    status: str
    degraded: list[str]


class SeenClient(ResponseBody, frozen=True, kw_only=True):
    """The caller as limits count it: whether it sent `X-Forwarded-For`, and whether a trusted proxy did."""

    address: str
    forwarded: bool
    trusted: bool
