"""The current request of a task, so that its log lines carry the request id."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, Protocol


class Identified(Protocol):
    """A request with an id, which may be made when it is first asked for."""

    @property
    def request_id(self) -> str:
        """The id, the same at each call."""


class CurrentRequest:
    """
    The request of a task until it is answered.

    A task that a request starts may outlive it: it inherits this object, from which the request is gone then.
    """

    __slots__ = ("request",)

    def __init__(self, request: Identified) -> None:
        self.request: Identified | None = request


CURRENT: Final[ContextVar[CurrentRequest | None]] = ContextVar("orbital_request", default=None)
"""What the task answers; None outside of a request."""


def current_id() -> str | None:
    """Return the id of the request that this task answers; None outside of a request."""
    current = CURRENT.get()
    return None if current is None or current.request is None else current.request.request_id
