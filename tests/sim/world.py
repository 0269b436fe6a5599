"""A small world for the relay: a log in memory, servers, a bus that lies, clients that crawl; all of it seeded."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orbital_relay import config, wire
from orbital_relay.api.messages import MessagePosted
from orbital_relay.core.chain import digest, first_prev
from orbital_relay.errors import (
    AlreadyMember,
    Forbidden,
    NotFound,
    OrbitalError,
    PositionLost,
    Unauthorized,
    Unavailable,
)
from orbital_relay.model import (
    Access,
    CreateGroup,
    Event,
    Head,
    JoinGroup,
    LeaveGroup,
    LogRange,
    MembershipAtHead,
    Page,
    PostMessage,
    Principal,
    ResumePoint,
)
from orbital_relay.ports import Appended
from orbital_relay.relay import Relay
from orbital_relay.server.edge.deflate import deflated_text_frame
from orbital_relay.server.sessions.client_session import ClientSession
from orbital_relay.server.sessions.low_keys import LowKeys
from orbital_relay.server.sessions.registry import Sessions
from orbital_relay.server.sessions.typing import TypingNotifier
from orbital_relay.services import posting
from orbital_relay.services.context import ServiceContext


def uuid_of(number: int) -> str:
    """Return a UUID that is the same in every run."""
    return f"00000000-0000-4000-8000-{number:012x}"


class Disorder:
    """Where all chance comes from: a seed, and turns of the loop instead of time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    async def turns(self, most: int) -> None:
        """Let others run, for a random number of turns of the loop."""
        for _ in range(self.random.randrange(most + 1)):
            await asyncio.sleep(0)


class Clock:
    """A wall clock that jumps ahead, and sometimes back; and a monotonic one."""

    def __init__(self, disorder: Disorder) -> None:
        self._disorder = disorder
        self._wall_ms = 1_800_000_000_000
        self._steady_s = 0.0

    def wall_ms(self) -> int:
        """Return the time of day, which a careless operator sets back now and then."""
        self._wall_ms += self._disorder.random.choice((0, 0, 1, 1, 2, 3, -40 if self._wall_ms % 97 == 0 else 1))
        return self._wall_ms

    def steady_s(self) -> float:
        """Return seconds."""
        self._steady_s += 0.001
        return self._steady_s


@dataclass
class Group:
    """A group as the log has it."""

    group_id: str
    creator: int
    code: str
    events: list[Event] = field(default_factory=list)
    floor: int = 0
    members: set[int] = field(default_factory=set)
    left_at: dict[int, int] = field(default_factory=dict)

    def go_back(self, seq: int) -> None:
        """Lose what came after a number, as a replica that lagged has never had it."""
        del self.events[seq:]
        self.floor = min(self.floor, seq)
        self.members, self.left_at = set(), {}
        for event in self.events:
            data = wire.event_data(event.frame)
            if isinstance(data, wire.MemberJoined):
                self.members.add(int(data.user_id.removeprefix("user-")))
            elif isinstance(data, wire.MemberLeft):
                key = int(data.user_id.removeprefix("user-"))
                self.members.discard(key)
                self.left_at[key] = event.seq

    @property
    def head(self) -> Head:
        """Where it stands."""
        if not self.events:
            return Head(0, 0, 0, first_prev(self.group_id))
        last = self.events[-1]
        return Head(last.seq, self.floor, last.stamp_ms, digest(last.frame))


