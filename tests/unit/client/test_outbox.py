"""The outbox: posts are sent once and in order, despite failures and restarts."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from pathlib import Path
from typing import Self

import httpx
import msgspec
import pytest

from orbital_relay.client import (
    Api,
    ApiError,
    BadAnswer,
    Closed,
    Discarded,
    FileOutbox,
    OutboxExpired,
    OutboxFull,
    Problem,
    responses,
)
from orbital_relay.client.outbox import KEY_LIFE_MS, Outbox
from orbital_relay.client.stores import MemoryOutbox, OutboxStore, QueuedPost
from orbital_relay.client.tokens import Tokens
from orbital_relay.core.backoff import Backoff
from tests.support.fake import GROUP, OTHER, FakeServer, contents, refusal

FAST = Backoff(steps_ms=(1, 2), jitter_ms=1)
SLOW = Backoff(steps_ms=(600_000,), jitter_ms=1)
PATH = "/v1/messages"


class Sender:
    """An outbox over the fake server's REST side."""

    def __init__(self, *, store: OutboxStore | None = None, backoff: Backoff = FAST, limit: int = 1_000) -> None:
        self.server = FakeServer()
        self.problems: list[Problem] = []
        self.api = Api("http://orbital.test", token="t", transport=self.server.transport)
        self.outbox = Outbox(
            self.api, store=store, backoff=backoff, random=lambda: 0.5, report=self.problems.append, limit=limit
        )

    async def post(self, content: str, *, group_id: str = GROUP, key: str | None = None) -> responses.MessageSent:
        """Post a message."""
        body = {"conversation_id": group_id, "encrypted_envelope": content, "timestamp": 0}
        return await self.outbox.post(group_id, PATH, body, responses.MessageSent, key=key)

    async def __aenter__(self) -> Self:
        await self.outbox.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.outbox.close()
        await self.api.close()


def waiting(content: str, *, key: str, tried_ms: int | None = None) -> QueuedPost:
    """Make a post that an earlier run left."""
    body = {"conversation_id": GROUP, "encrypted_envelope": content, "timestamp": 0}
    return QueuedPost(
        key=key, lane=GROUP, path=PATH, body=msgspec.Raw(json.dumps(body).encode()), created_ms=1, tried_ms=tried_ms
    )


async def test_every_try_has_the_same_key() -> None:
    """[PYOUT4] A post that fails in transit is retried with the same key and body."""
    async with Sender() as sender:
        troubles = [refusal(503, "UNAVAILABLE"), refusal(502, "x"), httpx.Response(200, text="<html>")]
        sender.server.rest = lambda _: troubles.pop() if troubles else None

        await sender.post("AAAA")

        tries = [(r.headers["Idempotency-Key"], r.content) for r in sender.server.requests]
        assert len(tries) == 4
        assert len(set(tries)) == 1


async def test_a_key_of_the_caller() -> None:
    """[PYOUT5] A caller that retries a post itself passes the key and receives the first answer."""
    async with Sender() as sender:
        first = await sender.post("AAAA", key="mine")
        again = await sender.post("AAAA", key="mine")

        assert first == again
        assert len(sender.server.log().frames) == 1


async def test_lanes_do_not_wait_for_each_other() -> None:
    """[PYOUT6] A blocked post of one group does not delay the posts of another group."""
    async with Sender(backoff=SLOW) as sender:
        sender.server.rest = lambda request: refusal(503, "UNAVAILABLE") if GROUP in request.content.decode() else None
        stuck = asyncio.create_task(sender.post("AAAA"))

        await sender.post("BBBB", group_id=OTHER)

        assert not stuck.done()
        assert sender.outbox.waiting == 1
        stuck.cancel()


async def test_an_open_connection_retries_at_once() -> None:
    """[PYOUT7] When the connection opens, pending posts are retried without back-off."""
    async with Sender(backoff=SLOW) as sender:
        troubles = [refusal(503, "UNAVAILABLE")]
        sender.server.rest = lambda _: troubles.pop() if troubles else None
        posting = asyncio.create_task(sender.post("AAAA"))
        await sender.server.until(lambda: len(sender.server.requests) == 1)
        while not posting.done():
            sender.outbox.wake()
            await asyncio.sleep(0)

        assert posting.result().seq == 1


