"""The relay of a device over the Python SDK: posts, the directory of keys, and the group's log."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec

from orbital_relay.client import ApiError, Event, Orbital, Unreachable
from orbital_relay.client.api.bodies import annotations_path, reply_path
from orbital_relay.e2ee.enrolment import Start
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.files import post_file
from orbital_relay.e2ee.member import GroupDevice
from orbital_relay.e2ee.ports import DirectoryDevice, KeyBundle, OfferedKey, PublishedKeys, RelayTransport, Wanted
from orbital_relay.e2ee.roster import LoggedRecord
from orbital_relay.e2ee.rows import LogEvent, LogPosition
from orbital_relay.e2ee.texts import from_base64, to_base64

GROUP_FIELD: Final = {"new_message": "conversation_id", "new_thread": "group_id", "new_keys": "group_id"}
"""The field in which the body of a post names its group, where its path does not."""


def is_left_for_later(error: ApiError | Unreachable | E2eeError) -> bool:
    """
    Return whether what a `flush` has not sent stays in the outbox for another one.

    The server cannot be reached, a person decides first, or the log has not reached the epoch that the server names.
    """
    if isinstance(error, ApiError):
        return error.retryable
    return isinstance(error, Unreachable) or error.code in {"stopped", "epoch_changed"}


class _Seq(msgspec.Struct):
    """What every answer to a post has."""

    seq: int = 0


class _Frame(msgspec.Struct):
    """What is read of a frame itself."""

    data: msgspec.Raw


def log_event(event: Event) -> LogEvent:
    """Return an event of the SDK as a device processes it; the fields come from the frame, byte for byte."""
    return LogEvent(
        group_id=event.group_id,
        seq=event.seq,
        type=event.type,
        data=bytes(msgspec.json.decode(event.frame, type=_Frame).data),
        hash=event.hash,
        prev=event.prev,
        frame=event.frame,
    )


def _offered(key: OfferedKey) -> dict[str, Any]:
    return {"id": key.id, "key": to_base64(key.key), "signature": to_base64(key.signature)}


class SdkRelay:
    """The server as a device sees it, by a client of the SDK. It holds no key."""

    def __init__(self, orbital: Orbital) -> None:
        """
        Use this client.

        Args:
            orbital: It is open while the relay is used.
        """
        self._orbital = orbital
        self.device: GroupDevice
        """Set once the device is made, before anything is sent."""

    async def post(self, group: str, kind: str, body: dict[str, Any], *, key: str, if_epoch: int | None = None) -> int:
        """
        Post, and return the number of the event.

        Raises:
            E2eeError: `epoch_changed`, `conflict`; `unsupported` for a kind that is not posted as JSON.
            ApiError: If the server refuses it for another reason.
            Unreachable: If there is no answer of the server's.
        """
        if kind == "media_uploaded":
            await post_file(self._orbital, body, if_epoch=if_epoch)
            # The server's answer has no number: a medium that does not come back is not noticed as withheld.
            return 0
        path, fields = _request(group, kind, body)
        if if_epoch is not None:
            fields["if_epoch"] = if_epoch
        try:
            content = await self._orbital.api.post(path, msgspec.json.encode(fields), idempotency_key=key)
        except ApiError as exc:
            if exc.code == "EPOCH_CHANGED":
                raise E2eeError("epoch_changed", exc.message, epoch=exc.details.get("epoch")) from exc
            if exc.code == "CONFLICT":
                raise E2eeError("conflict", exc.message) from exc
            raise
        return msgspec.json.decode(content, type=_Seq).seq

    async def claim(self, group: str, devices: Sequence[Wanted]) -> list[KeyBundle]:
        """Claim a bundle of each device; one whose keys are no base64 counts as missing."""
        wanted = [(one.user, one.device, one.suite) for one in devices]
        found = await self._orbital.api.claim_keys(group, wanted)
        bundles = []
        for one in found:
            try:
                named = one.hpke_pre_key
                key = None
                if named is not None:
                    key = OfferedKey(named.id, from_base64(named.key), from_base64(named.signature))
                identity = from_base64(one.identity_key)
            except ValueError:
                continue
            bundle = KeyBundle(
                user=one.user_id,
                device=one.device_id,
                identity=identity,
                hpke_pre_key=key,
                last_resort=one.last_resort,
            )
            bundles.append(bundle)
        return bundles

    async def put_keys(self, keys: PublishedKeys) -> int:
        """Offer keys in the directory; a repeated request adds none again."""
        # Left out, the server gives the next free number, or that of the same identity.
        body: dict[str, Any] = {"device_id": keys.device} if keys.device else {}
        body |= {
            "identity_key": to_base64(keys.identity),
            "suites": keys.suites,
            "hpke_pre_keys": [_offered(key) for key in keys.hpke_pre_keys],
        }
        if keys.hpke_pre_key is not None:
            body["hpke_pre_key"] = _offered(keys.hpke_pre_key)
        # The key of the request follows from its content: a device that crashed before the answer repeats the same.
        digest = hashlib.sha256(msgspec.json.encode(body)).hexdigest()
        return (await self._orbital.api.publish_keys(body, idempotency_key=digest)).device_id

    async def devices(self, group: str) -> list[DirectoryDevice]:
        """List the devices of a group's members; an identity that is no base64 is empty, and differs from any."""
        listed = []
        async for one in self._orbital.api.iter_devices(group):
            try:
                identity = from_base64(one.identity_key)
            except ValueError:
                identity = b""
            seen = int(datetime.fromisoformat(one.seen_at).timestamp() * 1000)
            device = DirectoryDevice(
                user=one.user_id, device=one.device_id, identity=identity, suites=one.suites, seen_at=seen
            )
            listed.append(device)
        return listed

    async def catch_up(self, group: str, seq: int) -> None:
        """Read the log from where the device stands up to `seq`."""
        after = (await self.device.group(group)).position.seq
        try:
            async for event in self._orbital.api.iter_events(group, after_seq=after):
                await self.device.receive(log_event(event))
                if event.seq >= seq:
                    return
        except ApiError as exc:
            if exc.code != "GONE":
                raise
            # The subscription skips what is no longer kept.
            raise E2eeError(
                "epoch_changed", f"the events of {group} after {after} are no longer kept", epoch=seq
            ) from exc

    async def start_at(self, group: str, seq: int) -> Start:
        """
        Return where a device continues in a group whose events up to a number are no longer kept.

        Members and records may be newer than that number; then their events follow, and change nothing.
        """
        api = self._orbital.api
        members = [one.user_id for one in await api.members(group)]
        records = []
        async for one in api.iter_records(group):
            # What is not base64 counts for nothing.
            with suppress(ValueError):
                records.append(LoggedRecord(one.seq, one.author_id, from_base64(one.record)))
        position = LogPosition(seq, await self._hash_at(group, seq))
        # The epoch is that number at most; a higher one than the group's is accepted.
        return Start(position=position, epoch=seq, members=members, records=records)

    async def _hash_at(self, group: str, seq: int) -> str:
        """Return the hash of an event; empty when it is no longer kept."""
        if seq == 0:
            return ""
        try:
            async for event in self._orbital.api.iter_events(group, after_seq=seq - 1):
                return event.hash
        except ApiError as exc:
            if exc.code != "GONE":
                raise
        return ""


def _request(group: str, kind: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a post."""
    fields = {**body, GROUP_FIELD[kind]: group} if kind in GROUP_FIELD else dict(body)
    match kind:
        case "new_message":
            return "/v1/messages", fields
        case "new_thread":
            return "/api/threads", fields
        case "new_reply":
            return reply_path(fields.pop("thread_id")), fields
        case "new_annotation":
            return annotations_path(fields.pop("thread_id")), fields
        case "new_keys":
            return "/v1/key-messages", fields
        case "new_record":
            return f"/api/groups/{group}/records", fields
        case _:
            raise E2eeError("unsupported", f"an event of type {kind} is not posted as JSON")


_: type[RelayTransport] = SdkRelay
