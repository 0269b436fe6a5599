"""Typing throttle: how often `typing` is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TYPING_REPEAT_MS: Final = 3_000
"""Twice within the 6 s after which the server says the stop itself."""

TYPING_STOP_MS: Final = 5_000
"""Silence after which we say the stop ourselves."""


@dataclass(slots=True)
class TypingThrottle:
    """
    How often to say that the user writes in one thread.

    A throttle never sends; it answers whether to.
    """

    said_ms: int | None = None
    """When the last `true` was sent; None when the last word was a stop."""
    called_ms: int = 0

    def start(self, *, now_ms: int) -> bool:
        """Note a keystroke; True when `is_typing: true` is due."""
        self.called_ms = now_ms
        if self.said_ms is not None and now_ms - self.said_ms < TYPING_REPEAT_MS:
            return False
        self.said_ms = now_ms
        return True

    def stop(self) -> bool:
        """Note that the user stopped; True when `is_typing: false` is due."""
        due = self.said_ms is not None
        self.said_ms = None
        return due

    def silent_in_ms(self, *, now_ms: int) -> int:
        """Return in how many milliseconds the stop is due when no keystroke comes; 0 when it is due now."""
        return max(0, self.called_ms + TYPING_STOP_MS - now_ms)