async def test_the_outbox_is_full() -> None:
    """[PYOUT8] Posts beyond the capacity of the outbox are refused at once; the pending ones are kept."""
    async with Sender(backoff=SLOW, limit=2) as sender:
        sender.server.rest = lambda _: refusal(503, "UNAVAILABLE")
        kept = [asyncio.create_task(sender.post("AAAA")) for _ in range(2)]
        await sender.server.until(lambda: len(sender.server.requests) == 1)

        with pytest.raises(OutboxFull):
            await sender.post("BBBB")

        assert sender.outbox.waiting == 2
        assert not any(task.done() for task in kept)
        for task in kept:
            task.cancel()


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_pending_posts_survive_a_restart(kind: str, tmp_path: Path) -> None:
    """[PYOUT9] Posts that were pending when the program ended are sent by the next run, once and in order."""
    memory = MemoryOutbox()

    def store() -> OutboxStore:
        return memory if kind == "memory" else FileOutbox(tmp_path / "outbox")

    async with Sender(store=store(), backoff=SLOW) as first:

        def lost(request: httpx.Request) -> httpx.Response:
            first.server._post(request)  # it is done, and the answer never comes
            raise httpx.ReadError("")

        first.server.rest = lost
        sending = [asyncio.create_task(first.post(f"AA{number:02d}")) for number in range(12)]
        await first.server.until(lambda: len(first.server.requests) == 1)
        while first.outbox.waiting < 12 or len(await store().load()) < 12:
            await asyncio.sleep(0)
    assert all(isinstance(result, Closed) for result in await asyncio.gather(*sending, return_exceptions=True))

    second = Sender(store=store())
    second.server.logs, second.server.posts = first.server.logs, first.server.posts
    async with second:
        while second.outbox.waiting:
            await asyncio.sleep(0)

        assert contents(second.server.log()) == [f"AA{number:02d}" for number in range(12)]
        assert await store().load() == []
        assert second.problems == []


async def test_a_post_older_than_a_day_is_not_retried() -> None:
    """[PYOUT10] A post first tried a day ago is not retried, since its key may have expired: that is reported."""
    store = MemoryOutbox()
    now_ms = time.time_ns() // 1_000_000
    await store.put(waiting("AAAA", key="old", tried_ms=now_ms - KEY_LIFE_MS - 1_000))
    await store.put(waiting("BBBB", key="never tried"))
    async with Sender(store=store) as sender:
        while sender.outbox.waiting:
            await asyncio.sleep(0)

        assert contents(sender.server.log()) == ["BBBB"]
        (problem,) = sender.problems
        assert problem.details["idempotency_key"] == "old"
        assert "23 hours" in problem.message


async def test_an_expired_post_raises_in_its_caller() -> None:
    """[PYOUT11] The same error is raised in a caller that waits for the answer."""
    async with Sender() as sender:
        sender.server.rest = lambda _: refusal(503, "UNAVAILABLE")
        posting = asyncio.create_task(sender.post("AAAA"))
        await sender.server.until(lambda: len(sender.server.requests) == 1)
        (lane,) = sender.outbox._lanes.values()
        lane[0].post = msgspec.structs.replace(lane[0].post, tried_ms=1)

        with pytest.raises(OutboxExpired):
            await posting


async def test_a_refused_token_keeps_the_posts_of_an_earlier_run() -> None:
    """[PYOUT12] If the token is refused, posts of an earlier run stay for a run with a valid token."""
    store = MemoryOutbox()
    await store.put(waiting("AAAA", key="k"))
    async with Sender(store=store) as sender:
        sender.server.good_token = lambda _: False
        sender.outbox.wake()
        while not sender.problems:
            await asyncio.sleep(0)

        assert [post.key for post in await store.load()] == ["k"]
        with pytest.raises(Closed):
            await asyncio.gather(asyncio.create_task(sender.post("BBBB")), sender.outbox.close())


class Broken(MemoryOutbox):
    """A store whose disk is full."""

    def __init__(self, *, puts: bool) -> None:
        super().__init__()
        self._puts = puts

    async def put(self, post: QueuedPost) -> None:
        """Fail, or not."""
        if not self._puts:
            raise OSError("no space left on device")
        await super().put(post)

    async def remove(self, key: str) -> None:
        """Fail."""
        raise OSError("no space left on device")


async def test_a_store_that_cannot_save() -> None:
    """[PYOUT13] A post that the store cannot save is not sent, and the caller gets the error."""
    async with Sender(store=Broken(puts=False)) as sender:
        with pytest.raises(OSError, match="no space"):
            await sender.post("AAAA")

        assert sender.server.requests == []


async def test_a_store_that_cannot_delete() -> None:
    """[PYOUT14] A post that was sent counts as sent even if the store cannot delete it; that is reported."""
    async with Sender(store=Broken(puts=True)) as sender:
        assert (await sender.post("AAAA")).seq == 1
        assert [problem.code for problem in sender.problems] == ["STORE"]


