"""Does what a session says: each effect goes to the relay, a use case, a queue, or straight back to the client."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, assert_never

from orbital_relay import wire
from orbital_relay.core import session as says
from orbital_relay.core.session import Session, StoreEffect
from orbital_relay.errors import Forbidden, OrbitalError, Unauthorized, ValidationFailed
from orbital_relay.model import GroupId, Principal
from orbital_relay.ports import Appended, Clock
from orbital_relay.relay import Granted, Relay
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.sessions.intake import Intake
from orbital_relay.server.sessions.listener import SocketListener
from orbital_relay.server.sessions.outgoing import Outgoing
from orbital_relay.server.sessions.posts import PostQueue
from orbital_relay.server.sessions.store_queue import StoreQueue
from orbital_relay.server.sessions.typing import TypingNotifier

log = logging.getLogger("orbital.server")

Enqueue: TypeAlias = Callable[[Principal, wire.PostFrame], asyncio.Future[Appended]]
"""Enqueues what a `post_…` frame asks for before it returns; raises OrbitalError if that is refused at once."""


class Dispatcher(SocketListener):
    """
    The shell of one session: it owns the session's timer and its queues.

    Frames that need the store are dealt with one after the other; posts with no such frame before them are enqueued at
    once. It never decides when the connection ends.
    """

    __slots__ = ("_auth", "_enqueue", "_intake", "_posts", "_session", "_store_queue", "_timer", "_typing")

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
        super().__init__(session.principal, relay=relay, clock=clock)
        self._session = session
        self._auth, self._typing, self._enqueue = auth, typing, enqueue
        self._intake: Intake | None = None
        self._posts: PostQueue | None = None
        self._store_queue: StoreQueue | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def principal(self) -> Principal:
        """The user of the token that is valid now."""
        return self._session.principal

    def _open_queues(self, outgoing: Outgoing) -> None:
        self._intake = intake = Intake(outgoing)
        self._posts = PostQueue(answer=self.answer_post, done=intake.leave)
        self._store_queue = StoreQueue(act=self._act, done=intake.leave)

    def _put(self, frame: bytes) -> None:
        super()._put(frame)
        if self.is_paused and self._intake is not None:
            self._intake.look()

    @abstractmethod
    def _part(self, code: int, reason: str) -> None:
        """End the session now, and the connection once its posts are answered."""

    @abstractmethod
    def cut(self, cause: str) -> None:
        """Abort the connection."""

    def _perform(self, effects: list[says.Effect], *, size_bytes: int = 0) -> None:
        """
        Do what the session wants done, in order.

        Args:
            effects: What it wants.
            size_bytes: The length of the frame from which they come, if they come from one.
        """
        for effect in effects:
            match effect:
                case says.StorePost(frame=frame):
                    if self._store_queue is not None and self._store_queue.busy:
                        self._wait_for_store(effect, size_bytes)
                    else:
                        self._post(frame, size_bytes)
                case says.Complain():
                    self.complain_with(effect.code, effect.message, effect.details, reply_to=effect.reply_to)
                case says.Say():
                    self.say(effect.data, effect.reply_to)
                case says.AddSubscriptions() | says.RemoveSubscriptions() | says.Verify() | says.Type():
                    if (self._store_queue is not None and self._store_queue.busy) or not self._act_now(effect):
                        self._wait_for_store(effect, size_bytes)
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
        posts, intake = self._posts, self._intake
        if posts is None or intake is None:
            return
        refusal: OrbitalError | None = None
        try:
            future = self._enqueue(self.principal, frame)
        except OrbitalError as exc:
            refusal = exc
            future = asyncio.get_running_loop().create_future()
            future.set_exception(refusal)
        intake.enter(size_bytes)
        posts.add(future, frame.id, size_bytes=size_bytes)
        if not isinstance(refusal, ValidationFailed):
            self._session.accepted()
        elif self._session.struck():
            self._perform(self._session.bad_frames())

    # Chapter: frames that need the store

    def _wait_for_store(self, effect: StoreEffect, size_bytes: int) -> None:
        if self._store_queue is not None and self._intake is not None:
            self._intake.enter(size_bytes)
            self._store_queue.add(effect, size_bytes)

    def _act_now(self, effect: StoreEffect) -> bool:
        """Do what needs no waiting; return whether it was done."""
        match effect:
            case says.RemoveSubscriptions():
                self._unsubscribe(effect)
                return True
            case says.Type():
                group_id = self._typing.known_group(effect.thread_id)
                if group_id is not None and group_id in self.subscriptions:
                    self._notify(group_id, effect)
                    return True
        return False

    async def _act(self, effect: StoreEffect, size_bytes: int) -> None:
        try:
            match effect:
                case says.AddSubscriptions():
                    await self._subscribe(effect)
                case says.RemoveSubscriptions():
                    self._unsubscribe(effect)
                case says.Verify():
                    await self._verify(effect)
                case says.Type():
                    await self._type(effect)
                case says.StorePost():
                    self._post(effect.frame, size_bytes)
                case _:
                    assert_never(effect)
        except OrbitalError as refusal:
            self.complain(refusal, reply_to=effect.reply_to)
        except Exception:
            log.exception("a frame failed", extra={"user_id": self.user_id})
            self.complain(OrbitalError("The server made a mistake; try again."), reply_to=effect.reply_to)

    async def _subscribe(self, effect: says.AddSubscriptions) -> None:
        try:
            await self._relay.subscribe(self, effect.group_ids, effect.since, answer=partial(self._subscribed, effect))
        except OrbitalError as refusal:
            # Named, so that the client knows what to ask for again; and answered, as every subscribe is.
            refusal.details.setdefault("group_ids", effect.group_ids)
            self.complain(refusal, reply_to=effect.reply_to)
            self.say_subscribed({}, effect.reply_to)

    def _subscribed(self, effect: says.AddSubscriptions, granted: Granted) -> None:
        """Answer a request to subscribe, in the step in which it takes effect."""
        if granted.refused:
            refusal = Forbidden("You are not in these groups, or they do not exist.", group_ids=granted.refused)
            self.complain(refusal, reply_to=effect.reply_to)
        self.say_subscribed(granted.groups, effect.reply_to)
        self._frozen = False

    def _unsubscribe(self, effect: says.RemoveSubscriptions) -> None:
        self._relay.unsubscribe(self, effect.group_ids)
        self.say(wire.Unsubscribed(effect.group_ids, "requested"), effect.reply_to)

    async def _verify(self, effect: says.Verify) -> None:
        try:
            principal = await self._auth.verify(effect.token)
            if not self._auth.holds(principal):
                # It was revoked while its signature was checked.
                raise Unauthorized("The token is no longer valid; log in again.")
        except Unauthorized as refusal:
            self._perform(self._session.not_renewed(refusal, reply_to=effect.reply_to))
            return
        now_s, wall_s = self._clock.steady_s(), self._clock.wall_ms() / 1000
        self._perform(self._session.renewed(principal, reply_to=effect.reply_to, now_s=now_s, wall_s=wall_s))

    # Chapter: typing

    async def _type(self, effect: says.Type) -> None:
        try:
            group_id = await self._typing.group_of_member(
                self.principal, effect.thread_id, subscribed=self.subscriptions
            )
        except OrbitalError:
            self._session.typing_refused(effect.thread_id)
            raise
        self._notify(group_id, effect)

    def _notify(self, group_id: GroupId, effect: says.Type) -> None:
        self._typing.notify(group_id, self.principal, effect.thread_id, is_typing=effect.is_typing)
        now_s = self._clock.steady_s()
        self._perform(self._session.typing_sent(effect.thread_id, is_typing=effect.is_typing, now_s=now_s))
