"""The flag that says whether the server is draining; `serve.py` decides when."""

from __future__ import annotations


class Lifecycle:
    """
    The state of one server, which those who serve requests read.

    Attributes:
        draining: Whether the server is shutting down: it accepts nothing new.
    """

    __slots__ = ("draining",)

    def __init__(self) -> None:
        self.draining = False