class MemoryStore:
    """
    A log in memory that answers late: what it returns was true some turns ago.

    Only what the relay and a conversation ask for is there.
    """

    def __init__(self, disorder: Disorder) -> None:
        self._disorder = disorder
        self._writing = asyncio.Lock()
        self.groups: dict[str, Group] = {}
        self.away = False
        self.calls = 0

    async def _turns(self) -> None:
        self.calls += 1
        await self._disorder.turns(4)
        if self.away:
            raise Unavailable("away")

    async def last_stamp_ms(self) -> int:
        """Return the highest stamp."""
        return max((group.head.stamp_ms for group in self.groups.values()), default=0)

    async def low_watermark_ms(self) -> int | None:
        """Leave the stamps of frames that are no events to the relay."""
        await self._turns()
        return None

    async def append(self, drafts: list[Any], *, first_stamp_ms: int) -> list[Appended | OrbitalError]:
        """Append, one transaction at a time."""
        async with self._writing:
            await self._turns()
            outcomes = [self._one(draft, first_stamp_ms + index) for index, draft in enumerate(drafts)]
        await self._disorder.turns(4)
        return outcomes

    def _one(self, draft: Any, stamp_ms: int) -> Appended | OrbitalError:
        user = draft.actor
        if isinstance(draft, CreateGroup):
            group = self.groups[draft.group_id] = Group(draft.group_id, user.key, draft.invite_code)
            group.members.add(user.key)
            return self._add(group, wire.MemberJoined(group.group_id, user.user_id, user.username, "t"), stamp_ms)
        if isinstance(draft, JoinGroup):
            group = next(one for one in self.groups.values() if one.code == draft.invite_code)
            if user.key in group.members:
                return AlreadyMember("in")
            group.members.add(user.key)
            return self._add(group, wire.MemberJoined(group.group_id, user.user_id, user.username, "t"), stamp_ms)
        group = self.groups[draft.group_id]
        if user.key not in group.members:
            return Forbidden("out")
        if isinstance(draft, LeaveGroup):
            key = int(draft.user_id.removeprefix("user-"))
            if key not in group.members:
                return NotFound("out")
            group.members.remove(key)
            group.left_at[key] = group.head.seq + 1
            data = wire.MemberLeft(group.group_id, draft.user_id, draft.user_id, "t", "removed")
            return self._add(group, data, stamp_ms)
        assert isinstance(draft, PostMessage)
        data = wire.NewMessage(draft.message_id, group.group_id, draft.encrypted_envelope, stamp_ms, user.user_id)
        return self._add(group, data, stamp_ms)

    def _add(self, group: Group, data: wire.EventData, stamp_ms: int) -> Appended:
        head = group.head
        stamp_ms = max(stamp_ms, head.stamp_ms + 1)
        frame = wire.seal(data, group_id=group.group_id, seq=head.seq + 1, stamp_ms=stamp_ms, prev=head.hash)
        event = Event(group.group_id, head.seq + 1, stamp_ms, frame)
        group.events.append(event)
        return Appended(MessagePosted(message_id="m", server_timestamp=stamp_ms, seq=event.seq), event)

    async def read(self, group_id: str, *, after: int, limit: int) -> Page:
        """Read a page."""
        await self._turns()
        group = self.groups[group_id]
        if after < group.floor:
            raise PositionLost(oldest_seq=group.floor + 1)
        # A short page now and then: what a real one does when frames are large.
        page = Page(group.events[after : after + min(limit, self._disorder.random.choice((1, 3, 50)))], group.head)
        await self._disorder.turns(4)
        return page

    async def read_many(self, ranges: dict[str, LogRange]) -> dict[str, Page]:
        """Read a short page of each group."""
        await self._turns()
        pages = {}
        for group_id, wanted in ranges.items():
            group = self.groups.get(group_id)
            if group is not None and wanted.after >= group.floor:
                most = min(wanted.limit, self._disorder.random.choice((1, 3, 50)))
                pages[group_id] = Page(group.events[wanted.after : wanted.after + most], group.head)
        await self._disorder.turns(4)
        return pages

    async def heads(self, group_ids: list[str]) -> dict[str, Head]:
        """Return heads."""
        await self._turns()
        heads = {group_id: self.groups[group_id].head for group_id in group_ids if group_id in self.groups}
        await self._disorder.turns(4)
        return heads

    async def memberships(self, user: int, group_ids: list[str]) -> dict[str, MembershipAtHead]:
        """Return access and heads as of one moment."""
        await self._turns()
        found = {
            group_id: MembershipAtHead(
                Access.MEMBER if user in self.groups[group_id].members else Access.STRANGER,
                self.groups[group_id].head,
            )
            for group_id in group_ids
            if group_id in self.groups
        }
        await self._disorder.turns(6)
        return found

    async def resume_points(self, positions: dict[str, int]) -> dict[str, ResumePoint]:
        """Return what the log holds at positions."""
        await self._turns()
        found = {}
        for group_id, seq in positions.items():
            group = self.groups.get(group_id)
            if group is not None and group.floor <= seq <= group.head.seq:
                after = group.events[seq:]
                found[group_id] = ResumePoint(
                    first_prev(group_id) if seq == 0 else digest(group.events[seq - 1].frame),
                    after[0].stamp_ms if after else None,
                )
        return found


