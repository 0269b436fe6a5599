"""A relay in memory: an ordered, hash-chained log with epochs, idempotency and a key directory; it may lie."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.events import EPOCH_EVENTS
from orbital_relay.e2ee.formats.content import ContentKind
from orbital_relay.e2ee.formats.records import HistoryPolicy
from orbital_relay.e2ee.invite import read_invite
from orbital_relay.e2ee.member import GroupDevice, NewPart
from orbital_relay.e2ee.ports import (
    DeviceStore,
    DirectoryDevice,
    KeyBundle,
    OfferedKey,
    PublishedKeys,
    RelayTransport,
    Wanted,
)
from orbital_relay.e2ee.rows import LogEvent
from orbital_relay.e2ee.stores.memory import MemoryStore
from orbital_relay.e2ee.texts import to_base64, to_base64url, uuid_bytes

GROUP = "0a0b0c0d-0000-4000-8000-000000000001"
OTHER_GROUP = "0a0b0c0d-0000-4000-8000-000000000002"
ADA = "aaaaaaaa-0000-4000-8000-00000000000a"
BEN = "bbbbbbbb-0000-4000-8000-00000000000b"
CLEO = "cccccccc-0000-4000-8000-00000000000c"
DORA = "dddddddd-0000-4000-8000-00000000000d"
EMIL = "eeeeeeee-0000-4000-8000-00000000000e"
VECTORS = Path(__file__).parents[2] / "spec" / "vectors" / "e2ee"

Frame = dict[str, Any]


def vectors(name: str) -> Any:
    """Return a committed file of vectors."""
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def frame_text(frame: Frame) -> str:
    """Return a frame's text, as the server writes it: compact, and without the hash, which is no part of it."""
    return json.dumps({name: value for name, value in frame.items() if name != "hash"}, separators=(",", ":"))


def frame_hash(text: str) -> str:
    """Return the hash of a frame's text."""
    return to_base64url(hashlib.sha256(text.encode()).digest())


def extended(group: str, log: list[Frame], kind: str, data: Frame) -> list[Frame]:
    """Return a log with one more event, numbered and chained as the server does it."""
    frame = {
        "type": kind,
        "data": data,
        "group_id": group,
        "seq": len(log) + 1,
        "prev": log[-1]["hash"] if log else frame_hash(group),
    }
    return [*log, {**frame, "hash": frame_hash(frame_text(frame))}]


def chained(group: str, events: Sequence[Frame]) -> list[Frame]:
    """Number and chain events as the server would: a liar does it well."""
    log: list[Frame] = []
    for event in events:
        log = extended(group, log, event["type"], event["data"])
    return log


def event_of(frame: Frame) -> LogEvent:
    """Return a frame as members receive it."""
    return msgspec.structs.replace(LogEvent.of(**frame), frame=frame_text(frame).encode())


class GroupLog:
    """A group on the relay."""

    def __init__(self) -> None:
        self.members: set[str] = set()
        self.log: list[Frame] = []
        self.epoch = 0
        self.answered: dict[tuple[str, str], tuple[str, int]] = {}


Post = dict[str, Any]


