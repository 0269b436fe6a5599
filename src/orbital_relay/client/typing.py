"""Typing indicators that the client sends: a throttle for each thread, and the stop after silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orbital_relay.client.clocks import tick_ms
from orbital_relay.client.protocol import typing as rule
from orbital_relay.client.protocol.typing import TypingThrottle


class Typists:
    """The threads in which the user types. It never sends; it calls `say` when something is to be sent."""

    def __init__(self, say: Callable[[str, bool], None]) -> None:
        self._say = say
        self._throttles: dict[str, TypingThrottle] = {}

    def typing(self, thread_id: str, *, is_typing: bool) -> None:
        """Note a keystroke, or a stop."""
        throttle = self._throttles.get(thread_id)
        if not is_typing:
            if throttle is not None and throttle.stop():
                self._say(thread_id, False)
            self._throttles.pop(thread_id, None)
            return
        if throttle is None:
            throttle = self._throttles[thread_id] = TypingThrottle()
            self._look_later(thread_id, throttle, rule.TYPING_STOP_MS)
        if throttle.start(now_ms=tick_ms()):
            self._say(thread_id, True)

    def _look_later(self, thread_id: str, throttle: TypingThrottle, delay_ms: int) -> None:
        asyncio.get_running_loop().call_later(delay_ms / 1_000, self._look, thread_id, throttle)

    def _look(self, thread_id: str, throttle: TypingThrottle) -> None:
        """Stop when there was no keystroke for long enough."""
        if self._throttles.get(thread_id) is not throttle:
            return
        left_ms = throttle.silent_in_ms(now_ms=tick_ms())
        if left_ms > 0:
            self._look_later(thread_id, throttle, left_ms)
            return
        self.typing(thread_id, is_typing=False)
