"""
The client's conversation and the server's session, joined in memory: each must parse what the other writes.

Between them stands what the server's shell does with a session's effects, with a log in the place of the store.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from orbital_relay import wire
from orbital_relay.client import events as client_events
from orbital_relay.client.events import CaughtUp, Position, Problem, Reset, Typing
from orbital_relay.client.protocol.conversation import ClientProtocol
from orbital_relay.client.protocol.effects import Deliver, Ended, Fetch, Notify, Opened, RenewToken, Send
from orbital_relay.core import session as server
from orbital_relay.core.chain import digest
from orbital_relay.errors import Forbidden
from orbital_relay.model import Principal, UserId
from tests.support.fake import GROUP, OTHER, STAMP, USER, Log

THREAD = "c2f1d9a8-7b6e-4d3c-9a1b-0f2e4d6c8b1a"
NOW_MS = 1_763_862_009_999


def principal(*, expires_at_s: float = 2_000_000_000, user_id: str = USER) -> Principal:
    """Make who the token speaks for."""
    return Principal(1, UserId(user_id), "anna", expires_at_s)


class Pair:
    """
    A client and a server with one wire between them, which carries whole frames and never waits.

    The wire may be cut; then both sides start a new connection when `connect` is called.
    """

    def __init__(self, *, verify: bool = True, capacity: int = 1_000) -> None:
        self.client = ClientProtocol(verify=verify, capacity=capacity)
        self.session = server.Session(principal(), frame_rate=50, now_s=0)
        self.now_s = 0.0
        self.logs: dict[str, Log] = {GROUP: Log(GROUP)}
        self.subscribed: set[str] = set()
        self.notices: list[Any] = []
        self.items: list[Any] = []
        self.fetches: list[Fetch] = []
        self.ended: list[Ended] = []
        self.posted: list[server.StorePost] = []
        self.typed: list[server.Type] = []
        self.tokens: list[server.Verify] = []
        self.over: server.CloseConnection | server.AbortConnection | None = None

    def connect(self) -> None:
        """Open a new connection: the server speaks first."""
        self.client.lost()
        self.session = server.Session(self.session.principal, frame_rate=50, now_s=self.now_s)
        self.subscribed.clear()
        hello = wire.AuthSuccess(USER, "anna", wire.iso(STAMP), "s1", 30, 65_536, wire.iso(STAMP))
        self.to_client(wire.frame(hello, stamp_ms=STAMP))

    def to_client(self, frame: bytes) -> None:
        """Carry a frame to the client, and what it makes of it back."""
        self.client_does(self.client.received(frame, now_ms=NOW_MS))

    def client_does(self, effects: list[Any]) -> None:
        """Carry out the client's effects."""
        for effect in effects:
            match effect:
                case Send(text=text):
                    self.now_s += 1
                    self.server_does(self.session.receive(text.encode(), now_s=self.now_s))
                case Deliver(item=item):
                    self.items.append(item)
                case Notify(signal=signal):
                    self.notices.append(signal)
                case Fetch():
                    self.fetches.append(effect)
                case Ended():
                    self.ended.append(effect)
                case Opened() | RenewToken():
                    self.notices.append(effect)

    def server_does(self, effects: list[Any]) -> None:
        """Carry out the session's effects, as the server's shell does."""
        for effect in effects:
            match effect:
                case server.Say(data=data, reply_to=reply_to):
                    self.to_client(wire.frame(data, stamp_ms=STAMP, reply_to=reply_to))
                case server.Complain(code=code, message=message, details=details, reply_to=reply_to):
                    self.to_client(wire.error_frame(code, message, details, stamp_ms=STAMP, reply_to=reply_to))
                case server.Beat():
                    self.to_client(wire.frame(wire.Ping(NOW_MS), stamp_ms=STAMP))
                case server.AddSubscriptions():
                    self._subscribe(effect)
                case server.RemoveSubscriptions(group_ids=group_ids, reply_to=reply_to):
                    self.subscribed.difference_update(group_ids)
                    answer = wire.Unsubscribed(group_ids, "requested")
                    self.to_client(wire.frame(answer, stamp_ms=STAMP, reply_to=reply_to))
                case server.Type():
                    self.typed.append(effect)
                case server.StorePost():
                    self.posted.append(effect)
                case server.Verify():
                    self.tokens.append(effect)
                case server.CloseConnection() | server.AbortConnection():
                    self.over = effect

    def _subscribe(self, effect: server.AddSubscriptions) -> None:
        refused = [group_id for group_id in effect.group_ids if group_id not in self.logs]
        if refused:
            no = Forbidden("You are not in some of these groups.", group_ids=refused)
            frame = wire.error_frame(no.code, no.message, no.details, stamp_ms=STAMP, reply_to=effect.reply_to)
            self.to_client(frame)
        states: dict[str, wire.GroupState] = {}
        replay: list[bytes] = []
        for group_id in effect.group_ids:
            log = self.logs.get(group_id)
            if log is None:
                continue
            states[group_id] = state = wire.GroupState(len(log.frames))
            asked = effect.since.get(group_id)
            if asked is not None:
                same = asked.hash is None or (
                    asked.seq <= len(log.frames) and digest(log.frames[asked.seq - 1]) == asked.hash
                )
                state.recovered = log.floor <= asked.seq <= len(log.frames) and same
                replay += log.after(asked.seq) if state.recovered else []
        self.subscribed.update(states)
        answer = wire.Subscribed(list(states), wire.iso(STAMP), states)
        self.to_client(wire.frame(answer, stamp_ms=STAMP, reply_to=effect.reply_to))
        for frame in replay:
            self.to_client(frame)

    def append(self, data: wire.EventData | None = None, group_id: str = GROUP) -> None:
        """Append an event and carry it to the client if it is subscribed."""
        frame = self.logs[group_id].append(data)
        if group_id in self.subscribed:
            self.to_client(frame)

    def events(self) -> list[Any]:
        """Give the events that the client delivered."""
        return [item for item in self.items if not isinstance(item, Reset | CaughtUp)]


