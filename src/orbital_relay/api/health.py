"""The answers of the health probes: liveness, readiness, and the status for administrators."""

from __future__ import annotations

from orbital_relay.api.fields import ResponseBody


class Health(ResponseBody, frozen=True, kw_only=True):
    """The process answers."""

    status: str


class Readiness(ResponseBody, frozen=True, kw_only=True):
    """Posts are stored. `degraded` lists unreachable or full parts (`redis`, `disk`); empty if `status` is `ready`."""

    status: str
    degraded: list[str]


class SeenClient(ResponseBody, frozen=True, kw_only=True):
    """The client address that rate limits use; whether `X-Forwarded-For` was sent, and by a trusted proxy."""

    address: str
    forwarded: bool
    trusted: bool


class ReceivedBody(ResponseBody, frozen=True, kw_only=True):
    """The time from the head of a request to the end of its body, as the server received them."""

    milliseconds: int