async def test_refused() -> None:
    """[PYOUT15] A permanent refusal is raised with its code and is not retried."""
    async with Sender() as sender:
        sender.server.rest = lambda _: refusal(409, "CONFLICT", details={"field": "x"})
        with pytest.raises(ApiError) as caught:
            await sender.post("AAAA")

        assert (caught.value.code, caught.value.status, caught.value.details) == ("CONFLICT", 409, {"field": "x"})
        assert len(sender.server.requests) == 1


async def test_a_token_function_that_fails_loses_no_post() -> None:
    """[PYOUT16] While the token cannot be renewed, a post is reported and retried, awaited or not."""
    store = MemoryOutbox()
    await store.put(waiting("AAAA", key="k"))
    answers: list[str | Exception] = ["old", OSError("the network is away"), OSError("the network is away"), "new"]

    def token() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with Sender(store=store) as sender:
        sender.api.tokens = Tokens(token)
        sender.server.good_token = lambda given: given == "new"

        await sender.post("BBBB")

        assert contents(sender.server.log()) == ["AAAA", "BBBB"]
        assert [problem.code for problem in sender.problems] == ["TOKEN", "TOKEN"]
        assert await store.load() == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(302, headers={"Location": "http://portal.test/login"}, text="<html>"),
        httpx.Response(307, headers={"Location": "http://portal.test/login"}),
        httpx.Response(200, json={"ok": True}),
        httpx.Response(200, content=b""),
        httpx.Response(204),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=["seq", 1]),
    ],
    ids=["302", "307", "another's JSON", "nothing", "204", "a page", "a list"],
)
async def test_only_the_servers_response_acknowledges(answer: httpx.Response) -> None:
    """[PYOUT17] Only the server's own response acknowledges a post: after a portal's page or redirect it is retried."""
    async with Sender() as sender:
        troubles = [answer]
        sender.server.rest = lambda _: troubles.pop() if troubles else None

        assert (await sender.post("AAAA")).seq == 1


async def test_an_invalid_acknowledgement() -> None:
    """[PYOUT18] An acknowledgement with an invalid form raises BadAnswer, and its post is not sent again."""
    async with Sender() as sender:
        sender.server.rest = lambda _: httpx.Response(200, json={"message_id": "m"})
        with pytest.raises(BadAnswer, match="server_timestamp"):
            await sender.post("AAAA")

        assert len(sender.server.requests) == 1


