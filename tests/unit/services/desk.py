"""ServiceContext whose append only notes what was asked: what a use case makes of a body can be read there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from orbital_relay.api.groups import Online
from orbital_relay.errors import OrbitalError
from orbital_relay.model import AnyDraft, GroupId, Principal, SignedToken, UserId
from orbital_relay.ports import Appended, Store
from orbital_relay.services.context import ServiceContext

NOW_MS = 1_795_406_400_123
ADA = Principal(key=7, user_id=UserId("ada"), username="ada", expires_at_s=2e9)
GROUP = "6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11"
OTHER = "0b8f3c4e-1111-4d52-9a53-3f6f2b1c8a22"
ANSWER = Appended(None, None)


class Clock:
    """A clock that stands."""

    def wall_ms(self) -> int:
        return NOW_MS

    def steady_s(self) -> float:
        return 0.0


class Passwords:
    """Hashes that can be read; `verified` keeps what was asked."""

    def __init__(self) -> None:
        self.verified: list[str | None] = []

    async def hash(self, password: str) -> str:
        return f"hash of {password}"

    async def verify(self, password_hash: str | None, password: str) -> bool:
        self.verified.append(password_hash)
        return password_hash == f"hash of {password}"


class Logins:
    """Logins whose tokens can be read."""

    async def open(self, user_id: UserId, username: str, *, name: str = "") -> SignedToken:
        return SignedToken(f"token of {user_id} {username}", 2_000_000_000)

    async def end(self, user: int, login_id: str) -> bool:
        raise AssertionError("no use case here ends a login")

    async def end_all(self, user_id: UserId) -> None:
        raise AssertionError("no use case here ends logins")


class Desk:
    """
    Notes drafts in the order in which they were queued.

    Args:
        outcome: What becomes of a draft: an answer, or the error that refuses it.
        store: For the use cases that read.
    """

    def __init__(
        self,
        outcome: Callable[[AnyDraft], Appended | OrbitalError] = lambda _draft: ANSWER,
        *,
        store: object = None,
        envelope_bytes: int = 30,
    ) -> None:
        self.drafts: list[Any] = []
        self.passwords = Passwords()
        self.present: list[Online] = []
        self.notified: list[tuple[GroupId, UserId]] = []
        self._outcome = outcome
        self.context = ServiceContext(
            store=cast("Store", store),
            append=self._append,
            clock=Clock(),
            passwords=self.passwords,
            logins=Logins(),
            online=self._online,
            state_changed=lambda group_id, user_id: self.notified.append((group_id, user_id)),
            envelope_bytes=envelope_bytes,
            invite_days=0.5,
        )

    async def _online(self, _group_id: GroupId) -> list[Online]:
        return self.present

    def _append(self, draft: AnyDraft) -> asyncio.Future[Appended]:
        self.drafts.append(draft)
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        outcome = self._outcome(draft)
        if isinstance(outcome, Appended):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
        return future