class FakeRelay:
    """The server. Its hooks are replaced by tests that lie or fail."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000
        self.groups: dict[str, GroupLog] = {}
        self.directory: dict[tuple[str, int], PublishedKeys] = {}
        self.last_resorts = 0
        self.members: list[GroupDevice] = []
        self.stores: dict[int, DeviceStore] = {}
        self.on_post: Callable[[Post], None] = lambda _: None
        self.on_posted: Callable[[Post], None] = lambda _: None
        self.on_bundle: Callable[[KeyBundle], KeyBundle] = lambda bundle: bundle
        self.on_devices: Callable[[list[DirectoryDevice]], list[DirectoryDevice]] = lambda listed: listed

    def new_group(self, founder: str, group: str | None = None) -> str:
        """Make a group with its first member."""
        name = group or str(uuid.uuid4())
        self.groups[name] = GroupLog()
        self.join(name, founder)
        return name

    def append(self, group: str, kind: str, data: Frame) -> int:
        """Append an event to a log, and return its number."""
        state = self.groups[group]
        state.log = extended(group, state.log, kind, data)
        if kind in EPOCH_EVENTS:
            state.epoch = len(state.log)
        return len(state.log)

    def join(self, group: str, user: str) -> int:
        """Let a user join."""
        self.groups[group].members.add(user)
        return self.append(group, "member_joined", {"group_id": group, "user_id": user})

    def leave(self, group: str, user: str) -> int:
        """Remove a user."""
        self.groups[group].members.discard(user)
        return self.append(group, "member_left", {"group_id": group, "user_id": user, "reason": "removed"})

    def store_of(self, member: GroupDevice) -> Any:
        """Return the store of a device."""
        return self.stores[id(member)]

    async def device(
        self, user: str, device: int = 1, *, store: DeviceStore | None = None, publish: bool = True, **options: Any
    ) -> GroupDevice:
        """Make a device with a store of its own, or a given one, that publishes its keys."""
        port = RelayPort(self, user, device)
        kept = MemoryStore() if store is None else store
        member = GroupDevice(store=kept, relay=port, user=user, device=device, now=lambda: self.now, **options)
        port.member = member
        self.stores[id(member)] = kept
        self.members.append(member)
        if publish:
            await member.publish_keys(4)
        return member

    async def deliver(self, member: GroupDevice, group: str, log: list[Frame] | None = None) -> None:
        """Give a member every event of a group that it does not have, up to its own leaving."""
        position = (await member.group(group)).position.seq
        for frame in (self.groups[group].log if log is None else log)[position:]:
            await member.receive(event_of(frame))
            if frame["type"] == "member_left" and frame["data"]["user_id"] == member.me.user:
                return

    async def wait_idle(self, group: str, members: Sequence[GroupDevice] | None = None) -> None:
        """Deliver and flush until nothing moves any more."""
        state, before = self.groups[group], -1
        for _ in range(20):
            present = [one for one in members or self.members if one.me.user in state.members]
            for member in present:
                await self.deliver(member, group)
                await member.flush(group)
            positions = [(await one.group(group)).position.seq for one in present]
            if len(state.log) == before and all(seq == before for seq in positions):
                return
            before = len(state.log)
        raise AssertionError("the group does not settle")


class RelayPort:
    """The transport of one device."""

    def __init__(self, relay: FakeRelay, user: str, device: int) -> None:
        self.relay, self.user, self.device = relay, user, device
        self.member: GroupDevice

    async def post(self, group: str, kind: str, body: dict[str, Any], *, key: str, if_epoch: int | None = None) -> int:
        """Post as the server would."""
        relay, user = self.relay, self.user
        about = {"user": user, "device": self.device, "group": group, "type": kind}
        relay.on_post(about)
        state, text = relay.groups[group], json.dumps([kind, body])
        known = state.answered.get((user, key))
        if known is not None:
            if known[0] != text:
                raise E2eeError("conflict", "another body under this key")
            return known[1]
        if user not in state.members:
            raise PermissionError("FORBIDDEN")
        if if_epoch is not None and state.epoch > if_epoch:
            raise E2eeError("epoch_changed", "the group changed", epoch=state.epoch)
        author = "sender_id" if kind in {"new_message", "new_keys"} else "author_id"
        made = {"thread_id": str(uuid.uuid4())} if kind == "new_thread" else {}
        seq = relay.append(group, kind, {**made, author: user, **body})
        state.answered[user, key] = (text, seq)
        relay.on_posted({**about, "seq": seq})
        return seq

    async def claim(self, group: str, devices: Sequence[Wanted]) -> list[KeyBundle]:
        """Give a one-time key of each device, or its last resort."""
        relay, bundles = self.relay, []
        for wanted in devices:
            name = (wanted.user, wanted.device)
            keys = relay.directory.get(name)
            if keys is None:
                bundles.append(KeyBundle(user=wanted.user, device=wanted.device, identity=bytes(33)))
                continue
            one_time: OfferedKey | None = keys.hpke_pre_keys[0] if keys.hpke_pre_keys else None
            relay.last_resorts += one_time is None
            relay.directory[name] = msgspec.structs.replace(keys, hpke_pre_keys=keys.hpke_pre_keys[1:])
            bundle = KeyBundle(
                user=wanted.user,
                device=wanted.device,
                identity=keys.identity,
                hpke_pre_key=one_time or keys.hpke_pre_key,
                last_resort=one_time is None,
            )
            bundles.append(relay.on_bundle(bundle))
        return bundles

    async def put_keys(self, keys: PublishedKeys) -> int:
        """Take a device's keys, and report a new identity to its groups."""
        relay, name = self.relay, (self.user, keys.device)
        known = relay.directory.get(name)
        if known is not None and known.identity == keys.identity:
            one_time = [*known.hpke_pre_keys, *keys.hpke_pre_keys]
            last = keys.hpke_pre_key or known.hpke_pre_key
            relay.directory[name] = msgspec.structs.replace(known, hpke_pre_keys=one_time, hpke_pre_key=last)
            return keys.device
        relay.directory[name] = keys
        change = "added" if known is None else "identity"
        about = {"user_id": self.user, "device_id": keys.device, "change": change}
        for group, state in relay.groups.items():
            if self.user in state.members:
                relay.append(group, "identity_changed", {**about, "identity_key": to_base64(keys.identity)})
        return keys.device

    async def devices(self, group: str) -> list[DirectoryDevice]:
        """List the devices of a group's members."""
        relay = self.relay
        listed = [
            DirectoryDevice(user=user, device=device, identity=keys.identity, suites=keys.suites, seen_at=relay.now)
            for (user, device), keys in relay.directory.items()
            if user in relay.groups[group].members
        ]
        return relay.on_devices(listed)

    async def catch_up(self, group: str, seq: int) -> None:
        """Give the device what the log has."""
        await self.relay.deliver(self.member, group)