class LyingBus:
    """Carries messages between servers: some are lost, some come twice, some come late and out of order."""

    def __init__(self, disorder: Disorder, *, loss: float) -> None:
        self._disorder = disorder
        self._loss = loss
        self._nodes: list[tuple[Relay, set[str]]] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def join(self, relay: Relay) -> _Port:
        """Return a server's way onto the bus."""
        followed: set[str] = set()
        self._nodes.append((relay, followed))
        return _Port(self, relay, followed)

    def carry(self, sender: Relay, group_id: str, payload: bytes) -> None:
        """Carry a payload to every other server that follows the group, or not."""
        for relay, followed in self._nodes:
            if relay is sender:
                continue
            for _ in range(self._disorder.random.choice((1, 1, 1, 2))):
                if self._disorder.random.random() >= self._loss:
                    task = asyncio.create_task(self._later(relay, followed, group_id, payload))
                    self.tasks.add(task)
                    task.add_done_callback(self.tasks.discard)

    async def _later(self, relay: Relay, followed: set[str], group_id: str, payload: bytes) -> None:
        await self._disorder.turns(12)
        if group_id in followed:
            relay.receive(group_id, payload)


class _Port:
    def __init__(self, bus: LyingBus, relay: Relay, followed: set[str]) -> None:
        self._bus, self._relay, self._followed = bus, relay, followed

    async def publish(self, group_id: str, payload: bytes) -> None:
        self._bus.carry(self._relay, group_id, payload)

    async def follow(self, group_id: str) -> None:
        await asyncio.sleep(0)
        self._followed.add(group_id)

    async def unfollow(self, group_id: str) -> None:
        self._followed.discard(group_id)


class NoAuth:
    """Nobody renews or revokes a token here."""

    def on_revoked(self, callback: Any) -> None:
        """Never call it."""

    def revoked(self, principal: Principal) -> bool:
        """Return False: no token is revoked."""
        return False

    def holds(self, principal: Principal) -> bool:
        """Return True: every token is valid."""
        return True

    async def verify(self, token: str) -> Principal:
        """Know nobody."""
        raise Unauthorized("no")


class Node:
    """A server's inner rooms."""

    def __init__(self, store: MemoryStore, clock: Clock, bus: LyingBus | None) -> None:
        self.relay = Relay(store=store, clock=clock, compress=deflated_text_frame)  # type: ignore[arg-type]
        context = ServiceContext(
            store=store,  # type: ignore[arg-type]
            append=self.relay.appender.append,
            clock=clock,
            passwords=None,  # type: ignore[arg-type]
            logins=None,  # type: ignore[arg-type]
            online=None,  # type: ignore[arg-type]
            state_changed=self.relay.notify_state,
            envelope_bytes=10_000,
            invite_days=1,
        )
        auth = NoAuth()
        settings = config.Settings(frame_rate=1_000_000)
        self.sessions = Sessions(
            relay=self.relay,
            auth=auth,  # type: ignore[arg-type]
            clock=clock,
            heartbeat_s=settings.heartbeat_s,
            frame_rate=settings.frame_rate,
            low_keys=LowKeys(store=store, clock=clock),  # type: ignore[arg-type]
        )
        self.open_session = partial(
            ClientSession,
            relay=self.relay,
            clock=clock,
            auth=auth,  # type: ignore[arg-type]
            typing=TypingNotifier(relay=self.relay, store=store),  # type: ignore[arg-type]
            enqueue=partial(posting.from_frame, context),
            registry=self.sessions,
            settings=settings,
        )
        self.port = None if bus is None else bus.join(self.relay)

    async def start(self) -> None:
        """Take up the clock."""
        await self.relay.start(self.port)  # type: ignore[arg-type]


def frames_in(wire_bytes: bytes) -> list[bytes]:
    """Take a server's frames apart (RFC 6455 §5.2); compressed ones are not expected."""
    found, at = [], 0
    while at < len(wire_bytes):
        assert wire_bytes[at] == 0x81
        size, start = wire_bytes[at + 1], at + 2
        if size == 126:
            size, start = int.from_bytes(wire_bytes[at + 2 : at + 4], "big"), at + 4
        elif size == 127:
            size, start = int.from_bytes(wire_bytes[at + 2 : at + 10], "big"), at + 10
        found.append(wire_bytes[start : start + size])
        at = start + size
    return found


