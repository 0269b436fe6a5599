"""The limiter's adapters: what the port promises, of each; and what is done while the shared storage is unreachable."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from limits.aio.storage import MemoryStorage
from limits.errors import StorageError

from orbital_relay.server.limits.limiter import LocalLimiter
from orbital_relay.server.limits.shared_limiter import SharedLimiter


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def wall_ms(self):
        # The library's storage in memory stamps by the system's clock.
        return round(time.time() * 1000)

    def steady_s(self):
        return self.now_s


class Faulty(MemoryStorage):
    """A storage that can be away, as the library tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = 0

    async def acquire_entry(self, key, limit, expiry, amount=1):
        self._answer()
        return await super().acquire_entry(key, limit, expiry, amount)

    async def get_moving_window(self, key, limit, expiry):
        self._answer()
        return await super().get_moving_window(key, limit, expiry)

    def _answer(self) -> None:
        self.asked += 1
        if self.away:
            raise StorageError(ConnectionError("refused"))

    def still(self) -> None:
        """End the library's own sweep."""
        if self.timer is not None:
            self.timer.cancel()


@pytest.fixture
def clock():
    """Time that the test moves."""
    return Clock()


@pytest.fixture
def storage():
    """A storage that the test can disconnect."""
    made = Faulty()
    yield made
    made.still()


@pytest.fixture(params=["local", "shared"])
def limiter(request, clock):
    """Each adapter, on memory."""
    if request.param == "local":
        yield LocalLimiter(clock)
        return
    made = MemoryStorage()
    yield SharedLimiter(made, clock=clock)
    if made.timer is not None:
        made.timer.cancel()


async def test_hits_above_the_limit_wait(limiter):
    """[LMT1] Hits up to the limit pass; the next gets the seconds to wait, within the window, as `peek` returns."""
    assert await limiter.peek("login", "a", limit=3, window_s=60) is None
    assert [await limiter.hit("login", "a", limit=3, window_s=60) for _ in range(3)] == [None] * 3

    wait_s = await limiter.hit("login", "a", limit=3, window_s=60)

    assert wait_s == pytest.approx(60, abs=5)
    assert await limiter.peek("login", "a", limit=3, window_s=60) == pytest.approx(wait_s, abs=5)


async def test_limits_and_keys_are_independent(limiter):
    """[LMT2] Another key, or the same key under another limit, has its own count."""
    await limiter.hit("login", "a", limit=1, window_s=60)

    assert await limiter.hit("login", "b", limit=1, window_s=60) is None
    assert await limiter.hit("signup", "a", limit=1, window_s=60) is None
    assert await limiter.hit("login", "a", limit=1, window_s=60) is not None


async def test_peek_does_not_count(limiter):
    """[LMT3] `peek` does not count as an attempt."""
    for _ in range(10):
        assert await limiter.peek("join", "a", limit=1, window_s=60) is None

    assert await limiter.hit("join", "a", limit=1, window_s=60) is None


def test_local_answers_without_waiting(clock):
    """[LMT4] Within one process the result is immediate, and time is the clock's."""
    limiter = LocalLimiter(clock)
    assert limiter.hit_now("connect", "a", limit=1, window_s=60) is None
    assert limiter.hit_now("connect", "a", limit=1, window_s=60) == 60
    assert limiter.peek_now("connect", "a", limit=1, window_s=60) == 60

    clock.now_s += 60

    assert limiter.peek_now("connect", "a", limit=1, window_s=60) is None
    assert limiter.hit_now("connect", "a", limit=1, window_s=60) is None


def test_a_hit_is_one_round_trip(clock):
    """[LMT5] A hit, which every request makes, runs some thirty lines, also with 10,000 users."""
    limiter = LocalLimiter(clock)
    for number in range(10_000):
        limiter.hit_now("request", f"user-{number}", limit=600, window_s=60)

    lines: list[int] = []

    def trace(frame: Any, event: str, _: Any) -> Any:
        if event == "line":
            lines.append(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for number in range(100):
            limiter.hit_now("request", f"user-{number}", limit=600, window_s=60)
    finally:
        sys.settrace(before)

    print(f"hit_now: {len(lines) / 100:.1f} lines")
    assert 100 < len(lines) < 30 * 100


async def test_without_the_storage_each_server_counts_alone(clock, storage, caplog):
    """[LMT6] If the storage fails, the server counts alone and does not use the storage for five seconds."""
    limiter = SharedLimiter(storage, clock=clock)
    storage.away = True

    assert await limiter.hit("request", "a", limit=1, window_s=60) is None
    assert await limiter.hit("request", "a", limit=1, window_s=60) == 60
    assert await limiter.peek("request", "a", limit=1, window_s=60) == 60
    assert storage.asked == 1
    assert caplog.text.count("counted by this server alone") == 1
    clock.now_s += 5
    assert await limiter.peek("request", "a", limit=1, window_s=60) == 55
    assert storage.asked == 2

    storage.away = False
    clock.now_s += 5

    assert await limiter.hit("request", "a", limit=1, window_s=60) is None
    assert storage.asked == 3


async def test_redis_is_shared(redis_server, clock):
    """[LMT7] Two servers that share one Redis share the counts."""
    first, second = (SharedLimiter.of(redis_server.url, clock=clock) for _ in range(2))
    try:
        assert await first.hit("connect", "a", limit=2, window_s=60) is None
        assert await second.peek("connect", "a", limit=2, window_s=60) is None
        assert await second.hit("connect", "a", limit=2, window_s=60) is None

        assert await first.hit("connect", "a", limit=2, window_s=60) == pytest.approx(60, abs=5)
        assert await second.peek("connect", "a", limit=2, window_s=60) == pytest.approx(60, abs=5)
    finally:
        await first.close()
        await second.close()


async def test_an_unreachable_redis(clock):
    """[LMT8] If Redis does not respond, on a port or a Unix socket, the server counts alone."""
    for url in ("redis://127.0.0.1:1/0", "unix:///nonexistent/redis.sock"):
        limiter = SharedLimiter.of(url, clock=clock)
        try:
            assert await limiter.hit("connect", "a", limit=1, window_s=60) is None
            assert await limiter.hit("connect", "a", limit=1, window_s=60) == 60
        finally:
            await limiter.close()
