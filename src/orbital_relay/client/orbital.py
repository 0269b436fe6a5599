"""The public API of the client (facade): `connect()`, and the `Orbital` that it returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import BinaryIO

from orbital_relay.client import media, responses
from orbital_relay.client.api.bodies import encoded, message_body, reply_body, reply_path, thread_body
from orbital_relay.client.clocks import now_ms
from orbital_relay.client.events import (
    Position,
)
from orbital_relay.client.life import Life
from orbital_relay.client.readers import OnEvent
from orbital_relay.client.signals import S
from orbital_relay.client.subscription import Subscription


class Orbital(Life):
    """
    A client of one server: subscriptions that never miss an event, posts that arrive once, and the REST side as `api`.

    It connects when it is entered, and stays connected.

        async with connect("https://orbital.example.com", token=token) as orbital:
            async for event in orbital.subscribe(group_id, since=0):
                print(event.seq, event.type)

    Args:
        url: The server's address.
        token: The caller's token; or a function that gives one, called again when the last one is no longer valid.
        store: Keeps the position of every group over restarts.
        outbox: Keeps the posts that the server does not have yet over restarts.
        verify: Check the hash chain: a server that drops, changes or reorders events is detected, and the
            subscription raises ChainBroken.
        buffer: Most events of one group that wait for a slow reader; further ones are read from the log later.
        open_timeout_s: How long to wait for the first connection; None to continue without it and connect meanwhile.
        idle_slack_s: How late a heartbeat may be before the connection counts as dead.
        request_timeout_s: How long the server may be silent within a request before it is tried again.
        backoff: How long to wait between attempts.
        random: Gives a number in [0, 1).
        transport: Another httpx transport for the REST side.

    Raises:
        ValueError: If `url` is not an address, `token` cannot be one, or `buffer` is below 2.
    """

    # Public: receiving

    def subscribe(
        self,
        group_id: str,
        *,
        since: int | Position | None = None,
        on_event: OnEvent | None = None,
        marks: bool = False,
    ) -> Subscription:
        """
        Subscribe to a group.

        Args:
            group_id: The group.
            since: Yield what follows this position: 0 for everything that is kept, a number, or a Position. None: from
                now. A position in the client's store goes before it.
            on_event: Called for each item, one after the other, in a task of its own; then do not iterate. What it
                raises is reported as a Problem, and the next item follows.
            marks: Yield a CaughtUp too, after what was missed.

        Raises:
            AlreadySubscribed: If this client follows the group already.
            Closed: If the client is closed.
            RuntimeError: If the client is not open, or belongs to another event loop.
            ValueError: If `since` is not a whole number from 0 to 2^53 - 1.
        """
        self._check_used()
        position = since if since is None or isinstance(since, Position) else Position(since)
        return self._readers.subscribe(group_id, position, on_event=on_event, marks=marks, over=self._over)

    def on(self, kind: type[S], callback: Callable[[S], Awaitable[None] | None]) -> Callable[[], None]:
        """
        Call back for each signal of a kind: StateChange, Typing, KeysLow, Problem, Reset, CaughtUp, Unnumbered.

        Callbacks run one after the other in a task of their own, so they never hold up the reading. When more than
        1,000 signals wait for them, the oldest are dropped.

        Args:
            kind: The class of the signals.
            callback: A function or a coroutine function of one argument.

        Returns:
            A function that ends it.
        """
        return self._signals.on(kind, callback)

    # Public: posting

    async def send(
        self,
        group_id: str,
        encrypted_envelope: bytes | str,
        *,
        if_epoch: int | None = None,
        idempotency_key: str | None = None,
    ) -> responses.MessageSent:
        """
        Post a message; returns when the server has it, however long that takes.

        The posts to one group arrive in the order of the calls. When the call is cancelled the post stays in
        the outbox and is still sent; `discard` removes it.

        Args:
            group_id: The group.
            encrypted_envelope: The envelope: bytes, or text that is base64 already.
            if_epoch: The group's epoch that it was encrypted for.
            idempotency_key: For a post that your own program may repeat; a new one when None.

        Raises:
            ApiError: If the server refuses it permanently; with code `EPOCH_CHANGED` and `details["epoch"]` when the
                group's epoch is above `if_epoch`: the post is dropped, so that it can be encrypted again.
            OutboxFull, OutboxExpired, Discarded, Closed: As the names say.
        """
        self._check_used()
        body = message_body(group_id, encoded(encrypted_envelope), now_ms(), if_epoch)
        return await self._outbox.post(group_id, "/v1/messages", body, responses.MessageSent, key=idempotency_key)

    async def open_thread(
        self,
        group_id: str,
        encrypted_title: bytes | str,
        encrypted_body: bytes | str,
        *,
        root_message_id: str | None = None,
        if_epoch: int | None = None,
        idempotency_key: str | None = None,
    ) -> responses.ThreadCreated:
        """Open a thread; the same promises as `send`."""
        self._check_used()
        body = thread_body(group_id, encoded(encrypted_title), encoded(encrypted_body), root_message_id, if_epoch)
        created = await self._outbox.post(group_id, "/api/threads", body, responses.ThreadCreated, key=idempotency_key)
        self._know_thread(created.thread_id, group_id)
        return created

    async def reply(
        self,
        thread_id: str,
        encrypted_body: bytes | str,
        *,
        group_id: str | None = None,
        message_id: str | None = None,
        if_epoch: int | None = None,
        idempotency_key: str | None = None,
    ) -> responses.ReplyCreated:
        """
        Reply in a thread; the same promises as `send`.

        Args:
            thread_id: The thread.
            encrypted_body: The body: bytes, or text that is base64 already.
            group_id: The thread's group, to keep the reply in order with the group's other posts. Not needed for a
                thread that this client opened or received an event of; without it the order holds within the thread.
            message_id: The message that carries it.
            if_epoch: As in `send`.
            idempotency_key: For a post that your own program may repeat; a new one when None.
        """
        self._check_used()
        lane = group_id or self._thread_groups.get(thread_id) or f"thread:{thread_id}"
        body = reply_body(encoded(encrypted_body), message_id, if_epoch)
        return await self._outbox.post(lane, reply_path(thread_id), body, responses.ReplyCreated, key=idempotency_key)

    @property
    def waiting(self) -> int:
        """How many posts the server does not have yet."""
        return self._outbox.waiting

    async def discard(self, idempotency_key: str) -> bool:
        """
        Discard a post that waits in the outbox; the call that waits for it raises Discarded.

        A try that is in progress is not interrupted, and may still reach the server.

        Args:
            idempotency_key: The key under which it was posted.

        Returns:
            Whether such a post was waiting.
        """
        self._check_used()
        return await self._outbox.discard(idempotency_key)

    def typing(self, thread_id: str, *, is_typing: bool = True) -> None:
        """
        Report that the user types in a thread; call it at every keystroke.

        It is sent at most every 3 s, and ended 5 s after the last call, or at once with `is_typing=False`. Without
        a connection it is dropped: it would be old news.
        """
        self.api.guard.enter()
        self._typists.typing(thread_id, is_typing=is_typing)

    # Public: media

    async def upload(
        self,
        thread_id: str,
        source: bytes | str | media.PathLike | BinaryIO,
        *,
        encrypted_metadata: bytes | str,
        encryption_iv: bytes | str,
        media_id: str | None = None,
        if_epoch: int | None = None,
        progress: media.OnTransfer | None = None,
    ) -> responses.MediaStored:
        """Send an encrypted file to a thread; `orbital_relay.client.media.upload` has the details."""
        return await media.upload(
            self.api,
            thread_id,
            source,
            encrypted_metadata=encoded(encrypted_metadata),
            encryption_iv=encoded(encryption_iv),
            media_id=media_id,
            if_epoch=if_epoch,
            progress=progress,
            backoff=self._backoff,
        )

    async def download(
        self,
        media_id: str,
        *,
        to: str | media.PathLike | None = None,
        memory_bytes: int = media.MEMORY_BYTES,
        progress: media.OnTransfer | None = None,
    ) -> media.Downloaded:
        """Fetch a medium; `orbital_relay.client.media.download` has the details."""
        return await media.download(
            self.api, media_id, to=to, memory_bytes=memory_bytes, progress=progress, backoff=self._backoff
        )


connect = Orbital
"""What a program calls: the verb for what it does, `Orbital` for what it then has."""
