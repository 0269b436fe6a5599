"""End-to-end encryption by the Python SDK against a real server: two people, a restart, a removal, and Node."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orbital_relay.client import ApiError, connect
from orbital_relay.client.media.upload import CHUNK_BYTES
from orbital_relay.e2ee import (
    CipherClient,
    DeviceStore,
    E2eeError,
    GroupCipher,
    Item,
    MemoryStore,
    SqlcipherStore,
    Start,
)
from orbital_relay.e2ee.files import post_file
from orbital_relay.e2ee.rows import LogPosition
from tests.support import programs
from tests.support.client import Group, Person
from tests.support.process import Program, eventually
from tests.support.programs import CHECKOUT
from tests.support.server import Server

HERE = CHECKOUT / "tests" / "clients"


@pytest.fixture
async def people(shared: Server) -> AsyncIterator[list[Person]]:
    """Three people."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await Person.sign_up(shared.url)) for _ in range(3)]


class Human:
    """A person with a device: an open client and a group as plaintext."""

    def __init__(self, client: CipherClient, group: GroupCipher) -> None:
        self.client, self.group = client, group
        self.device = client.device
        self._messages = group.messages()

    async def next_message(self) -> Item:
        """Return the next message of others."""
        async with asyncio.timeout(60):
            return await anext(self._messages)

    async def texts(self, count: int) -> list[str]:
        """Return the next messages of others, as text."""
        return [(await self.next_message()).text for _ in range(count)]

    async def wait_applied(self) -> None:
        """Wait until everything that was drafted has come back."""

        async def sent() -> bool:
            return not await self.device.pending(self.group.group_id)

        await eventually(sent, what="everything that was drafted has come back")

    async def admitted(self, person: Person) -> None:
        """Wait until the roster has a person."""

        async def listed() -> bool:
            devices = (await self.device.roster(self.group.group_id)).devices
            return any(one.user == person.user_id for one in devices)

        await eventually(listed, what="the roster has the person")


@asynccontextmanager
async def human(
    person: Person,
    group: Group,
    *,
    store: DeviceStore | None = None,
    invite: str | None = None,
    founds: bool = False,
    keeps: bool = False,
) -> AsyncIterator[Human]:
    """Open a person's client."""
    async with AsyncExitStack() as stack:
        orbital = await stack.enter_async_context(connect(person.url, token=person.token))
        client = await stack.enter_async_context(CipherClient(orbital, store or MemoryStore(), keep_frames=keeps))
        if founds:
            await client.found(group.id)
        cipher = await stack.enter_async_context(client.group(group.id, invite=invite))
        yield Human(client, cipher)


async def invite_of(founder: Human) -> str:
    """Return the part of an invite link after the `#`."""
    return (await founder.device.invite(founder.group.group_id))[0]


