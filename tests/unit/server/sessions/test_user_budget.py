"""The budget of one user over all connections: what it holds, and in which order it continues."""

from __future__ import annotations

import asyncio

from orbital_relay.server.sessions.user_budget import FRAME_BYTES, USER_RATE_TIMES, UserBudgets

ADA, BOB = 1, 2


class Clock:
    """Steady time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def wall_ms(self) -> int:
        """Return the time of day."""
        return 0

    def steady_s(self) -> float:
        """Return seconds."""
        return self.now_s


class Connection:
    """Notes when it is held and released."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log, self.held = name, log, False

    def hold(self) -> None:
        """Be read no more."""
        self.held = True
        self.log.append(f"hold {self.name}")

    def release(self) -> None:
        """Be read on."""
        self.held = False
        self.log.append(f"release {self.name}")


def spend(budgets: UserBudgets, connection: Connection, *, size_bytes: int = 0) -> int:
    """Send frames as long as the connection is read; return how many that were."""
    sent = 0
    while not connection.held:
        budgets.charge(ADA, connection, size_bytes=size_bytes, now_s=0)
        sent += 1
    return sent


async def test_one_budget_over_all_connections():
    """[FLOOD1] The frames of a user on all connections share one budget; other users are not paused."""
    budgets, log = UserBudgets(frame_rate=50, clock=Clock()), []
    lines = [Connection(str(number), log) for number in range(40)]
    other = Connection("bob", log)

    sent = [spend(budgets, line) for line in lines]
    budgets.charge(BOB, other, size_bytes=0, now_s=0)

    # The burst of eight connections; then one frame of each, which was read before it was held.
    assert sent == [2 * USER_RATE_TIMES * 50 + 1, *[1] * 39]
    assert not other.held
    for line in lines:
        budgets.forget(ADA, line)


async def test_long_frames_cost_more():
    """[FLOOD2] A frame costs one unit and one more for each 4 KiB of its size."""
    budgets, log = UserBudgets(frame_rate=50, clock=Clock()), []

    assert spend(budgets, Connection("a", log), size_bytes=56 * 1024) == 400 // (1 + 56 * 1024 // FRAME_BYTES) + 1


async def test_released_one_at_a_time():
    """[FLOOD3] Paused connections resume in order, one at a time, as the budget refills; none is refused."""
    clock, log = Clock(), []
    budgets = UserBudgets(frame_rate=50, clock=clock)
    lines = [Connection(name, log) for name in "abc"]
    for line in lines:
        spend(budgets, line)
    log.clear()

    clock.now_s = 1.0
    async with asyncio.timeout(60):
        while lines[-1].held:
            await asyncio.sleep(0)

    assert log == ["release a", "release b", "release c"]


async def test_a_full_budget_is_deleted():
    """[FLOOD4] A user's budget is deleted once it is full again; a connection that ends is not resumed."""
    clock, log = Clock(), []
    budgets = UserBudgets(frame_rate=50, clock=clock)
    line = Connection("a", log)
    spend(budgets, line)

    budgets.forget(ADA, line)
    assert len(budgets) == 1
    clock.now_s = 60.0
    budgets.tidy()

    assert len(budgets) == 0
    assert log == ["hold a"]
