"""What a push call comes to when the log, the store, the push service or a time zone is not as expected."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orbital_relay import wire
from orbital_relay.errors import NotFound, PositionLost, Unavailable
from orbital_relay.model import (
    ClaimedPush,
    Event,
    GroupId,
    Head,
    Page,
    PushOutcome,
    PushPreferences,
    PushTarget,
    QuietHours,
    UserId,
)
from orbital_relay.server.push import pusher as pushers
from orbital_relay.server.push.pusher import IDLE_MS, MOST_CALLED, MOST_FAILURES, Pusher
from orbital_relay.server.push.sender import Sent

NOW_MS = 1_800_000_000_000
GROUP = GroupId("6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11")
POINT = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


class _Clock:
    def wall_ms(self) -> int:
        return NOW_MS


def _claim(number: int = 1, *, failures: int = 0, quiet: QuietHours | None = None) -> ClaimedPush:
    target = PushTarget("https://push.example.org/secret", POINT, b"s" * 16)
    return ClaimedPush(number, UserId("ada"), target, PushPreferences((), (), quiet), failures, {GROUP: 1})


def _page(seq: int) -> Page:
    data = wire.NewMessage("m", GROUP, "ZW52", 1, "ben")
    frame = wire.seal(data, group_id=GROUP, seq=seq, stamp_ms=NOW_MS, prev="p" * 43)
    return Page([Event(GROUP, seq, NOW_MS, frame)], Head(seq, 0, NOW_MS, "h" * 43))


class _Home:
    """A store with claims that are due, a log whose reads a test scripts, and a sender."""

    def __init__(self, *claims: ClaimedPush, reads: list[Any]) -> None:
        self.claims, self.reads = list(claims), reads
        self.asked: list[int] = []
        self.limits: list[int] = []
        self.outcomes: list[PushOutcome] = []
        self.full = False
        self.deleted: set[str] = set()
        self.send: Callable[[], Awaitable[Sent]] = self._sent
        self.results: Counter[str] = Counter()
        home: Any = self
        self.pusher = Pusher(store=home, clock=_Clock(), sender=_Sender(home), results=self.results, alone=False)

    async def _sent(self) -> Sent:
        return Sent("sent")

    async def due_pushes(self, *, now_ms: int, free_ms: int, limit: int) -> list[int]:
        self.limits.append(limit)
        return [claim.number for claim in self.claims[:limit]]

    async def claim_pushes(self, numbers: list[int], **_: int) -> list[ClaimedPush]:
        claimed, self.claims = self.claims[: len(numbers)], self.claims[len(numbers) :]
        return claimed

    async def read(self, group_id: GroupId, *, after: int, limit: int) -> Page:
        self.asked.append(after)
        answer = self.reads.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    async def deleted_among(self, target_ids: set[str]) -> set[str]:
        return self.deleted & target_ids

    async def store_outcomes(self, outcomes: list[PushOutcome]) -> None:
        if self.full:
            raise Unavailable("the database restarts")
        self.outcomes += outcomes

    async def call(self) -> None:
        """Call what is due; return when the outcome was stored, or was not."""
        await self.pusher.look()
        async with asyncio.timeout(60):
            await self.pusher.due.wait()
        await self.pusher.close()


class _Sender:
    def __init__(self, home: Any) -> None:
        self._home = home

    async def send(self, endpoint: str, body: bytes, *, topic: str, ttl_s: int, urgency: str) -> Sent:
        sent: Sent = await self._home.send()
        return sent

    async def close(self) -> None:
        """Nothing is open."""


async def test_an_unknown_time_zone(caplog: pytest.LogCaptureFixture):
    """[PUSHCALL1] If the server does not know the time zone of quiet hours, they do not count; the log says so."""
    home = _Home(_claim(quiet=QuietHours("00:00", "23:59", "Mars/Olympus")), reads=[_page(2)])

    await home.call()

    assert home.results == {"sent": 1}
    assert home.outcomes == [PushOutcome(number=1, reached={GROUP: 2})]
    assert [record.message for record in caplog.records] == [
        "a time zone is unknown here; quiet hours in it do not count"
    ]


async def test_events_that_are_no_longer_kept():
    """[PUSHCALL2] A device whose position the log no longer keeps is notified of the events from the oldest on."""
    home = _Home(_claim(), reads=[PositionLost(oldest_seq=9), _page(9)])

    await home.call()

    assert home.asked == [1, 8]
    assert home.outcomes == [PushOutcome(number=1, reached={GROUP: 9})]


@pytest.mark.parametrize("answer", [NotFound("gone"), Page([], Head(1, 0, NOW_MS, "h" * 43))])
async def test_nothing_to_read(answer: Any):
    """[PUSHCALL3] A device with nothing to read, such as of a deleted group, is left alone for a minute: no failure."""
    home = _Home(_claim(failures=3), reads=[answer])

    await home.call()

    assert home.outcomes == [PushOutcome(number=1, failures=3, wait_until_ms=NOW_MS + IDLE_MS)]


async def _for_ever() -> Sent:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets the event")


async def _broken() -> Sent:
    raise LookupError("a bug")


@pytest.mark.parametrize(
    ("send", "reads", "reason"),
    [
        (_for_ever, [_page(2)], "too slow"),
        (_broken, [_page(2)], "a bug of this server"),
        (None, [Unavailable("the database restarts")], "the database restarts"),
    ],
)
async def test_a_call_that_fails(
    send: Any, reads: list[Any], reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """[PUSHCALL4] A call that is too slow, or fails here, counts as failed and is repeated later; the log says why."""
    monkeypatch.setattr(pushers, "CALL_S", 0.05)
    home = _Home(_claim(failures=1), reads=reads)
    home.send = send or home.send

    await home.call()

    [outcome] = home.outcomes
    assert (outcome.failures, outcome.reached, outcome.gone) == (2, {}, False)
    assert NOW_MS + 15_000 <= outcome.wait_until_ms <= NOW_MS + 18_750
    assert caplog.records[-1].reason == reason  # type: ignore[attr-defined]
    assert "push.example.org/secret" not in caplog.text


async def test_a_service_that_never_answers():
    """[PUSHCALL5] A subscription is deleted after three days of failures in a row."""
    home = _Home(_claim(failures=MOST_FAILURES), reads=[Unavailable("the database restarts")])

    await home.call()

    assert home.outcomes == [PushOutcome(number=1, gone=True)]


async def test_an_outcome_that_cannot_be_stored(caplog: pytest.LogCaptureFixture):
    """[PUSHCALL6] If outcomes cannot be stored, the log says so, and devices are looked for again."""
    home = _Home(_claim(), reads=[_page(2)])
    home.full = True

    await home.call()

    assert home.outcomes == []
    assert caplog.records[-1].message == "the outcome of push messages could not be stored"


async def test_calls_at_a_time():
    """[PUSHCALL7] While the most calls are in progress no further device is claimed."""
    home = _Home(*(_claim(number) for number in range(40)), reads=[_page(2)] * 40)
    home.send = _for_ever

    for _ in range(3):
        await home.pusher.look()

    assert home.limits == [MOST_CALLED]
    assert len(home.claims) == 40 - MOST_CALLED
    await home.pusher.close()


async def test_a_text_that_was_deleted_while_the_device_waited():
    """[DELETED19] What was deleted since it was posted is not sent, and the device's position moves past it."""
    home = _Home(_claim(), reads=[_page(2)])
    home.deleted = {"m"}

    await home.call()

    assert home.results == {}
    assert home.outcomes == [PushOutcome(number=1, reached={GROUP: 2})]