def test_greeting_and_subscription() -> None:
    """[PAIR1] The server's greeting opens the client, and the session parses the client's request."""
    pair = Pair()
    pair.client_does(pair.client.subscribe(GROUP, Position(0), now_ms=NOW_MS))
    pair.connect()

    pair.append()
    pair.append()

    assert pair.notices == [Opened(USER, "anna", "s1", 30)]
    assert [event.seq for event in pair.events()] == [1, 2]
    assert pair.over is None


def test_every_type_of_event_is_parsed() -> None:
    """[PAIR2] Each event that the server can send is parsed as the client's class of the same name, unchanged."""
    data: list[wire.EventData] = [
        wire.MemberJoined(GROUP, USER, "Zoë 🪐", wire.iso(STAMP)),
        wire.NewThread(THREAD, GROUP, USER, "anna", "dGl0bGU=", "Ym9keQ==", wire.iso(STAMP)),
        wire.NewReply(OTHER, THREAD, USER, "anna", "Ym9keQ==", wire.iso(STAMP)),
        wire.NewAnnotation(OTHER, THREAD, OTHER, USER, "anna", "Ym9keQ==", wire.iso(STAMP)),
        wire.NewMessage(OTHER, GROUP, "Ym9keQ==", STAMP, USER),
        wire.MediaUploaded(OTHER, THREAD, USER, "bWV0YQ==", 52_428_800, wire.iso(STAMP)),
        wire.MediaExpired(OTHER, THREAD, wire.iso(STAMP)),
        wire.MemberLeft(GROUP, USER, "anna", wire.iso(STAMP), "left"),
        wire.IdentityChanged(USER, 1, "added", "a2V5"),
        wire.NewKeys(OTHER, GROUP, USER, "Ym9keQ=="),
        wire.NewRecord(OTHER, GROUP, USER, "cmVjb3Jk", wire.iso(STAMP)),
        wire.RoleChanged(GROUP, USER, "anna", "admin", OTHER, wire.iso(STAMP)),
        wire.Deleted(OTHER, "thread", USER),
    ]
    assert {each.kind for each in data} == set(wire.EVENTS), "an event of the wire is not tried here"
    pair = Pair()
    pair.client_does(pair.client.subscribe(GROUP, Position(0), now_ms=NOW_MS))
    pair.connect()

    for each in data:
        pair.append(each)

    assert [event.data for event in pair.events()] == data
    assert [type(event) for event in pair.events()] == [getattr(client_events, type(each).__name__) for each in data]
    assert [event.frame for event in pair.events()] == pair.logs[GROUP].frames


