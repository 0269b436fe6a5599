"""Dispatch of a session's effects to the relay, a use case, a queue, or the client."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias, assert_never

from orbital_relay import wire
from orbital_relay.core import session as says
from orbital_relay.core.session import Session
from orbital_relay.errors import OrbitalError, ValidationFailed
from orbital_relay.model import Principal
from orbital_relay.ports import Appended, Clock
from orbital_relay.relay import Relay
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.sessions.outgoing import Outgoing
from orbital_relay.server.sessions.posts import retrieve_exception
from orbital_relay.server.sessions.queues import Queues
from orbital_relay.server.sessions.store_frames import StoreFrames
from orbital_relay.server.sessions.typing import TypingNotifier

Enqueue: TypeAlias = Callable[[Principal, wire.PostFrame], asyncio.Future[Appended]]
"""Enqueues what a `post_…` frame asks for before it returns; raises OrbitalError if that is refused at once."""


class Dispatcher(StoreFrames):
    """
    The shell of one session: it owns the session's timer and its queues.

    Frames that need the store are dealt with one after the other; posts with no such frame before them are enqueued at
    once. It never decides when the connection ends.
    """

    __slots__ = ("_enqueue", "_queues", "_timer")

    def __init__(
        self, session: Session, *, relay: Relay, clock: Clock, auth: Auth, typing: TypingNotifier, enqueue: Enqueue
    ) -> None:
        """
        Args:
            session: What the client may do.
            relay: Subscribes.
            clock: The time.
            auth: Verifies newer tokens.
            typing: Notifies groups.
            enqueue: Enqueues posts.
        """
        super().__init__(session, relay=relay, clock=clock, auth=auth, typing=typing)
        self._enqueue = enqueue
        self._queues: Queues | None = None
        self._timer: asyncio.TimerHandle | None = None

    def _open_queues(self, outgoing: Outgoing) -> None:
        self._queues = Queues(outgoing, answer=self.answer_post, act=self._act)

    def _close_queues(self) -> None:
        """Forget what waits, but for the posts, which are stored all the same; stop the timer."""
        queues = self._queues
        if self._timer is not None:
            self._timer.cancel()
        # These refer to the session: without them nothing is left for the collector.
        self._queues = self._timer = None
        if queues is not None:
            waiting = queues.close()
            if self._auth.holds(self.principal):
                for effect in waiting:
                    with suppress(OrbitalError):
                        self._enqueue(self.principal, effect.frame).add_done_callback(retrieve_exception)

    def stop_reading(self) -> None:
        """Read nothing more from the client, which is closed when what was read is done."""
        if self._queues is not None:
            self._queues.intake.stop()

    def posts_under_way(self) -> list[asyncio.Future[Any]]:
        """Return what the posts wait for whose answers are due."""
        return [] if self._queues is None else self._queues.in_progress()

    def _put(self, frame: bytes) -> None:
        super()._put(frame)
        if self.is_paused and self._queues is not None:
            self._queues.intake.look()

    @abstractmethod
    def _part(self, code: int, reason: str) -> None:
        """End the session now, and the connection once its posts are answered."""

    @abstractmethod
    def cut(self, cause: str) -> None:
        """Abort the connection."""

    def _perform(self, effects: list[says.SessionEffect], *, size_bytes: int = 0) -> None:
        """
        Do what the session wants done, in order.

        Args:
            effects: What it wants.
            size_bytes: The length of the frame from which they come, if they come from one.
        """
        queues = self._queues
        for effect in effects:
            match effect:
                case says.StorePost(frame=frame):
                    if queues is not None and queues.store.busy:
                        queues.wait_for_store(effect, size_bytes)
                    else:
                        self._post(frame, size_bytes)
                case says.Complain():
                    self.complain_with(effect.code, effect.message, effect.details, reply_to=effect.reply_to)
                case says.Say():
                    self.say(effect.data, effect.reply_to)
                case says.AddSubscriptions() | says.RemoveSubscriptions() | says.Verify() | says.Type():
                    if queues is not None and (queues.store.busy or not self._act_now(effect)):
                        queues.wait_for_store(effect, size_bytes)
                case says.StopTyping():
                    group_id = self._typing.known_group(effect.thread_id)
                    if group_id is not None:
                        self._typing.notify(group_id, self.principal, effect.thread_id, is_typing=False)
                case says.CloseConnection():
                    self._part(effect.code, effect.reason)
                case says.AbortConnection():
                    self.cut("heartbeat")
                case says.WakeAt():
                    self._wake_at(effect.at_s)
                case says.Beat():
                    raise AssertionError("only beat() asks for a ping")
                case _:
                    assert_never(effect)

    # Chapter: the timer

    def _wake_at(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait_s = max(at_s - self._clock.steady_s(), 0)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        wall_s = self._clock.wall_ms() / 1000
        self._perform(self._session.wake(now_s=self._clock.steady_s(), wall_s=wall_s))

    # Chapter: posts

    def _post(self, frame: wire.PostFrame, size_bytes: int) -> None:
        queues = self._queues
        if queues is None:
            return
        refusal: OrbitalError | None = None
        try:
            future = self._enqueue(self.principal, frame)
        except OrbitalError as exc:
            refusal = exc
            future = asyncio.get_running_loop().create_future()
            future.set_exception(refusal)
        queues.add_post(future, frame.id, size_bytes=size_bytes)
        if not isinstance(refusal, ValidationFailed):
            self._session.accepted()
        elif self._session.struck():
            self._perform(self._session.bad_frames())
