"""The port to subscriptions to push messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from orbital_relay.model import ClaimedPush, PushOutcome, PushPreferences, PushTarget


class PushStore(Protocol):
    """
    Subscriptions, and how far each device was called in each group.

    A position is stored with the outcome of the call: a later event causes a push message, also from another server.
    """

    async def vapid_key(self, draft: bytes) -> bytes:
        """Return the private key that all servers of this database share; the first caller's `draft` becomes it."""
        ...

    async def put_subscription(
        self,
        user: int,
        target: PushTarget,
        preferences: PushPreferences,
        *,
        device_id: int | None,
        login_id: str,
        new_id: str,
        now_ms: int,
    ) -> str:
        """
        Store a subscription, or replace what is stored of its endpoint; return its id.

        A new one gets push messages for later events, while its login exists; without a login `login_id` is empty.
        Of a user's subscriptions beyond 20 the one that was stored longest ago is deleted.

        Raises:
            Conflict: If another user holds the endpoint with other keys.
        """
        ...

    async def delete_subscription(self, user: int, subscription_id: str) -> None:
        """
        Delete a subscription.

        Raises:
            NotFound: If the user has no such subscription.
        """
        ...

    async def note_received(
        self, user: int, subscription_id: str, seqs: Mapping[str, int], *, looking_until_ms: int
    ) -> None:
        """
        Move the positions of a device forward to what it has received, and note until when it is not called.

        Raises:
            NotFound: If the user has no such subscription.
        """
        ...

    async def due_pushes(self, *, now_ms: int, free_ms: int, limit: int) -> list[int]:
        """Return subscriptions with events after their positions that may be called now and are not claimed."""
        ...

    async def claim_pushes(
        self, numbers: Sequence[int], *, now_ms: int, free_ms: int, until_ms: int
    ) -> list[ClaimedPush]:
        """
        Claim those subscriptions that are still due; each is claimed by one server at a time.

        Args:
            numbers: Rows that `due_pushes` returned.
            now_ms: The time.
            free_ms: Claims that end before this moment are void.
            until_ms: When the claim ends if `store_outcomes` does not end it.
        """
        ...

    async def store_outcomes(self, outcomes: Sequence[PushOutcome]) -> None:
        """Store what came of claims, and end them."""
        ...

    async def thread_titles(self, thread_ids: Collection[str]) -> dict[str, str]:
        """Return the encrypted titles of threads that exist."""
        ...