def test_a_ping_is_answered_and_counts() -> None:
    """[PAIR3] However many pings are sent, the client's pongs keep the session alive."""
    pair = Pair()
    pair.connect()

    for _ in range(10):
        pair.server_does(pair.session.beat(now_s=pair.now_s, wall_s=0))

    assert pair.over is None


def test_unanswered_pings_close_the_session() -> None:
    """[PAIR4] The same pings unanswered close the connection: the test above can fail."""
    pair = Pair()

    effects = [effect for _ in range(4) for effect in pair.session.beat(now_s=pair.now_s, wall_s=0)]

    assert isinstance(effects[-1], server.AbortConnection)


def test_forbidden() -> None:
    """[PAIR5] The server's refusal of one group ends that subscription only."""
    pair = Pair()
    pair.client_does(pair.client.subscribe(GROUP, Position(0), now_ms=NOW_MS))
    pair.client_does(pair.client.subscribe(OTHER, Position(0), now_ms=NOW_MS))
    pair.connect()

    pair.append()

    assert [ended.group_id for ended in pair.ended] == [OTHER]
    assert len(pair.events()) == 1


def test_typing_and_tokens() -> None:
    """[PAIR6] Typing and a newer token are parsed, and so is the server's notice about the token."""
    pair = Pair()
    pair.connect()
    pair.notices.clear()

    pair.client_does(pair.client.typing(THREAD, True, now_ms=NOW_MS))
    pair.server_does(pair.session.wake(now_s=pair.now_s, wall_s=2_000_000_000 - 30))
    pair.client_does(pair.client.authenticate("newer", now_ms=NOW_MS))
    (verify,) = pair.tokens
    newer = principal(expires_at_s=2_100_000_000)
    pair.server_does(pair.session.renewed(newer, reply_to=verify.reply_to, now_s=pair.now_s, wall_s=2_000_000_000))
    pair.to_client(wire.frame(wire.TypingIndicator(THREAD, OTHER, "ben", True), stamp_ms=STAMP))

    assert [(typed.thread_id, typed.is_typing) for typed in pair.typed] == [(THREAD, True)]
    assert verify.token == "newer"
    assert [type(notice) for notice in pair.notices] == [RenewToken, Typing]


def test_no_frame_of_the_client_is_a_bad_frame() -> None:
    """[PAIR7] Every frame of the client is valid for the server: no error is returned."""
    pair = Pair()
    pair.connect()
    for number in range(230):
        group_id = f"{number:08x}-0000-4000-8000-000000000000"
        pair.logs[group_id] = Log(group_id)
        since = Position(0) if number % 2 else None
        pair.client_does(pair.client.subscribe(group_id, since, now_ms=NOW_MS))
    pair.connect()
    for number in range(0, 230, 7):
        pair.client_does(pair.client.unsubscribe(f"{number:08x}-0000-4000-8000-000000000000", now_ms=NOW_MS))

    assert [notice for notice in pair.notices if isinstance(notice, Problem)] == []
    assert pair.ended == []
    assert pair.over is None


@pytest.mark.parametrize("seed", range(30))
def test_disorder(seed: int) -> None:
    """[PAIR8] With random disconnects, lost frames and a slow reader the client ends with the log, byte for byte."""
    print(f"seed {seed}")
    source = random.Random(seed)
    pair = Pair(capacity=source.choice((4, 20, 1_000)))
    log = pair.logs[GROUP]
    pair.client_does(pair.client.subscribe(GROUP, Position(0), now_ms=NOW_MS))
    frames: list[bytes] = []

    def read(count: int) -> None:
        for item in pair.items[:count]:
            if not isinstance(item, CaughtUp):
                frames.append(item.frame)
            del pair.items[0]
            pair.client_does(pair.client.taken(GROUP))

    def fetch() -> None:
        asked = pair.fetches.pop(0)
        page = log.after(asked.after)[: asked.limit]
        pair.client_does(pair.client.page(GROUP, asked.ticket, page))

    for _ in range(300):
        match source.randrange(6):
            case 0:
                pair.connect()
            case 1 | 2:
                pair.append()
            case 3:
                log.append()  # the hub lost it
            case 4 if pair.fetches:
                fetch()
            case _:
                read(source.randrange(4))
    pair.connect()
    pair.append()
    while pair.items or pair.fetches:
        read(len(pair.items))
        if pair.fetches:
            fetch()

    assert frames == log.frames
    assert all(json.loads(frame)["seq"] == number for number, frame in enumerate(frames, start=1))
