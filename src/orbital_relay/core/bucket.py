"""Token buckets: a rate limit with a burst."""

from __future__ import annotations


class Bucket:
    """
    A bucket that fills with time and is emptied by what comes.

    It starts full. A refused request takes nothing, so a client that is refused and waits is served again after
    `1 / rate` seconds, however often they tried meanwhile. A bucket never holds more than its capacity.
    """

    __slots__ = ("_at_s", "_level", "capacity", "rate")

    def __init__(self, *, rate: float, capacity: float, now_s: float) -> None:
        """
        Start full.

        Args:
            rate: What flows in, a second; above 0.
            capacity: What it holds; 1 or more, or nothing would ever pass.
            now_s: The time now, in seconds on any clock.

        Raises:
            ValueError: If nothing could ever pass.
        """
        if rate <= 0 or capacity < 1:
            raise ValueError(f"a bucket of {capacity:g} that fills with {rate:g} a second admits nothing")
        self.rate = rate
        self.capacity = capacity
        self._level = capacity
        self._at_s = now_s

    def take(self, now_s: float, *, cost: float = 1) -> bool:
        """
        Take `cost` out of the bucket if it holds that much.

        Args:
            now_s: The time now, on the clock of the start; a step back counts as no time at all.
            cost: How much to take.

        Returns:
            True, and it is taken; False, and the bucket is as it was.
        """
        if now_s > self._at_s:
            self._level = min(self.capacity, self._level + (now_s - self._at_s) * self.rate)
            self._at_s = now_s
        if self._level < cost:
            return False
        self._level -= cost
        return True

    def wait_s(self, now_s: float, *, cost: float = 1) -> float:
        """
        Return after how many seconds `take` would succeed; 0 is now.

        Args:
            now_s: The time now, on the clock of the start.
            cost: How much would be taken; no more than the capacity.
        """
        level = min(self.capacity, self._level + max(0.0, now_s - self._at_s) * self.rate)
        return max(0.0, (cost - level) / self.rate)