class Client:
    """
    One connection: it takes what comes at its own pace, and checks each frame as it goes out.

    `pace` bytes are taken a turn; over `room` bytes the transport is full.
    """

    deflate = False

    def __init__(self, world: World, node: Node, user: Principal, *, room: int, pace: int) -> None:
        self.world, self.user = world, user
        self.room, self.pace = room, pace
        self.writable = True
        self._waiting = 0
        self.open = True
        self.trace: list[object] = []
        self.asked_replay = False
        self.last_stamp = 0
        self.last_stamps: dict[str, int] = {}
        self.received: dict[str, list[int]] = defaultdict(list)
        # The frames of each group since the client last received a new position.
        self.frames: dict[str, list[bytes]] = defaultdict(list)
        self.next: dict[str, int] = {}
        self.asked: dict[int, dict[str, int]] = {}
        self._numbers = 0
        self.session = node.open_session(user)
        self.session.opened(self)  # type: ignore[arg-type]

    # What a line does

    def write(self, wire_bytes: bytes) -> None:
        """Take frames from the server."""
        if not self.open:
            return
        for frame in frames_in(wire_bytes):
            self.world.check(self, frame)
        self._waiting += len(wire_bytes)
        if self.writable and self._waiting > self.room:
            self.writable = False
            self.session.paused()

    def close(self, code: int, reason: str = "") -> None:
        """Take the close."""
        raise AssertionError(f"closed with {code}: {reason}")

    def abort(self) -> None:
        """Be cut."""
        raise AssertionError("cut")

    def pause_reading(self) -> None:
        """Be read no more."""

    def resume_reading(self) -> None:
        """Be read on."""

    # What a client does

    def take(self) -> None:
        """Read some of what has come."""
        self._waiting = max(0, self._waiting - self.pace)
        if not self.writable and self._waiting < self.room // 4:
            self.writable = True
            self.session.resumed()

    @property
    def idle(self) -> bool:
        """Whether it has read all."""
        return self._waiting == 0

    def say(self, type: str, **data: Any) -> None:
        """Send a frame."""
        self._numbers += 1
        self.session.text(json.dumps({"type": type, "data": data, "id": self._numbers}).encode())

    def subscribe(self, group_ids: list[str], since: dict[str, int] | None = None) -> None:
        """Ask for groups."""
        self.asked[self._numbers + 1] = since or {}
        self.asked_replay = self.asked_replay or bool(since)
        self.say("subscribe", group_ids=group_ids, **({"since": since} if since else {}))

    def end(self) -> None:
        """Go away."""
        self.open = False
        self.session.closed(None)


