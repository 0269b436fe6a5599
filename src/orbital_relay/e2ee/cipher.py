"""End-to-end encryption on top of the asynchronous SDK: a device, and its groups as streams of plaintext."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from orbital_relay.client import ApiError, CaughtUp, KeysLow, Orbital, Position, Reset, Unreachable
from orbital_relay.client.media import PathLike
from orbital_relay.e2ee.annotation_fold import AnnotatedTarget, fold_annotations
from orbital_relay.e2ee.annotation_kinds import AnnotationKind, write_annotation
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.files import fetch, seal
from orbital_relay.e2ee.formats.content import ContentKind
from orbital_relay.e2ee.hpke_delivery import HPKE_STOCK, LAST_RESORT_MS
from orbital_relay.e2ee.invite import read_invite
from orbital_relay.e2ee.media import MediaInfo, read_media_info, write_media_info
from orbital_relay.e2ee.member import GroupDevice, NewPart, now_ms
from orbital_relay.e2ee.ports import DeviceStore
from orbital_relay.e2ee.rows import MARKS, Item
from orbital_relay.e2ee.texts import uuid_bytes
from orbital_relay.e2ee.transport import SdkRelay, is_left_for_later, log_event
from orbital_relay.e2ee.unit import Unit

TICK_S: Final = 1.0
"""How often requests for missing keys and posts that failed are looked at."""


class CipherClient:
    """
    One device of the user of an SDK client, with its store. Asynchronous context manager.

    When it is entered it offers its keys in the directory, and refills them when the server reports that they run low.
    """

    def __init__(
        self, orbital: Orbital, store: DeviceStore, *, device: int | None = None, keep_frames: bool = False
    ) -> None:
        """
        Be a device.

        Args:
            orbital: Open, with a token: its user is the device's.
            store: The device's own; no other device uses it.
            device: 1 to 127. When None, it is the store's; a new store gets the user's next free number from the
                directory.
            keep_frames: Keep every frame as it was received, so that `audit` can export a group's log; the store
                grows with the log then.
        """
        self._orbital, self._store, self._number, self._keep_frames = orbital, store, device, keep_frames
        self._relay = SdkRelay(orbital)
        self._off = AsyncExitStack()
        self.device: GroupDevice
        """The device itself: rosters, safety numbers, history and revocations are there."""

    async def __aenter__(self) -> Self:
        user = self._orbital.user_id
        if user is None:
            raise RuntimeError("The client has no connection yet, so its user is unknown: open it without a timeout.")
        known = self._number or await self._store.run(lambda: Unit(self._store).get(MARKS, "device")) or 0
        self.device = GroupDevice(
            store=self._store,
            relay=self._relay,
            user=user,
            device=known,
            inbox=True,
            keep_frames=self._keep_frames,
        )
        self._relay.device = self.device
        self._off.callback(self._orbital.on(KeysLow, self._on_keys_low))
        published = await self.device.published_at()
        if published is None or now_ms() - published >= LAST_RESORT_MS:
            await self.device.publish_keys(HPKE_STOCK if published is None else 0)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._off.aclose()

    async def found(self, group_id: str) -> None:
        """Make this device the founder of a group that its user has just made on the server."""
        await self.device.found(group_id)

    def group(self, group_id: str, *, invite: str | None = None, secret_number: int = 0) -> GroupCipher:
        """
        Return a group as a stream of plaintext.

        Args:
            group_id: The user is a member of it on the server.
            invite: The part of an invite link after the `#`; needed the first time, unless this device founded it.
            secret_number: Number of the secret in the link.
        """
        return GroupCipher(self._relay, self._orbital, group_id, invite, secret_number)

    async def audit(self, group_id: str) -> bytes:
        """
        Return an audit file of a group: what this device received, signed by it; `orbital verify` reads it.

        It holds the encrypted frames, their hashes and the group's records, and no key.

        Raises:
            E2eeError: `not_found` when the group is unknown here, or the store has kept no frames of it.
        """
        return await self.device.audit(group_id)

    async def _on_keys_low(self, low: KeysLow) -> None:
        """Refill the directory when it reports a low stock of this device."""
        if low.data.device_id == self.device.me.device:
            await self.device.publish_keys(max(0, HPKE_STOCK - low.data.hpke_pre_keys))


class GroupCipher:
    """
    A group whose content is encrypted end to end. Asynchronous context manager.

    Messages arrive decrypted, in the order in which they could be read; each once, also over restarts. What is sent is
    kept in the store until the server has it. What cannot be read yet is asked for.
    """

    def __init__(
        self, relay: SdkRelay, orbital: Orbital, group_id: str, invite: str | None, secret_number: int
    ) -> None:
        """Prepare; `CipherClient.group` is how a program gets one."""
        self._relay, self._orbital, self._device, self.group_id = relay, orbital, relay.device, group_id
        self._invite, self._secret_number = invite, secret_number
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """
        Enter the group if this device is not in it yet, and begin to read its log.

        Raises:
            E2eeError: `not_found` when the group is unknown here and no invite was given.
            ValueError: If the invite is none.
        """
        try:
            await self._device.group(self.group_id)
        except E2eeError:
            if self._invite is None:
                raise
            invite = read_invite(self._invite)
            if invite is None:
                raise ValueError("The invite must be the 43 letters after the # of an invite link.") from None
            await self._device.join(self.group_id, invite, secret_number=self._secret_number)
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._tend())]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._news.set())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def send(self, text: str, *, answering: Item | None = None) -> str:
        """
        Send a message; it is kept, and sent later, when the server cannot be reached.

        Args:
            text: What is said.
            answering: A message that this answers: it counts as handled with it, so that it is answered once.

        Returns:
            Its idempotency key.

        Raises:
            E2eeError: `stopped` when sending waits for a person's decision.
            ApiError: If the server refuses it.
        """
        part = NewPart(field="encrypted_envelope", kind=ContentKind.MESSAGE, body=text.encode())
        return await self._post("new_message", [part], {"timestamp": now_ms()}, answering)

    async def open_thread(self, title: str, body: str) -> str:
        """Open a thread; the same promises as `send`."""
        parts = [
            NewPart(field="encrypted_title", kind=ContentKind.TITLE, body=title.encode()),
            NewPart(field="encrypted_body", kind=ContentKind.BODY, body=body.encode()),
        ]
        return await self._post("new_thread", parts, {}, None)

    async def reply(self, thread_id: str, text: str, *, answering: Item | None = None) -> str:
        """Reply in a thread; the same promises as `send`."""
        context = uuid_bytes(thread_id)
        part = NewPart(field="encrypted_body", kind=ContentKind.REPLY, context=context, body=text.encode())
        return await self._post("new_reply", [part], {"thread_id": thread_id}, answering)

    async def annotate(self, thread_id: str, target_id: str, annotation: AnnotationKind) -> str:
        """
        Annotate a thread, or a reply or file in it; the same promises as `send`.

        Args:
            thread_id: The thread.
            target_id: The id of the thread, the reply or the medium.
            annotation: What is said about it.

        Raises:
            ValueError: If a value of the annotation is out of its bounds.
        """
        body, context = write_annotation(annotation), uuid_bytes(target_id)
        part = NewPart(field="encrypted_body", kind=ContentKind.ANNOTATION, context=context, body=body)
        return await self._post("new_annotation", [part], {"thread_id": thread_id, "target_id": target_id}, None)

    async def annotated(self) -> dict[str, AnnotatedTarget]:
        """Return what the annotations that were read come to, by the id of their target."""
        return fold_annotations(await self._device.items(self.group_id))

    async def send_file(
        self,
        thread_id: str,
        source: str | PathLike,
        *,
        sealed: str | PathLike,
        name: str | None = None,
        type: str = "application/octet-stream",
    ) -> str:
        """
        Send a file to a thread, under a key of its own; the same promises as `send`.

        Args:
            thread_id: The thread.
            source: The file; it is read before this returns.
            sealed: Where the sealed file is kept until the server has it; then it is deleted.
            name: What members see; the source's own name when None.
            type: Its media type.

        Returns:
            The id of the medium.
        """
        media_id = str(uuid4())
        file = await seal(media_id, source, sealed, name=Path(source).name if name is None else name, type=type)
        part = NewPart(
            field="encrypted_metadata",
            kind=ContentKind.MEDIA,
            context=uuid_bytes(media_id),
            body=write_media_info(file.info),
        )
        plain: dict[str, object] = {"media_id": media_id, "thread_id": thread_id, "sealed": file.path}
        await self._post("media_uploaded", [part], plain, None)
        return media_id

    async def fetch_file(self, item: Item, to: str | PathLike) -> MediaInfo:
        """
        Download the file of an item, and open it into a file; return its name and type.

        Args:
            item: A `media_uploaded` that was read.
            to: Where the file is written, once every byte is known to be the uploader's.

        Raises:
            E2eeError: `not_found` when the item is not a file that was read; `cannot_open` when the bytes are others.
            ApiError: `GONE` when the server has deleted it.
        """
        if item.type != "media_uploaded" or not item.parts:
            raise E2eeError("not_found", f"event {item.seq} is not a file that was read")
        info = read_media_info(item.parts[0].body)
        await fetch(self._orbital, str(item.fields["media_id"]), info, to)
        return info

    async def messages(self) -> AsyncIterator[Item]:
        """
        Iterate over what others sent, decrypted; one that was yielded counts as handled when the next is asked for.

        Raises:
            E2eeError, ClientError: What ended the reading.
        """
        while True:
            self._news.clear()
            for item in await self._device.unhandled(self.group_id):
                yield item
                await self._device.handled(item)
            for task in self._tasks:
                if task.done():
                    await task
                    return
            if not await self._device.unhandled(self.group_id, 1):
                await self._news.wait()

    # Private

    async def _post(self, kind: str, parts: list[NewPart], plain: dict[str, object], answering: Item | None) -> str:
        key = await self._device.draft(self.group_id, kind, parts, plain, answering=answering)
        with suppress(Unreachable):
            await self._device.flush(self.group_id)
        return key

    async def _read(self) -> None:
        """Process the log, from where the store stands."""
        last = (await self._device.group(self.group_id)).position
        since = Position(last.seq, last.hash or None)
        async with self._orbital.subscribe(self.group_id, since=since, marks=True) as events:
            async for event in events:
                if isinstance(event, CaughtUp):
                    self._device.caught_up(self.group_id)
                    continue
                if isinstance(event, Reset):
                    await self._device.skip_to(self.group_id, await self._relay.start_at(self.group_id, event.seq))
                    continue
                if (await self._device.receive(log_event(event))).read:
                    self._news.set()

    async def _tend(self) -> None:
        """Send what waits, ask for missing keys, and try again what failed."""
        while True:
            await self._device.tick(self.group_id)
            try:
                await self._device.flush(self.group_id)
            except (ApiError, Unreachable, E2eeError) as exc:
                if not is_left_for_later(exc):
                    raise
            self._news.set()
            await asyncio.sleep(TICK_S)
