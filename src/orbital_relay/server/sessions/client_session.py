"""One connection: the socket's line on one side, its session, its posts and its groups on the other."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import Any, Final, assert_never

from orbital_relay import wire
from orbital_relay.core import session as says
from orbital_relay.core.framing import text_frame
from orbital_relay.core.hub import Listener
from orbital_relay.core.session import Session
from orbital_relay.errors import Forbidden, OrbitalError, Unauthorized, ValidationFailed
from orbital_relay.model import Access, GroupId, Principal
from orbital_relay.ports import Appended
from orbital_relay.relay import Granted
from orbital_relay.server.edge.connection import SocketWriter
from orbital_relay.server.sessions.registry import Conversations
from orbital_relay.services import posting

log = logging.getLogger("orbital.server")

WAITING_MOST: Final = 256
"""Frames of one client that wait for the store; past that nothing more is read from it until half are done."""

WAITING_BYTES: Final = 128 * 1024
"""The same in bytes: two of the longest. A frame of ids takes up to ten times its length once it is read."""

OWN_BYTES: Final = 64 * 1024
"""Answers that wait for a client that does not read; past that nothing more is read from it."""


def _disregard(future: asyncio.Future[Appended]) -> None:
    """Look at what a post came to when nobody is there to be told; else asyncio calls a refusal a mistake of ours."""
    if not future.cancelled():
        future.exception()


_Waiting = says.Subscribe | says.Unsubscribe | says.Verify | says.Type | says.Post


class Conversation(Listener):
    """
    One client's connection, from 101 until the socket has gone.

    Frames that need the store are dealt with one after the other, in their order, so that who subscribes and then posts
    hears it; posts with no such frame before them are queued at once. All posts are answered in order.
    It never buffers more for a client than OWN_BYTES and the answers to what waits: a client that does not read is not
    read from.
    """

    __slots__ = (
        "_all",
        "_choked_s",
        "_expiry",
        "_frozen",
        "_leaving",
        "_line",
        "_own",
        "_own_bytes",
        "_own_due",
        "_parting",
        "_paused",
        "_posts",
        "_typing",
        "_waiting",
        "_waiting_bytes",
        "_worker",
        "connected_ms",
        "session",
        "session_id",
    )

    def __init__(self, conversations: Conversations, principal: Principal) -> None:
        """
        Args:
            conversations: All of them.
            principal: Whom the handshake's token speaks for.
        """
        super().__init__(principal.key, principal.user_id)
        self._all = conversations
        self.session = Session(
            principal, frame_rate=conversations.settings.frame_rate, now_s=conversations.clock.steady_s()
        )
        self.session_id = str(uuid.uuid4())
        self.connected_ms = 0
        self._line: SocketWriter | None = None
        self._own: list[bytes] = []
        self._own_bytes = 0
        self._own_due = False
        self._paused = False
        self._leaving = False
        # Until it has subscribed, the stamps stand still: a message posted before that must not look older than them.
        self._frozen = True
        # Lists, not deques: an empty deque holds 600 bytes, and nearly all connections are idle. They stay short.
        # With each its frame's length, in bytes.
        self._posts: list[tuple[asyncio.Future[Appended], str | int | None, int]] = []
        self._waiting: list[tuple[_Waiting, int]] = []
        self._waiting_bytes = 0
        self._worker: asyncio.Task[None] | None = None
        self._typing: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._choked_s = 0.0
        self._parting: asyncio.Future[None] | None = None

    # Chapter: what the edge calls

    def opened(self, line: SocketWriter) -> None:
        """Say `auth_success`."""
        self._line = line
        self.deflate = line.deflate
        self._all.add(self)
        self.connected_ms = self._all.clock.wall_ms()
        self.last_stamp_ms = self._all.relay.quiet_ms()
        principal = self.session.principal
        self.say(
            wire.AuthSuccess(
                user_id=principal.user_id,
                username=principal.username,
                connected_at=wire.iso(self.connected_ms),
                session_id=self.session_id,
                heartbeat_seconds=self._all.settings.heartbeat_s,
                max_frame_bytes=MAX_FRAME_BYTES,
                expires_at=wire.iso(int(principal.expires_at_s * 1000)),
            )
        )
        # Right behind the 101: a client whose first frame is bad is greeted, too, before it is told.
        self._flush_own()
        self._watch_expiry()
        log.info("connection opened", extra={"session_id": self.session_id, "user_id": principal.user_id})

    def text(self, payload: bytes) -> None:
        """Take a text message."""
        self._all.frames_in += 1
        self.perform(self.session.receive(payload, now_s=self._all.clock.steady_s()), size_bytes=len(payload))

    def control(self) -> None:
        """Count a frame that is no message."""
        self.perform(self.session.control(now_s=self._all.clock.steady_s()))

    def pong(self) -> None:
        """Take a WebSocket pong."""
        self.session.pong()

    def paused(self) -> None:
        """The transport is full: write no more, and read no more of what would need an answer."""
        self._choked_s = self._all.clock.steady_s()
        self._all.relay.hub.choke(self)

    def resumed(self) -> None:
        """The transport takes more."""
        self.choked = False
        self._flush_own()
        self._read_on()
        self._all.relay.catch_up(self)

    def ending(self) -> Awaitable[None] | None:
        """
        Give the answers that wait for the end of the turn, and those of posts that are under way.

        Returns:
            The wait for posts, for as long as a stop of the server would wait; None when there are none.
        """
        self._leaving = True
        self._flush_own(anyway=True)
        return self._last_answers() if self.posts_under_way() else None

    async def _last_answers(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._all.settings.drain_s):
                while waiting := self.posts_under_way():
                    await asyncio.wait(waiting)
                    # Let the answers be put together.
                    await asyncio.sleep(0)
        self._flush_own(anyway=True)

    def closed(self, code: int | None) -> None:
        """Forget everything about the connection."""
        for effect in self.session.closed():
            if isinstance(effect, says.Type):
                self._tell_stop(effect.thread_id)
        self._all.discard(self)
        self._all.relay.hub.drop(self)
        if self._worker is not None:
            self._worker.cancel()
        for timer in (self._typing, self._expiry):
            if timer is not None:
                timer.cancel()
        for future, _, _ in self._posts:
            future.add_done_callback(_disregard)
        self._line = None
        self._store_waiting()
        self._own.clear()
        self._posts.clear()
        log.info("connection closed", extra={"session_id": self.session_id, "code": code})

    def _store_waiting(self) -> None:
        """Hand on the posts that waited behind a frame for the store; nobody is left for the other frames."""
        waiting, self._waiting = self._waiting, []
        if not self._all.auth.holds(self.session.principal):
            return
        for effect, _ in waiting:
            if isinstance(effect, says.Post):
                with suppress(OrbitalError):
                    future = posting.from_frame(self._all.context, self.session.principal, effect.frame)
                    future.add_done_callback(_disregard)

    # Chapter: what the hub calls

    def send(self, wire_bytes: bytes) -> None:
        """Write frames, behind the answers that wait."""
        line = self._line
        if line is None:
            return
        if self._own:
            self._own.append(wire_bytes)
            wire_bytes = b"".join(self._own)
            self._own.clear()
            self._own_bytes = 0
        line.write(wire_bytes)

    def lost(self, group_id: GroupId, reason: str) -> None:
        """Say that a group is no longer heard."""
        self.say(wire.Unsubscribed([group_id], reason))

    def reset(self, group_id: GroupId, seq: int) -> None:
        """Say that a group goes on after a number, and that what was before it could not be sent."""
        self.say(
            wire.Subscribed(
                [group_id], wire.iso(self._all.clock.wall_ms()), {group_id: wire.GroupState(seq, recovered=False)}
            )
        )

    # Chapter: saying

    def _stamp_ms(self) -> int:
        if not self._frozen and not self.behind:
            self.last_stamp_ms = self._all.relay.quiet_ms()
        return self.last_stamp_ms

    def say(self, data: wire.ServerData, reply_to: str | int | None = None) -> None:
        """Send a frame that is no event, together with whatever else goes out in this tick."""
        self._put(wire.frame(data, stamp_ms=self._stamp_ms(), reply_to=reply_to))

    def complain(self, refusal: OrbitalError, *, reply_to: str | int | None) -> None:
        """Send an `error` frame."""
        details = {name: value for name, value in refusal.details.items() if name not in {"code", "message"}}
        self._put(
            wire.error_frame(refusal.code, refusal.message, details, stamp_ms=self._stamp_ms(), reply_to=reply_to)
        )

    def _put(self, frame: bytes) -> None:
        if self._line is None:
            return
        self._own.append(text_frame(frame))
        self._own_bytes += len(frame)
        if self.choked:
            if self._own_bytes > OWN_BYTES:
                self._read_no_more()
        elif not self._own_due:
            self._own_due = True
            asyncio.get_running_loop().call_soon(self._flush_own)

    def _flush_own(self, *, anyway: bool = False) -> None:
        self._own_due = False
        if self._own and self._line is not None and (anyway or not self.choked):
            wire_bytes = b"".join(self._own)
            self._own.clear()
            self._own_bytes = 0
            self._line.write(wire_bytes)

    def hear_no_more(self) -> None:
        """Read nothing more from the client, which will be told to go when what was read is done."""
        self._leaving = True
        self._read_no_more()

    def end(self, code: int, reason: str) -> None:
        """Close the connection, after what waits to be said."""
        self._flush_own()
        if self._line is not None:
            self._line.close(code, reason)

    def _part(self, code: int, reason: str) -> None:
        """End the session now, and the connection once the posts before that are answered."""
        self._all.relay.hub.drop(self)
        self._read_no_more()
        if not self._all.auth.holds(self.session.principal):
            self._refuse_waiting()
        owed = self.ending()
        if owed is None:
            self.end(code, reason)
        else:
            self._parting = asyncio.ensure_future(owed)
            self._parting.add_done_callback(lambda _: self.end(code, reason))

    def _refuse_waiting(self) -> None:
        """Refuse the posts that the store has not been asked for: the token that they came with is void."""
        waiting, self._waiting = self._waiting, []
        for effect, _ in waiting:
            if isinstance(effect, says.Post):
                self.complain(Unauthorized("The token no longer holds; log in again."), reply_to=effect.reply_to)

    def cut(self, cause: str) -> None:
        """Cut the connection."""
        self._all.cut[cause] = self._all.cut.get(cause, 0) + 1
        if self._line is not None:
            self._line.abort()

    def _read_no_more(self) -> None:
        if not self._paused and self._line is not None:
            self._paused = True
            self._line.pause_reading()

    def _note_waiting(self, number: int, size_bytes: int) -> None:
        self._waiting_bytes += size_bytes
        if number > WAITING_MOST or self._waiting_bytes > WAITING_BYTES:
            self._read_no_more()

    def _read_on(self) -> None:
        busy = (
            max(len(self._posts), len(self._waiting)) > WAITING_MOST // 2
            or self._waiting_bytes > WAITING_BYTES // 2
            or self._own_bytes > OWN_BYTES
        )
        if self._paused and not busy and not self._leaving and self._line is not None:
            self._paused = False
            self._line.resume_reading()

    # Chapter: doing what the session says

    def perform(self, effects: list[says.Effect], *, size_bytes: int = 0) -> None:
        """
        Do what the session wants done, in order.

        Args:
            effects: What it wants.
            size_bytes: The length of the frame from which they come, if they come from one.
        """
        for effect in effects:
            match effect:
                case says.Post(frame=frame):
                    if self._worker is None:
                        self._post(frame, size_bytes)
                    else:
                        self._wait_for_turn(effect, size_bytes)
                case says.Complain():
                    self._put(
                        wire.error_frame(
                            effect.code,
                            effect.message,
                            effect.details,
                            stamp_ms=self._stamp_ms(),
                            reply_to=effect.reply_to,
                        )
                    )
                case says.Say():
                    self.say(effect.data, effect.reply_to)
                case says.Subscribe() | says.Unsubscribe() | says.Verify() | says.Type():
                    self._wait_for_turn(effect, size_bytes)
                case says.End():
                    self._part(effect.code, effect.reason)
                case says.Cut():
                    self.cut("heartbeat")
                case says.Beat():
                    raise AssertionError("only beat() asks for a ping")
                case _:
                    assert_never(effect)

    def beat(self, shared: bytes, *, stamp_ms: int, now_ms: int) -> None:
        """
        Do what is due once an interval.

        Args:
            shared: The ping as everybody gets it who is not behind.
            stamp_ms: Its stamp.
            now_ms: Its time.
        """
        for effect in self.session.beat():
            if isinstance(effect, says.Cut):
                self.cut("heartbeat")
                return
            # A client that does not read gets no ping on top; that it does not answer counts all the same.
            if self.choked:
                continue
            if self._frozen or self.behind:
                self._put(wire.frame(wire.Ping(now_ms), stamp_ms=self.last_stamp_ms))
            else:
                self.last_stamp_ms = stamp_ms
                self.send(shared)
        if self.choked and self._all.clock.steady_s() - self._choked_s > self._all.settings.max_lag_s:
            self.cut("lag")
            return
        self._watch_expiry()

    def _watch_expiry(self) -> None:
        """Set a timer for the end of the token, once it is near: most connections never have one."""
        if self.session.state is says.State.ENDED:
            return
        due_s = self.session.expiry_due_s() - self._all.clock.wall_ms() / 1000
        if self._expiry is None and due_s < 2 * self._all.settings.heartbeat_s + 1:
            self._expiry = asyncio.get_running_loop().call_later(max(due_s, 0), self._expire)

    def _expire(self) -> None:
        self._expiry = None
        self.perform(self.session.expiry(wall_s=self._all.clock.wall_ms() / 1000))
        self._watch_expiry()

    # Chapter: posts

    def posts_under_way(self) -> list[asyncio.Future[Any]]:
        """Return what the posts whose answers are still to come wait for."""
        under_way: list[asyncio.Future[Any]] = [future for future, _, _ in self._posts]
        if self._worker is not None and any(isinstance(effect, says.Post) for effect, _ in self._waiting):
            under_way.append(self._worker)
        return under_way

    def _post(self, frame: wire.PostFrame, size_bytes: int) -> None:
        try:
            future = posting.from_frame(self._all.context, self.session.principal, frame)
        except ValidationFailed as refusal:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(refusal)
            self._posts.append((future, frame.id, 0))
            self._answer_posts()
            if self.session.struck():
                self._part(says.POLICY_VIOLATION, "ten bad frames in a row")
            return
        except OrbitalError as refusal:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(refusal)
        self.session.accepted()
        self._posts.append((future, frame.id, size_bytes))
        future.add_done_callback(self._answer_posts)
        self._note_waiting(len(self._posts), size_bytes)

    def _answer_posts(self, _done: asyncio.Future[Appended] | None = None) -> None:
        """Give the answers that are there, up to the first that is not: they come in the order of the frames."""
        posts = self._posts
        while posts and posts[0][0].done():
            future, reply_to, size_bytes = posts.pop(0)
            self._waiting_bytes -= size_bytes
            error = None if future.cancelled() else future.exception()
            if isinstance(error, OrbitalError):
                self.complain(error, reply_to=reply_to)
            elif error is not None or future.cancelled():
                log.error("a post failed", exc_info=error)
                self.complain(OrbitalError("The server made a mistake; try again."), reply_to=reply_to)
            else:
                receipt = future.result().receipt
                self._put(wire.posted_frame(receipt, stamp_ms=self._stamp_ms(), reply_to=reply_to))
        if self._paused:
            self._read_on()

    # Chapter: frames that need the store, one after the other

    def _wait_for_turn(self, effect: _Waiting, size_bytes: int) -> None:
        if self._worker is None and self._do_now(effect):
            return
        self._waiting.append((effect, size_bytes))
        self._note_waiting(len(self._waiting), size_bytes)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work(), name="conversation")

    def _do_now(self, effect: _Waiting) -> bool:
        """Do what needs no waiting; return whether that was so."""
        match effect:
            case says.Unsubscribe():
                self._unsubscribe(effect)
                return True
            case says.Type():
                group_id = self._all.group_of(effect.thread_id)
                if group_id is not None and group_id in self.subscriptions:
                    self._tell(group_id, effect)
                    return True
        return False

    async def _work(self) -> None:
        try:
            while self._waiting and self._line is not None:
                effect, size_bytes = self._waiting.pop(0)
                try:
                    await self._do(effect, size_bytes)
                except OrbitalError as refusal:
                    self.complain(refusal, reply_to=effect.reply_to)
                except Exception:
                    log.exception("a frame failed", extra={"session_id": self.session_id})
                    self.complain(OrbitalError("The server made a mistake; try again."), reply_to=effect.reply_to)
                self._waiting_bytes -= size_bytes
                if self._paused:
                    self._read_on()
        finally:
            self._worker = None

    async def _do(self, effect: _Waiting, size_bytes: int) -> None:
        match effect:
            case says.Subscribe():
                try:
                    await self._all.relay.subscribe(
                        self, effect.group_ids, effect.since, answer=partial(self._subscribed, effect)
                    )
                except OrbitalError as refusal:
                    # Named, so that the client knows what to ask for again; and answered, as every subscribe is.
                    refusal.details.setdefault("group_ids", effect.group_ids)
                    self.complain(refusal, reply_to=effect.reply_to)
                    self.say(wire.Subscribed([], wire.iso(self._all.clock.wall_ms()), {}), effect.reply_to)
            case says.Unsubscribe():
                self._unsubscribe(effect)
            case says.Verify():
                await self._verify(effect)
            case says.Type():
                await self._type(effect)
            case says.Post():
                self._post(effect.frame, size_bytes)
            case _:
                assert_never(effect)

    def _subscribed(self, effect: says.Subscribe, granted: Granted) -> None:
        """Answer a request to subscribe, in the step in which it takes effect."""
        if granted.refused:
            refusal = Forbidden("You are not in these groups, or they do not exist.", group_ids=granted.refused)
            self.complain(refusal, reply_to=effect.reply_to)
        self.say(
            wire.Subscribed(list(granted.groups), wire.iso(self._all.clock.wall_ms()), granted.groups),
            effect.reply_to,
        )
        self._frozen = False

    def _unsubscribe(self, effect: says.Unsubscribe) -> None:
        self._all.relay.unsubscribe(self, effect.group_ids)
        self.say(wire.Unsubscribed(effect.group_ids, "requested"), effect.reply_to)

    async def _verify(self, effect: says.Verify) -> None:
        try:
            principal = await self._all.auth.verify(effect.token)
        except Unauthorized as refusal:
            self.perform(self.session.not_renewed(refusal, reply_to=effect.reply_to))
            return
        if self._line is None:
            return
        if not self._all.auth.holds(principal):
            # It was revoked while its signature was checked.
            void = Unauthorized("The token no longer holds; log in again.")
            self.perform(self.session.not_renewed(void, reply_to=effect.reply_to))
            return
        self.perform(self.session.renewed(principal, reply_to=effect.reply_to))
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._watch_expiry()

    # Chapter: typing

    async def _type(self, effect: says.Type) -> None:
        try:
            group_id = await self._all.find_group(effect.thread_id)
            if group_id not in self.subscriptions:
                access = await self._all.context.store.access(self.session.principal.key, group_id)
                if access is not Access.MEMBER:
                    raise Forbidden("You are not a member of this thread's group.", thread_id=effect.thread_id)
        except OrbitalError:
            self.session.typing_refused(effect.thread_id)
            raise
        if self._line is not None:
            self._tell(group_id, effect)

    def _tell(self, group_id: GroupId, effect: says.Type) -> None:
        principal = self.session.principal
        self._all.relay.tell(
            group_id,
            wire.TypingIndicator(effect.thread_id, principal.user_id, principal.username, effect.is_typing),
        )
        self.session.typing_told(effect.thread_id, is_typing=effect.is_typing, now_s=self._all.clock.steady_s())
        self._watch_typing()

    def _tell_stop(self, thread_id: str) -> None:
        group_id = self._all.group_of(thread_id)
        if group_id is not None:
            self._tell(group_id, says.Type(thread_id, is_typing=False))

    def _watch_typing(self) -> None:
        due_s = self.session.typing_due_s()
        if due_s is not None and self._typing is None and self._line is not None:
            wait_s = max(due_s - self._all.clock.steady_s(), 0)
            self._typing = asyncio.get_running_loop().call_later(wait_s, self._stop_typing)

    def _stop_typing(self) -> None:
        self._typing = None
        for effect in self.session.typing_stops(now_s=self._all.clock.steady_s()):
            if isinstance(effect, says.Type):
                self._tell_stop(effect.thread_id)
        self._watch_typing()


MAX_FRAME_BYTES: Final = 65_536
"""Largest message of a client; a longer one is answered with close 1009."""