class World:
    """Everything together, and the promises that every frame is held against."""

    def __init__(self, seed: int, *, nodes: int, loss: float = 0.0, goes_back: bool = False) -> None:
        # A frame that is in flight when the log loses it arrives: the end is compared with the log.
        self.goes_back = goes_back
        self.disorder = Disorder(seed)
        self.clock = Clock(self.disorder)
        self.store = MemoryStore(self.disorder)
        self.bus = LyingBus(self.disorder, loss=loss) if nodes > 1 else None
        self.nodes = [Node(self.store, self.clock, self.bus) for _ in range(nodes)]
        self.users = [Principal(key, f"user-{key}", f"user-{key}", 4e9) for key in range(6)]
        self.clients: list[Client] = []
        self.checked = 0

    # The promises

    def check(self, client: Client, text: bytes) -> None:
        """Hold a frame against the promises, at the moment at which it goes out."""
        frame = json.loads(text)
        kind, data = frame["type"], frame["data"]
        client.trace.append(
            (
                kind,
                frame.get("group_id", "")[-2:],
                frame.get("seq", data.get("groups")),
                frame["server_timestamp"],
                client.session.behind,
            )
        )
        if "seq" not in frame:
            if kind == "subscribed":
                self._begin(client, frame)
            elif kind == "unsubscribed":
                for group_id in data["group_ids"]:
                    client.next.pop(group_id, None)
            if len(self.nodes) == 1:
                # No frame bears a stamp at or above an event that is still to come.
                client.last_stamp = max(client.last_stamp, frame["server_timestamp"])
            return
        self.checked += 1
        group_id, seq = frame["group_id"], frame["seq"]
        group = self.store.groups[group_id]
        client.frames[group_id].append(text)
        if not self.goes_back:
            assert text == group.events[seq - 1].frame, "a frame is the log's, byte for byte"
        assert client.next.get(group_id) == seq, (
            f"number {seq} came when {client.next.get(group_id)} was due: {client.trace[-8:]}"
        )
        client.next[group_id] = seq + 1
        client.received[group_id].append(seq)
        if client.user.key not in group.members and not self.goes_back:
            assert seq <= group.left_at[client.user.key], "nothing after its member_left reaches who left"
        if self.goes_back:
            # What a repair reads of a group that was found to have lost its end may stand below another group's stamps.
            assert frame["server_timestamp"] > client.last_stamps.get(group_id, 0), (
                f"the order of stamps in a group: {frame['server_timestamp']} after {client.last_stamps[group_id]}"
            )
            client.last_stamps[group_id] = frame["server_timestamp"]
        elif len(self.nodes) == 1:
            assert frame["server_timestamp"] > client.last_stamp or client.asked_replay, (
                f"the order of stamps: {frame['server_timestamp']} after {client.last_stamp} {client.trace[-6:]}"
            )
            client.last_stamp = frame["server_timestamp"]

    def _begin(self, client: Client, frame: dict[str, Any]) -> None:
        since = client.asked.get(frame.get("reply_to", 0), {})
        for group_id, state in frame["data"]["groups"].items():
            if "reply_to" in frame and group_id in client.next:
                continue
            client.next[group_id] = since[group_id] + 1 if state.get("recovered") else state["seq"] + 1
            client.received[group_id].append(-client.next[group_id])
            client.frames[group_id].clear()
            client.last_stamps.pop(group_id, None)

    # Acts

    async def append(self, node: Node, draft: Any) -> Appended | None:
        """Append at a server; a refusal is fine."""
        try:
            return await node.relay.appender.append(draft)
        except OrbitalError:
            return None

    async def wait_idle(self) -> None:
        """Let everything come to rest: the bus heals, every client reads, every server compares."""
        self.store.away = False
        quiet = 0
        for _ in range(50_000):
            if quiet == 60:
                return
            await asyncio.sleep(0)
            for client in self.clients:
                client.take()
            if not all(client.idle for client in self.clients):
                quiet = 0
            if quiet == 20:
                for node in self.nodes:
                    await node.relay.compare()
            busy = any(
                node.relay._tasks.running
                or node.relay.hub.behind
                or any(c._queues.store.busy for c in node.sessions.open)
                for node in self.nodes
            )
            quiet = 0 if busy or (self.bus is not None and self.bus.tasks) else quiet + 1
        states = [
            (c.user.user_id, c.idle, c.writable, c.session.is_paused, c.session.behind, c.next)
            for c in self.clients
            if c.session.behind or not c.idle
        ]
        raise AssertionError(f"it does not come to rest: {[n.relay._tasks.running for n in self.nodes]} {states}")

    async def close(self) -> None:
        """End it."""
        for client in self.clients:
            client.end()
        for node in self.nodes:
            await node.relay.close()


async def create_groups(world: World, groups: int) -> list[str]:
    """Create so many groups, with every user as a member; returns their ids."""
    ids = []
    for number in range(groups):
        group_id = uuid_of(number)
        owner = world.users[number % len(world.users)]
        await world.append(
            world.nodes[0],
            CreateGroup(
                actor=owner,
                at_ms=0,
                group_id=group_id,
                encrypted_name="AA",
                encrypted_group_key="AA",
                invite_code=group_id,
                invite_expires_ms=10,
            ),
        )
        for user in world.users:
            if user is not owner:
                await world.append(
                    world.nodes[0], JoinGroup(actor=user, at_ms=0, invite_code=group_id, encrypted_group_key="AA")
                )
        ids.append(group_id)
    return ids


def message(user: Principal, group_id: str, number: int, size: int) -> PostMessage:
    """Draft a message with an envelope of so many characters."""
    return PostMessage(
        actor=user, at_ms=0, group_id=group_id, message_id=uuid_of(number), encrypted_envelope="A" * size
    )
