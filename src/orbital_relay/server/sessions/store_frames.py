"""Handlers of frames that need the store: subscribe, authenticate, typing."""

from __future__ import annotations

import logging
from abc import abstractmethod
from functools import partial
from typing import assert_never

from orbital_relay import wire
from orbital_relay.core import session as says
from orbital_relay.core.refusals import bug, token_ended
from orbital_relay.core.session import Session, StoreEffect
from orbital_relay.errors import Forbidden, OrbitalError, Unauthorized
from orbital_relay.model import GroupId, Principal
from orbital_relay.ports import Clock
from orbital_relay.relay import Granted, Relay
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.sessions.listener import SocketListener
from orbital_relay.server.sessions.typing import TypingNotifier

log = logging.getLogger("orbital.server")


class StoreFrames(SocketListener):
    """
    Does what a client asks of the relay, the authenticator and the typing notifier, and answers it.

    It never decides the order of frames.
    """

    __slots__ = ("_auth", "_session", "_typing")

    def __init__(self, session: Session, *, relay: Relay, clock: Clock, auth: Auth, typing: TypingNotifier) -> None:
        """
        Args:
            session: What the client may do.
            relay: Subscribes.
            clock: The time.
            auth: Verifies newer tokens.
            typing: Notifies groups.
        """
        super().__init__(session.principal, relay=relay, clock=clock)
        self._session = session
        self._auth, self._typing = auth, typing

    @property
    def principal(self) -> Principal:
        """The user of the token that is valid now."""
        return self._session.principal

    @abstractmethod
    def _perform(self, effects: list[says.SessionEffect]) -> None:
        """Do what the session wants done, in order."""

    @abstractmethod
    def _post(self, frame: wire.PostFrame, size_bytes: int) -> None:
        """Enqueue a post, given the length of its frame in bytes."""

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
            self.complain(bug(), reply_to=effect.reply_to)

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
                raise token_ended()
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
