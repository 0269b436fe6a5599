"""Reconnect policy: when to reconnect (back-off, Retry-After), and when never."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from orbital_relay.core.backoff import BACKOFF, Backoff

FINAL_STATUS: Final = frozenset({400, 401, 403, 404, 405, 426})
"""Answers of Orbital's own to a handshake that another try would get again."""

POLICY_VIOLATION: Final = 1008
"""RFC 6455 §7.4.1; the server's word for a token that ended, and for a client that will not behave."""

IDLE_SLACK_S: Final = 10.0
"""How late a ping may be before the connection counts as dead."""


@dataclass(slots=True)
class ReconnectPolicy:
    """
    When to dial next, and when never again. All times are milliseconds of a clock that does not step back.

    A line never dials.
    """

    backoff: Backoff = BACKOFF
    failures: int = 0
    attempts_ms: list[int] = field(default_factory=list)

    def dialed(self, *, now_ms: int) -> None:
        """Note that an attempt begins."""
        self.attempts_ms.append(now_ms)
        del self.attempts_ms[: -self.backoff.attempts]

    def opened(self) -> None:
        """Note that the server has greeted us."""
        self.failures = 0

    def failed(self, *, now_ms: int, random: float, opened: bool, retry_after_ms: int = 0) -> int:
        """
        Note that an attempt failed or an open connection was lost.

        Args:
            now_ms: The time now.
            random: A number in [0, 1), new for each call.
            opened: Whether the server had greeted us; then no attempt has failed yet.
            retry_after_ms: What the server asked for; 0 when it did not.

        Returns:
            Milliseconds to wait before the next attempt.
        """
        self.failures = 0 if opened else self.failures + 1
        return self.backoff.delay_ms(
            self.failures, random=random, now_ms=now_ms, earlier_ms=self.attempts_ms, retry_after_ms=retry_after_ms
        )

    def wake(self, *, now_ms: int) -> int:
        """
        Return how long to wait when there is a reason to try at once.

        A `Retry-After` does not count then: a person who asks knows more than an answer of five minutes ago. Five
        attempts a minute are the bound all the same.
        """
        return self.backoff.wake_ms(now_ms=now_ms, earlier_ms=self.attempts_ms)


HEARTBEAT_MOST_S: Final = 300.0
"""A server that announces more is taken at this: a dead connection must be noticed at some time."""


def idle_limit_s(heartbeat_s: float, slack_s: float = IDLE_SLACK_S) -> float:
    """Return after how long without a frame a connection is dead: one heartbeat, and the slack."""
    return min(max(heartbeat_s, 0.0), HEARTBEAT_MOST_S) + slack_s
