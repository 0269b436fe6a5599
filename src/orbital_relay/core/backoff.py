"""
Reconnection back-off with jitter: the delay before a client's next attempt to reconnect.

    wait  = max(step, retry_after) + floor(random * max(step, spread))
    step  = 1, 2, 4, 8, 16, 32, 32, … s by the number of failures in a row
    and never earlier than 61 s after the fifth attempt before this one

The random part of the first wait is 6 s, so that the clients of a server that restarts come back over more than 5 s.
A wake (the user asks, the network returned, the page is shown again) has neither step nor spread, but keeps
to Retry-After and to the five attempts a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """
    The rule, with its numbers. All times are whole milliseconds.

    A rule holds no state: what happened comes in as arguments.
    """

    steps_ms: tuple[int, ...] = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
    """Shortest wait after 0, 1, 2, … failures in a row; the last one stands for all that follow."""
    jitter_ms: int = 6_000
    """Least width of the random part: a hundred clients that lose their server at once come back over more than 5 s."""
    attempts: int = 5
    """Most attempts in a window."""
    window_ms: int = 61_000
    """The server counts five a minute by arrival; one second more allows for an attempt that was slow to arrive."""

    def delay_ms(
        self,
        failures: int,
        *,
        random: float,
        now_ms: int,
        earlier_ms: Sequence[int] = (),
        retry_after_ms: int = 0,
    ) -> int:
        """
        Return how long to wait before the next attempt.

        Args:
            failures: Attempts that failed since the connection was last open.
            random: A number in [0, 1), new for each call.
            now_ms: The time now, on any clock that does not step back.
            earlier_ms: When the earlier attempts began, oldest first, on the same clock.
            retry_after_ms: What the server asked for, from now; 0 when it did not.

        Returns:
            Milliseconds from now, 0 or more.
        """
        step = self.steps_ms[min(failures, len(self.steps_ms) - 1)]
        wait = max(step, retry_after_ms) + floor(random * max(step, self.jitter_ms))
        return max(wait, self._window_ms(now_ms, earlier_ms))

    def wake_ms(self, *, now_ms: int, earlier_ms: Sequence[int] = (), retry_after_ms: int = 0) -> int:
        """
        Return how long to wait when there is a reason to try at once.

        Args:
            now_ms: The time now, on any clock that does not step back.
            earlier_ms: When the earlier attempts began, oldest first, on the same clock.
            retry_after_ms: What is left of what the server asked for; 0 when it did not.

        Returns:
            Milliseconds from now, 0 or more; 0 is at once.
        """
        return max(retry_after_ms, self._window_ms(now_ms, earlier_ms))

    def _window_ms(self, now_ms: int, earlier_ms: Sequence[int]) -> int:
        """Return how long the window stays full."""
        if len(earlier_ms) < self.attempts:
            return 0
        return max(0, earlier_ms[-self.attempts] + self.window_ms - now_ms)


BACKOFF: Final = Backoff()
"""The default policy of clients."""
