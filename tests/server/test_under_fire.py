"""A real server under stress: killed, with many connections, eavesdropped on."""

from __future__ import annotations

import asyncio
import random
import re
import resource
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress

import httpx
from websockets.exceptions import ConnectionClosed

from tests.support.client import Person, Socket, opaque
from tests.support.programs import CHECKOUT
from tests.support.tokens import token

# Killed repeatedly


class _Poster:
    """Posts message after message, and tries each again with its key until it is answered."""

    def __init__(self, person, group, name):
        self.person, self.group, self.name = person, group, name
        self.answered: dict[str, dict] = {}
        self.tries = 0

    async def run(self, until):
        number = 0
        while not until.is_set():
            key = f"{self.name}-{number}"
            while key not in self.answered:
                self.tries += 1
                try:
                    self.answered[key] = await self.person.say(self.group, key, key=key)
                except httpx.HTTPError:
                    # Killed, or not restarted yet: the client cannot know whether it was stored.
                    await asyncio.sleep(0)
            number += 1


async def test_killed_during_a_storm_of_posts(serve, people, seed):
    """
    [PROM3] [ONCE2] Every post that was answered 2xx exists after a SIGKILL, in order, the chain intact; a post
    repeated with the same key exists once, and listeners that resume receive exactly the log.
    """
    chance = random.Random(seed)
    server = serve()
    ada = await people(server.url)
    groups = [await ada.make_group() for _ in range(3)]
    posters = [_Poster(ada, groups[number % 3], f"poster-{number}") for number in range(8)]
    done = asyncio.Event()
    running = [asyncio.create_task(poster.run(done)) for poster in posters]
    listening = asyncio.create_task(_follow(server, ada, groups, done))

    for _ in range(5):
        target = sum(len(poster.answered) for poster in posters) + chance.randrange(30, 120)
        while sum(len(poster.answered) for poster in posters) < target:
            await asyncio.sleep(0)
        server.kill()
        await asyncio.to_thread(server.start)
    done.set()
    await asyncio.gather(*running)

    logs = {group.id: await ada.events(group) for group in groups}
    for group in groups:
        events = logs[group.id]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        envelopes = [event["data"]["encrypted_envelope"] for event in events if event["type"] == "new_message"]
        assert len(envelopes) == len(set(envelopes)), "a retry is there twice"
        kept = {event["data"]["message_id"]: event for event in events if event["type"] == "new_message"}
        for poster in posters:
            if poster.group is not group:
                continue
            for key, answer in poster.answered.items():
                assert kept[answer["message_id"]]["seq"] == answer["seq"]
                assert kept[answer["message_id"]]["data"]["encrypted_envelope"] == opaque(key)
            order = [kept[answer["message_id"]]["seq"] for answer in poster.answered.values()]
            assert order == sorted(order)
    assert sum(poster.tries for poster in posters) > sum(len(poster.answered) for poster in posters)
    received = await listening
    for group in groups:
        assert received[group.id] == logs[group.id]
    checked = _orbital("check", server)
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def _follow(server, person, groups, done):
    """Listen to groups over every kill, resuming by number; return what was received."""
    received = {group.id: [] for group in groups}
    while True:
        try:
            listening = await person.listen(*groups, since={name: len(events) for name, events in received.items()})
        except (OSError, httpx.HTTPError, ConnectionClosed, EOFError):
            await asyncio.sleep(0)
            continue
        try:
            assert all(state["recovered"] for state in listening.frames[-1]["data"]["groups"].values())
            while True:
                frame = await listening.receive(deadline_s=120)
                if "seq" in frame:
                    received[frame["group_id"]].append(frame)
                if done.is_set():
                    heads = {one["group_id"]: one["last_seq"] for one in (await person.get("/api/groups"))["groups"]}
                    if all(len(events) == heads[name] for name, events in received.items()):
                        await listening.close()
                        return received
                    # An event that wakes the sockets.
                    await listening.send("subscribe", {"group_ids": []})
        except ConnectionClosed:
            continue
        except httpx.HTTPError:
            await listening.close()