async def test_a_store_that_fails_while_another_post_is_in_flight() -> None:
    """[PYOUT19] Closing while an unsaved post waits behind another logs no unhandled error."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))

    class Second(MemoryOutbox):
        async def put(self, post: QueuedPost) -> None:
            if post.tried_ms is None:
                raise OSError("no space left on device")
            await super().put(post)

    async with Sender(store=Second(), backoff=SLOW) as sender:
        sender.server.rest = lambda _: refusal(503, "UNAVAILABLE")
        posts = [asyncio.create_task(sender.post("AAAA")) for _ in range(2)]
        await sender.server.until(lambda: len(sender.server.requests) == 1)
    await asyncio.gather(*posts, return_exceptions=True)
    del posts
    await asyncio.sleep(0)  # The loop releases what has ended.
    gc.collect()

    assert complaints == []


async def test_a_store_that_cannot_record_an_attempt() -> None:
    """[PYOUT20] A post of an earlier run is kept and sent even if the full disk prevents noting its first try."""

    class Full(MemoryOutbox):
        full = 2

        async def put(self, post: QueuedPost) -> None:
            if self.full:
                self.full -= 1
                raise OSError("no space left on device")
            await super().put(post)

    store = Full()
    store._posts["k"] = waiting("AAAA", key="k")
    async with Sender(store=store) as sender:
        while sender.outbox.waiting:
            await asyncio.sleep(0)

        assert contents(sender.server.log()) == ["AAAA"]
        assert [problem.code for problem in sender.problems] == ["STORE", "STORE"]


async def test_close_while_a_sent_post_is_deleted() -> None:
    """[PYOUT21] An accepted post is answered, even if the outbox closes before the store deletes the post."""
    forgetting = asyncio.Event()

    class Slow(MemoryOutbox):
        async def remove(self, key: str) -> None:
            forgetting.set()
            await asyncio.Event().wait()

    async with Sender(store=Slow()) as sender:
        posting = asyncio.create_task(sender.post("AAAA"))
        await forgetting.wait()

    assert (await posting).seq == 1


async def test_a_lane_whose_token_was_refused() -> None:
    """[PYOUT22] Posts queued behind one that waits for a valid token raise its error; with a new token all are sent."""
    store = MemoryOutbox()
    await store.put(waiting("AAAA", key="k"))
    async with asyncio.timeout(60), Sender(store=store) as sender:
        sender.server.good_token = lambda _: False
        while not sender.problems:
            await asyncio.sleep(0)

        with pytest.raises(ApiError) as caught:
            await sender.post("BBBB")
        assert caught.value.status == 401
        assert [post.key for post in await store.load()] == ["k"]
        assert sender.outbox.waiting == 1

        sender.server.good_token = lambda _: True
        await sender.post("CCCC")
        assert contents(sender.server.log()) == ["AAAA", "CCCC"]
        assert sender.outbox.waiting == 0


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "schlüssel", "k" * 129])
async def test_an_invalid_key(key: str) -> None:
    """[PYOUT23] A key that the protocol does not allow is refused at once, as in the REST client."""
    async with Sender() as sender:
        with pytest.raises(ValueError, match="idempotency key"):
            await sender.post("AAAA", key=key)
        with pytest.raises(ValueError, match="idempotency key"):
            await sender.api.create_group("AAAA", "AAAA", idempotency_key=key)

        assert sender.outbox.waiting == 0
        assert sender.server.requests == []


async def test_a_waiting_post_is_discarded() -> None:
    """[PYDISC1] A post in back-off is discarded, its caller gets the error, and the next post is sent."""
    store = MemoryOutbox()
    async with Sender(store=store, backoff=SLOW) as sender:
        sender.server.rest = lambda _: refusal(503, "UNAVAILABLE")
        first = asyncio.create_task(sender.post("AAAA", key="k1"))
        second = asyncio.create_task(sender.post("BBBB", key="k2"))
        await sender.server.until(lambda: len(sender.server.requests) == 1)
        sender.server.rest = lambda _: None

        assert await sender.outbox.discard("k1") is True
        assert [post.key for post in await store.load()] in (["k2"], [])
        assert await sender.outbox.discard("k1") is False
        with pytest.raises(Discarded, match="k1"):
            await first
        await second

        assert [r.headers["Idempotency-Key"] for r in sender.server.requests] == ["k1", "k2"]
        assert sender.outbox.waiting == 0
        assert await store.load() == []


async def test_a_post_behind_another_is_discarded(tmp_path: Path) -> None:
    """[PYDISC2] A post queued behind another is discarded at once and deleted from the store."""
    async with Sender(store=FileOutbox(tmp_path), backoff=SLOW) as sender:
        sender.server.rest = lambda _: refusal(503, "UNAVAILABLE")
        first = asyncio.create_task(sender.post("AAAA", key="k1"))
        second = asyncio.create_task(sender.post("BBBB", key="k2"))
        await sender.server.until(lambda: len(sender.server.requests) == 1)

        assert await sender.outbox.discard("k2") is True
        with pytest.raises(Discarded):
            await second
        assert sender.outbox.waiting == 1
    with pytest.raises(Closed):
        await first

    assert [json.loads(path.read_bytes())["key"] for path in tmp_path.glob("*.json")] == ["k1"]


async def test_a_post_in_flight_is_discarded() -> None:
    """[PYDISC3] A post whose request is in progress is not tried again; its caller gets the error at once."""
    keys: list[str] = []
    answered = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            await answered.wait()
            return refusal(503, "UNAVAILABLE")
        return httpx.Response(201, json={"message_id": "m", "seq": 1, "server_timestamp": 1})

    async with Sender() as sender, Api("http://orbital.test", token="t", transport=httpx.MockTransport(answer)) as api:
        sender.outbox._api = api
        first = asyncio.create_task(sender.post("AAAA", key="k1"))
        while not keys:
            await asyncio.sleep(0)
        assert await sender.outbox.discard("k1") is True
        with pytest.raises(Discarded):
            await first
        second = asyncio.create_task(sender.post("BBBB", key="k2"))
        answered.set()
        await second

    assert keys == ["k1", "k2"]


async def test_a_post_of_an_earlier_run_is_discarded() -> None:
    """[PYDISC4] A post of an earlier run, whose token was refused, is discarded; the lane continues."""
    store = MemoryOutbox()
    await store.put(waiting("AAAA", key="old"))
    async with Sender(store=store, backoff=SLOW) as sender:
        sender.server.rest = lambda _: refusal(401, "UNAUTHORIZED")
        await sender.server.until(lambda: len(sender.problems) == 1)

        assert await sender.outbox.discard("old") is True
        sender.server.rest = lambda _: None
        await sender.post("BBBB", key="new")

        assert len(sender.problems) == 1
        assert await store.load() == []
