"""What a push service said to a message."""

from __future__ import annotations

from typing import Literal

import msgspec


class Sent(msgspec.Struct, frozen=True):
    """
    What a push service said.

    Attributes:
        result: `sent`; `gone`: the endpoint no longer exists; `large`: a smaller message may go through; `failed`.
        retry_after_s: How long the service asked to wait, in seconds.
        reason: Why it failed, without the endpoint: that is a secret.
    """

    result: Literal["sent", "gone", "large", "failed"]
    retry_after_s: float = 0
    reason: str = ""