def _orbital(command, server, *args):
    return subprocess.run(
        [sys.executable, "-m", "orbital_relay", command, "--data-dir", str(server.data_dir), *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
    )


async def test_check_finds_what_was_modified(serve, people):
    """[CHECK1] `orbital check` names each modification that was made outside the server."""
    server = serve()
    ada = await people(server.url)
    group = await ada.make_group()
    for _ in range(5):
        await ada.say(group)
    thread = await ada.open_thread(group)
    await asyncio.to_thread(server.terminate)
    database = sqlite3.connect(server.data_dir / "orbital.db")

    assert _orbital("check", server).returncode == 0
    misspelt = (
        "UPDATE events SET frame = CAST(replace(frame, 'new_message', 'new_massage') AS BLOB) WHERE place & 255 = 3"
    )
    for change, finding in (
        (misspelt, "hash"),
        ("DELETE FROM events WHERE place & 255 = 5", "number 5 is missing"),
        (f"UPDATE threads SET reply_count = 3 WHERE thread_id = '{thread['thread_id']}'", "counts"),
        (f"UPDATE threads SET active_seq = 1 WHERE thread_id = '{thread['thread_id']}'", "active later"),
        (f"UPDATE threads SET encrypted_title = 'QQ' WHERE thread_id = '{thread['thread_id']}'", "differs"),
        ("DELETE FROM members", "is not a member"),
    ):
        database.execute(change)
        database.commit()
        result = _orbital("check", server)
        assert result.returncode == 1
        assert finding in result.stdout, result.stdout
    database.close()


# Many connections


async def test_two_thousand_connections_of_which_some_never_read(serve, people, seed):
    """[SLOW1] [SLOW2] Memory stays bounded, the others' latency is unchanged, and slow readers get all events later."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    server = serve()
    ada = await people(server.url)
    group = await ada.make_group()
    quick = [await ada.listen(group) for _ in range(20)]
    before_ms = statistics.median([await _latency_ms(ada, group, quick[0]) for _ in range(20)])
    crowd = [_Raw(server, ada.token, group.id, small=number < 200) for number in range(2000)]
    for start in range(0, len(crowd), 100):
        await asyncio.gather(*(one.open() for one in crowd[start : start + 100]))
    slow, idle = crowd[:200], crowd[200:]  # the first of them have a small buffer of their own
    for one in slow:
        one.stop_reading()
    with_crowd = server.rss_bytes

    text = "x" * 6_000
    for _ in range(100):
        await ada.say(group, text)
    grown = server.rss_bytes - with_crowd
    after_ms = statistics.median([await _latency_ms(ada, group, quick[0]) for _ in range(20)])
    head = (await ada.get("/api/groups"))["groups"][0]["last_seq"]
    metrics = (await ada.http.get("/metrics")).text

    # 200 clients that do not read were sent 0.8 MB each: buffered in memory that would be 160 MB.
    assert grown < 50 * 2**20, f"{grown / 2**20:.0f} MiB"
    assert re.search(r"orbital_behind_listeners [1-9]", metrics), "nobody was parked"
    print(f"median latency {before_ms:.1f} ms alone, {after_ms:.1f} ms in the crowd; {grown / 2**20:.0f} MiB grown")
    for one in quick:
        while one.seqs(group)[-1:] != [head]:
            await one.receive()
        assert one.seqs(group) == list(range(2, head + 1))
        await one.close()
    slow[0].read_on()
    await asyncio.wait_for(slow[0].received(head), 60)
    assert slow[0].seqs == list(range(22, head + 1))
    assert all(one.transport is not None for one in idle)
    for one in crowd:
        one.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _latency_ms(person, group, listening):
    started = time.perf_counter()
    answer = await person.say(group)
    await listening.until_seq(group, answer["seq"])
    return (time.perf_counter() - started) * 1000


class _Raw(asyncio.Protocol):
    """A bare connection: 2,000 real clients would be what is measured. It notes event numbers, or reads nothing."""

    def __init__(self, server, token, group_id, *, small):
        self.server, self.token, self.group_id, self.small = server, token, group_id, small
        self.transport = None
        self.seqs: list[int] = []
        self._upgraded = asyncio.Event()
        self._news = asyncio.Event()
        self._rest = b""
        self._asked = False

    async def open(self):
        loop = asyncio.get_running_loop()
        line = socket.socket()
        if self.small:
            # Otherwise the kernel buffers megabytes for a program that does not read.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        line.setblocking(False)
        await loop.sock_connect(line, ("127.0.0.1", self.server.port))
        await loop.create_connection(lambda: self, sock=line)
        await asyncio.wait_for(self._upgraded.wait(), 60)

    def connection_made(self, transport):
        self.transport = transport
        transport.write(
            f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode()
        )

    def data_received(self, data):
        self._rest += data
        if b'"auth_success"' in self._rest and not self._asked:
            self._asked = True
            text = b'{"type":"subscribe","data":{"group_ids":["%b"]}}' % self.group_id.encode()
            self.transport.write(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)
        if b'"subscribed"' in self._rest:
            self._upgraded.set()
        if self._upgraded.is_set():
            found = re.findall(rb'"seq":(\d+),"prev"', self._rest)
            self.seqs += map(int, found)
            self._rest = self._rest[self._rest.rfind(b'"prev"') + 1 :] if found else self._rest
            self._news.set()

    def connection_lost(self, exc):
        self.transport = None

    async def received(self, seq):
        while not self.seqs or self.seqs[-1] < seq:
            self._news.clear()
            await self._news.wait()

    def stop_reading(self):
        self.transport.pause_reading()

    def read_on(self):
        self.transport.resume_reading()

    def close(self):
        if self.transport is not None:
            self.transport.abort()


# Eavesdropping

CANARY = "the-grandchildren-arrive-at-noon"


async def test_no_plaintext_anywhere(serve, people):
    """
    [PROM5] [SEC1] Plaintext of clients appears neither on the wire, nor in the database, nor in the log, and no
    token appears in the log.
    """
    server = serve(env={"ORBITAL_LOG_LEVEL": "debug"})
    ada = await people(server.url)
    wire: list[bytes] = []
    async with _tapped(server.port, wire) as url:
        through = Person(url, user_id=ada.user_id, username=ada.username, token=ada.token)
        group = await through.make_group()
        async with await through.listen(group, compression=None) as listening:
            for number in range(5):
                await through.say(group, _encrypted(f"{CANARY} {number}".encode()))
            thread = await through.post(
                "/api/threads",
                {
                    "group_id": group.id,
                    "encrypted_title": opaque(_encrypted(CANARY.encode())),
                    "encrypted_body": opaque(_encrypted(CANARY.encode())),
                },
            )
            await listening.until_seq(group, 7)
            # The search would not find compressed text.
            assert not listening.connection.protocol.extensions
        by_query = await Socket.open(f"{server.ws_url}?token={ada.token}")
        await by_query.close()
        await through.close()
    assert thread["seq"] == 7
    await asyncio.to_thread(server.terminate)

    needles = [CANARY.encode(), opaque(CANARY).rstrip("=").encode()[:-2], CANARY.encode().hex().encode()]
    files = [path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file()]
    for haystack in [b"".join(wire), *files, "\n".join(server.log).encode()]:
        assert not any(needle in haystack for needle in needles)
    assert b"encrypted_envelope" in b"".join(wire)
    assert any(group.id.encode() in content for content in files)
    log = "\n".join(server.log)
    assert ada.token not in log
    assert ada.token.rsplit(".", 1)[1] not in log
    assert "connection opened" in log


@asynccontextmanager
async def _tapped(port, received):
    """Pass connections on to a port, and keep every byte of both directions."""

    async def copy(reader, writer):
        while data := await reader.read(65536):
            received.append(data)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def accept(reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError):
            await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as tap:
        yield f"http://127.0.0.1:{tap.sockets[0].getsockname()[1]}"
        tap.close()


def _encrypted(content: bytes) -> bytes:
    """Encrypt as a client would, with a key that the server never has."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, nonce = b"k" * 32, random.randbytes(12)
    return nonce + AESGCM(key).encrypt(nonce, content, None)


async def test_other_services_tokens_under_one_name(server):
    """[AUTH2] Two users of another service may have the same name; they stay separate users."""
    first = Person(server.url, user_id="one", username="twin", token=token("one", "twin"))
    second = Person(server.url, user_id="two", username="twin", token=token("two", "twin"))
    group = await first.make_group()

    await second.join(group)

    members = (await first.get(f"/api/groups/{group.id}/members"))["members"]
    assert [(one["user_id"], one["username"]) for one in members] == [("one", "twin"), ("two", "twin")]
    await first.close()
    await second.close()