async def test_two_people(people: list[Person], shared: Server, tmp_path: Path) -> None:
    """[PYBOT1] Two users read each other's messages, threads and replies once, also over a restart."""
    ada, ben, _ = people
    group = await ada.make_group()
    await ben.join(group)
    key, path = os.urandom(32), tmp_path / "ben.db"
    async with human(ada, group, founds=True) as at_adas:
        invite = await invite_of(at_adas)
        async with SqlcipherStore(path, key) as store, human(ben, group, store=store, invite=invite) as at_bens:
            await at_adas.admitted(ben)
            await at_adas.group.send("the canary sings")
            first = await at_bens.next_message()
            assert (first.text, first.author, first.device, first.via) == ("the canary sings", ada.user_id, 1, None)
            await at_bens.group.open_thread("Sunday", "Who cooks?")
            thread = await at_adas.next_message()
            assert [part.body for part in thread.parts] == [b"Sunday", b"Who cooks?"]
            await at_adas.group.reply(str(thread.fields["thread_id"]), "I do.")
            assert (await at_bens.next_message()).text == "I do."
            await at_adas.wait_applied()
        await at_adas.group.send("while Ben is away")
        async with SqlcipherStore(path, key) as store, human(ben, group, store=store) as at_bens:
            # What was yielded last before the restart was not counted as handled.
            assert await at_bens.texts(2) == ["I do.", "while Ben is away"]
            await at_bens.group.send("back again")
            assert await at_adas.texts(1) == ["back again"]
            assert await at_bens.device.warnings(group.id) == []
            mine = await at_bens.device.safety_number(group.id, ada.user_id)
        assert (await at_adas.device.safety_number(group.id, ben.user_id)).digits == mine.digits
        assert await at_adas.device.warnings(group.id) == []
        assert await at_adas.device.strangers(group.id) == []
        assert await at_adas.device.check_directory(group.id) == ([], [])
    files = [path for folder in (tmp_path, shared.data_dir) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 2
    stored = b"".join(path.read_bytes() for path in files)
    assert b"canary" not in stored
    assert "canary" not in "\n".join(shared.log)


async def test_audit(people: list[Person], tmp_path: Path) -> None:
    """[AUDFILE7] `orbital verify` verifies a real group's file without the server; a restarted device exports it."""
    ada, ben, _ = people
    group = await ada.make_group()
    await ben.join(group)
    key, path, file = os.urandom(32), tmp_path / "ben.db", tmp_path / "family.audit"
    async with human(ada, group, founds=True) as at_adas:
        invite = await invite_of(at_adas)
        async with (
            SqlcipherStore(path, key) as store,
            human(ben, group, store=store, invite=invite, keeps=True) as at_bens,
        ):
            await at_adas.admitted(ben)
            for text in ("the canary sings", "twice"):
                await at_adas.group.send(text)
                assert (await at_bens.next_message()).text == text
            await at_bens.group.send("and Ben answers")
            assert (await at_adas.next_message()).text == "and Ben answers"
            await at_bens.wait_applied()
        async with SqlcipherStore(path, key) as store, human(ben, group, store=store, keeps=True) as at_bens:
            file.write_bytes(await at_bens.client.audit(group.id))
            last = (await at_bens.device.group(group.id)).position.seq

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "orbital_relay", "verify", str(file), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    status, shown = await asyncio.to_thread(run)
    assert (status, f"events     1 to {last}" in shown, "heads      2 compared" in shown) == (0, True, True)
    status, shown = await asyncio.to_thread(run, "--invite", invite)
    assert (status, "word" in shown) == (0, False)
    content = file.read_bytes()
    assert b"canary" not in content
    file.write_bytes(content.replace(b"new_message", b"new_massage", 1))
    status, shown = await asyncio.to_thread(run)
    assert (status, "changed: " in shown, "bad_signature: " in shown) == (1, True, True)


async def test_files(people: list[Person], shared: Server, tmp_path: Path) -> None:
    """[FILEBOT1] A file under a key of its own is read byte for byte by others; the server has no byte of it."""
    ada, ben, _ = people
    group = await ada.make_group()
    await ben.join(group)
    content = b"the canary sings " * 700_000
    (tmp_path / "song.txt").write_bytes(content)
    async with (
        human(ada, group, founds=True) as at_adas,
        human(ben, group, invite=await invite_of(at_adas)) as at_bens,
    ):
        await at_adas.admitted(ben)
        await at_adas.group.open_thread("Songs", "of canaries")
        thread = str((await at_bens.next_message()).fields["thread_id"])
        sealed = tmp_path / "sealed"
        await at_adas.group.send_file(thread, tmp_path / "song.txt", sealed=sealed, type="text/plain")
        item = await at_bens.next_message()
        info = await at_bens.group.fetch_file(item, tmp_path / "fetched.txt")
        assert (info.name, info.type) == ("song.txt", "text/plain")
        assert (tmp_path / "fetched.txt").read_bytes() == content
        await at_adas.wait_applied()
        assert not sealed.exists()
        assert await at_bens.device.warnings(group.id) == []
        with pytest.raises(E2eeError, match="not a file"):
            await at_bens.group.fetch_file((await at_bens.device.items(group.id))[0], tmp_path / "none")
    stored = b"".join(path.read_bytes() for path in shared.data_dir.rglob("*") if path.is_file())
    assert b"canary" not in stored


async def test_a_file_amid_a_change_of_members(people: list[Person], tmp_path: Path) -> None:
    """[FILEBOT2] A file whose members changed while it was uploaded is uploaded again for the new members, once."""
    ada, ben, cleo = people
    group = await ada.make_group()
    await ben.join(group)
    (tmp_path / "song.txt").write_bytes(os.urandom(11_000_000))
    async with (
        human(ada, group, founds=True) as at_adas,
        human(ben, group, invite=await invite_of(at_adas)) as at_bens,
    ):
        await at_adas.admitted(ben)
        await at_adas.group.open_thread("Songs", "of canaries")
        thread = str((await at_bens.next_message()).fields["thread_id"])
        api, seen = at_adas.client._orbital.api, list[tuple[int, int | None]]()
        chunk_of = api.upload_chunk

        async def upload_chunk(**fields: Any) -> Any:
            seen.append((fields["chunk_index"], fields["if_epoch"]))
            if len(seen) == 3:
                await cleo.join(group)
            return await chunk_of(**fields)

        vars(api)["upload_chunk"] = upload_chunk
        media_id = await at_adas.group.send_file(thread, tmp_path / "song.txt", sealed=tmp_path / "sealed")
        item = await at_bens.next_message()
        await at_bens.group.fetch_file(item, tmp_path / "fetched.txt")
        assert (tmp_path / "fetched.txt").read_bytes() == (tmp_path / "song.txt").read_bytes()
        assert item.fields["media_id"] == media_id
        epochs = [epoch for _, epoch in seen]
        assert sorted(set(epochs)) == [epochs[0], epochs[-1]]
        assert epochs[0] != epochs[-1]
        assert len(await api.thread_media(thread)) == 1
        assert await at_bens.device.warnings(group.id) == []


async def test_files_of_a_killed_program(people: list[Person], tmp_path: Path) -> None:
    """[FILEBOT3] A repeated upload of a file posts it once, and completes nothing that an earlier seal began."""
    ada, path = people[0], tmp_path / "sealed"
    group = await ada.make_group()
    content = os.urandom(6_000_000)
    async with connect(ada.url, token=ada.token) as orbital:
        thread = (await orbital.api.create_thread(group.id, "dA==", "Yg==")).thread_id

        async def post(media_id: str, metadata: str) -> None:
            body = {"media_id": media_id, "thread_id": thread, "sealed": str(path), "encrypted_metadata": metadata}
            await post_file(orbital, body, if_epoch=1)

        whole, begun = str(uuid4()), str(uuid4())
        path.write_bytes(content)
        await post(whole, "QQ==")
        assert not path.exists()
        # The answer was lost, and the file was deleted before the program was killed.
        await post(whole, "QQ==")
        path.write_bytes(content)
        with pytest.raises(E2eeError, match="earlier seal") as conflict:
            await post(whole, "Qg==")
        assert conflict.value.code == "conflict"
        # An earlier seal's upload: one chunk of two.
        fields = {"thread_id": thread, "media_id": begun, "encryption_iv": "AA=="}
        await orbital.api.upload_chunk(
            chunk_index=1, total_chunks=2, chunk=content[CHUNK_BYTES:], encrypted_metadata="QQ==", **fields
        )
        await post(begun, "Qg==")
        media = {one.media_id: one.encrypted_metadata for one in await orbital.api.thread_media(thread)}
        assert media == {whole: "QQ==", begun: "Qg=="}
        with pytest.raises(E2eeError, match="is gone") as gone:
            await post(str(uuid4()), "QQ==")
        assert gone.value.code == "not_found"


async def test_removal(people: list[Person]) -> None:
    """[PYBOT2] A late joiner reads messages from then on; a removed member receives no further key."""
    ada, ben, cleo = people
    group = await ada.make_group()
    async with AsyncExitStack() as stack:
        at_adas = await stack.enter_async_context(human(ada, group, founds=True))
        at = {}
        for person in (ben, cleo):
            await person.join(group)
            invite = await invite_of(at_adas)
            at[person.user_id] = await stack.enter_async_context(human(person, group, invite=invite))
            await at_adas.admitted(person)
            await at_adas.group.send(f"welcome {person.username}")
            assert (await at[person.user_id].next_message()).text == f"welcome {person.username}"
        assert (await at[ben.user_id].next_message()).text == f"welcome {cleo.username}"
        await at_adas.wait_applied()
        before = (await at_adas.device.sender(group.id)).distribution
        await at_adas.device.revoke(group.id, cleo.user_id, removed=True)
        await at_adas.device.flush(group.id)
        await ada.remove(group, cleo)
        await at_adas.group.send("without Cleo")
        assert (await at[ben.user_id].next_message()).text == "without Cleo"
        assert (await at_adas.device.sender(group.id)).distribution != before
        assert [item.text for item in await at[cleo.user_id].device.items(group.id)] == ["", f"welcome {cleo.username}"]
        assert (await at_adas.device.group(group.id)).removals == ()


async def test_refusals(people: list[Person]) -> None:
    """[PYBOT3] Without an invite an unknown group cannot be joined; an invalid invite is named in the error."""
    ada = people[0]
    group = await ada.make_group()
    async with connect(ada.url, token=ada.token) as orbital, CipherClient(orbital, MemoryStore()) as client:
        with pytest.raises(E2eeError, match="unknown here"):
            async with client.group(group.id):
                pass
        with pytest.raises(ValueError, match="43 letters"):
            async with client.group(group.id, invite="nonsense"):
                pass
        with pytest.raises(E2eeError, match="not posted as JSON"):
            await client.device._cx.relay.post(group.id, "deleted", {}, key="k")
        with pytest.raises(ApiError):
            await client.device._cx.relay.post(group.id, "new_message", {}, key="k")


async def _forget(person: Person, group: Group, *, after: int) -> None:
    """Wait until the server no longer keeps the events behind a number."""

    async def forgotten() -> bool:
        query = {"group_id": group.id, "after_seq": after}
        return (await person.http.get("/v1/events", params=query)).status_code == 410

    await eventually(forgotten, what="the events are no longer kept")


async def test_a_log_without_its_beginning(serve: Any) -> None:
    """[PYGAP3] A group whose first events are no longer kept is joined; a device that was away for longer continues."""
    server = serve(env={"ORBITAL_RETENTION_DAYS": "0.00001", "ORBITAL_PRUNE_SECONDS": "0.2"})
    async with AsyncExitStack() as stack:
        ada, ben, cleo = [await stack.enter_async_context(await Person.sign_up(server.url)) for _ in range(3)]
        group = await ada.make_group()
        store = MemoryStore()
        async with human(ada, group, store=store, founds=True) as at_adas:
            invite = await invite_of(at_adas)
            await at_adas.group.send("old")
            await at_adas.wait_applied()
            await _forget(ada, group, after=0)
            await ben.join(group)
            at_bens = await stack.enter_async_context(human(ben, group, invite=invite))
            await at_adas.admitted(ben)
            await at_adas.group.send("new")
            assert await at_bens.texts(1) == ["new"]
            await at_adas.wait_applied()
            away = (await at_adas.device.group(group.id)).position.seq
        await cleo.join(group)
        async with human(cleo, group, invite=invite):
            await at_bens.admitted(cleo)
            await at_bens.group.send("in the gap")
            await at_bens.wait_applied()
            await _forget(ada, group, after=away)
            at_adas = await stack.enter_async_context(human(ada, group, store=store))
            await at_adas.admitted(cleo)
            await at_bens.group.send("behind the gap")
            assert await at_adas.texts(1) == ["behind the gap"]
            await at_adas.group.send("back again")
            assert await at_bens.texts(1) == ["back again"]
            assert [(one.code, one.details) for one in await at_adas.device.warnings(group.id)] == [
                ("gap", {"after": away})
            ]
            assert await at_bens.device.warnings(group.id) == []
        start = Start(position=LogPosition(away), epoch=away, members=[], records=[])
        with pytest.raises(E2eeError, match="older log"):
            await at_adas.device.skip_to(group.id, start)


async def test_the_number_of_a_device(people: list[Person]) -> None:
    """[JSFILE4] In Python, too, a store gets the next free number of its user's devices, and keeps it."""
    ada, *_ = people
    first, second = MemoryStore(), MemoryStore()
    numbers = []
    for store in (first, second, first):
        async with connect(ada.url, token=ada.token) as orbital, CipherClient(orbital, store) as client:
            numbers.append(client.device.me.device)
    assert numbers == [1, 2, 1]


async def test_low_stock(people: list[Person]) -> None:
    """[PYBOT4] A device refills its one-time keys when the server reports that they run low."""
    ada, ben, _ = people
    group = await ada.make_group()
    await ben.join(group)
    async with human(ada, group, founds=True):
        wanted = {"user_id": ada.user_id, "device_id": 1, "suite": 16}
        for _ in range(41):
            await ben.post("/v1/keys/claims", {"group_id": group.id, "devices": [wanted]})

        async def full() -> bool:
            return bool((await ada.get("/v1/keys/count"))["devices"][0]["hpke_pre_keys"] == 50)

        await eventually(full, what="the stock of one-time keys is full again")


async def test_beside_node(people: list[Person]) -> None:
    """[PYBOT5] A Python member and a Node member with the JavaScript package read each other in one group."""
    programs.node_package(CHECKOUT / "clients" / "e2ee", "@noble/hashes")
    ada, nina, _ = people
    group = await ada.make_group()
    await nina.join(group)
    async with human(ada, group, founds=True) as at_adas:
        arguments = [ada.url, nina.token, nina.user_id, group.id, await invite_of(at_adas)]
        member = Program([programs.node(), str(HERE / "e2ee_member.mjs"), *arguments], stdin=True)
        await asyncio.to_thread(member.wait_for, "ready")
        await at_adas.admitted(nina)
        for text in ("one", "two"):
            await at_adas.group.send(text)
            received = await at_adas.next_message()
            assert (received.text, received.author) == (f"Node received: {text}", nina.user_id)
        assert [line for line in member.lines if line.startswith("read ")] == ["read one", "read two"]
        assert await at_adas.device.warnings(group.id) == []
        member.end_input()
        assert await asyncio.to_thread(member.wait) == 0, member.text


async def test_example(people: list[Person], tmp_path: Path) -> None:
    """[PYBOT6] The example bot repeats each message of others once, also if it is killed and restarted."""
    ada, bot, _ = people
    group = await ada.make_group()
    await bot.join(group)
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "ORBITAL_TOKEN": bot.token, "ORBITAL_KEY": os.urandom(32).hex()}

    def run(name: str, *arguments: str) -> Program:
        script = str(CHECKOUT / "examples" / "python" / name)
        return Program([sys.executable, "-W", "error", script, *arguments], env=env, cwd=tmp_path)

    async with human(ada, group, founds=True) as at_adas:
        invite = await invite_of(at_adas)
        for text, more in (("hello", [invite]), ("again", [])):
            program = run("secret_echo.py", ada.url, group.id, *more)
            await asyncio.to_thread(program.wait_for, "ready")
            await at_adas.admitted(bot)
            await at_adas.group.send(text)
            assert (await at_adas.next_message()).text == f"You said: {text}"
            program.kill()