_: type[RelayTransport] = RelayPort


async def new_family(
    relay: FakeRelay, devices: Sequence[GroupDevice], history: HistoryPolicy = HistoryPolicy.NONE
) -> str:
    """Make a group of the first device, with every other one in it by its invite."""
    founder, *others = devices
    group = relay.new_group(founder.me.user)
    await founder.found(group, history=history)
    await relay.wait_idle(group, [founder])
    for other in others:
        await enter(relay, group, founder, other)
    await relay.wait_idle(group, devices)
    return group


async def family(
    users: Sequence[str] = (ADA, BEN, CLEO), history: HistoryPolicy = HistoryPolicy.NONE
) -> tuple[FakeRelay, list[GroupDevice], str]:
    """Make a relay with one device of each user in one group."""
    relay = FakeRelay()
    members = [await relay.device(user) for user in users]
    return relay, members, await new_family(relay, members, history)


async def enter(relay: FakeRelay, group: str, inviter: GroupDevice, member: GroupDevice) -> None:
    """Let a person come in by an invite."""
    text, number = await inviter.invite(group)
    invite = read_invite(text)
    assert invite is not None
    if member.me.user not in relay.groups[group].members:
        relay.join(group, member.me.user)
    await member.join(group, invite, inviter=inviter.me.user, secret_number=number)
    await relay.deliver(member, group)
    await member.flush(group)


def message(text: str) -> list[NewPart]:
    """Return the parts of a message."""
    return [NewPart(field="encrypted_envelope", kind=ContentKind.MESSAGE, body=text.encode())]


async def say(member: GroupDevice, group: str, text: str) -> None:
    """Post a message."""
    await member.draft(group, "new_message", message(text))
    await member.flush(group)


async def reply(member: GroupDevice, group: str, thread: str, text: str) -> None:
    """Post a reply."""
    part = NewPart(field="encrypted_body", kind=ContentKind.REPLY, context=uuid_bytes(thread), body=text.encode())
    await member.draft(group, "new_reply", [part], {"thread_id": thread})
    await member.flush(group)


async def texts(member: GroupDevice, group: str) -> list[str]:
    """Return what a member reads, in order; what it cannot read stands as its status."""
    return [
        "|".join(part.body.decode() for part in item.parts) if item.status == "read" else f"[{item.status}]"
        for item in await member.items(group)
    ]


async def codes(member: GroupDevice, group: str) -> list[str]:
    """Return the codes of a member's warnings."""
    return [warning.code for warning in await member.warnings(group)]
