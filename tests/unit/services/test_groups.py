"""Groups: codes, joining, leaving."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay import wire
from orbital_relay.api.groups import GroupBody, JoinBody
from orbital_relay.errors import Conflict, NotFound, PayloadTooLarge, ValidationFailed
from orbital_relay.model import CreateGroup, GroupId, IdempotencyKey, JoinGroup, LeaveGroup, UserId
from orbital_relay.services import groups
from orbital_relay.services.groups import read_code
from tests.unit.services.desk import ADA, ANSWER, GROUP, NOW_MS, Desk

_HALF_A_DAY_MS = 43_200_000


@given(
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=8, max_size=8), st.lists(st.integers(0, 12), max_size=5)
)
def test_spelling_of_a_code_is_ignored(code: str, gaps: list[int]):
    """[JOIN1] Case, spaces and hyphens in an invite code are ignored."""
    typed = code.lower()
    for index, place in enumerate(gaps):
        typed = typed[:place] + " -"[index % 2] + typed[place:]

    assert read_code(typed) == code


@pytest.mark.parametrize(
    "text", ["", "ABCD123", "ABCD12345", "ABCD123é", "ABCD123!", "ßBCD1234", "ABCDEF1\n", "ＡBCD1234"]
)
def test_a_malformed_code_is_unknown(text: str):
    """[JOIN1] A text that cannot be a code gets the same answer as an unknown code."""
    with pytest.raises(NotFound):
        read_code(text)


def test_codes_use_all_letters_and_digits():
    """[JOIN2] A code has 8 of A-Z and 0-9; among 2,000 codes every character occurs at every position."""
    codes = [groups.new_code() for _ in range(2000)]

    assert all(re.fullmatch(r"[A-Z0-9]{8}", code) for code in codes)
    # 36 characters, 2,000 draws: the chance that one of 288 is missing is below 10^-21.
    assert {len({code[place] for code in codes}) for place in range(8)} == {36}


async def test_a_new_group_has_a_code_and_an_expiry():
    """[USE2] The draft has the user, time, content and a code that expires after the configured time."""
    desk, idempotency_key = Desk(), IdempotencyKey("key", b"")

    answer = await groups.create(desk.context, ADA, GroupBody("AAAA", "BBBB"), idempotency_key=idempotency_key)

    (draft,) = desk.drafts
    assert isinstance(draft, CreateGroup)
    assert answer == ANSWER
    assert (draft.actor, draft.at_ms, draft.idempotency_key) == (ADA, NOW_MS, idempotency_key)
    assert (draft.encrypted_name, draft.encrypted_group_key) == ("AAAA", "BBBB")
    assert draft.invite_expires_ms == NOW_MS + _HALF_A_DAY_MS
    assert wire.is_uuid(draft.group_id)


async def test_a_code_in_use_is_replaced():
    """[JOIN2] If the drawn code is in use, another one is drawn."""
    desk = Desk(lambda _draft: ANSWER if len(desk.drafts) == 3 else Conflict("in use"))

    answer = await groups.create(desk.context, ADA, GroupBody("AAAA", "BBBB"))

    assert answer == ANSWER
    assert len({draft.invite_code for draft in desk.drafts}) == 3


async def test_a_key_conflict_is_returned():
    """[ONCE4] A key that was used for another body gets a conflict, however often a code is drawn."""
    desk = Desk(lambda _draft: Conflict("other body"))

    with pytest.raises(Conflict, match="other body"):
        await groups.create(desk.context, ADA, GroupBody("AAAA", "BBBB"), idempotency_key=IdempotencyKey("key", b""))


async def test_joining_and_leaving_become_drafts():
    """[USE2] The drafts have the user, the time and the content."""
    desk, idempotency_key = Desk(), IdempotencyKey("key", b"")

    await groups.join(desk.context, ADA, JoinBody("abcd-1234", "AAAA"), idempotency_key=idempotency_key)
    await groups.remove(desk.context, ADA, GroupId(GROUP), UserId("bob"))

    assert desk.drafts == [
        JoinGroup(
            actor=ADA, at_ms=NOW_MS, idempotency_key=idempotency_key, invite_code="ABCD1234", encrypted_group_key="AAAA"
        ),
        LeaveGroup(actor=ADA, at_ms=NOW_MS, group_id=GroupId(GROUP), user_id=UserId("bob")),
    ]


@pytest.mark.parametrize(
    ("body", "error", "field"),
    [
        (GroupBody("", "AAAA"), ValidationFailed, "encrypted_name"),
        (GroupBody("AAAA" * 11, "AAAA"), PayloadTooLarge, "encrypted_name"),
        (GroupBody("AAAA", "my key"), ValidationFailed, "encrypted_group_key"),
        (GroupBody("AAAA", "AAAA" * 11), PayloadTooLarge, "encrypted_group_key"),
        (JoinBody("ABCD1234", "my key"), ValidationFailed, "encrypted_group_key"),
        (JoinBody("ABCD1234", "AAAA" * 11), PayloadTooLarge, "encrypted_group_key"),
    ],
)
async def test_invalid_input_queues_nothing(body: Any, error: Any, field: str):
    """[USE2] Invalid input is refused, and nothing is queued."""
    desk = Desk()

    act: Any = groups.create if isinstance(body, GroupBody) else groups.join
    with pytest.raises(error) as refused:
        await act(desk.context, ADA, body)

    assert refused.value.details["field"] == field
    assert desk.drafts == []


class _Codes:
    """A store in which the first few codes that are tried are in use."""

    def __init__(self, *, in_use: int) -> None:
        self.in_use, self.tried = in_use, []

    async def replace_code(
        self, user: int, group_id: GroupId, *, invite_code: str, expires_ms: int, single_use: bool
    ) -> None:
        assert not single_use
        self.tried.append((user, group_id, invite_code, expires_ms))
        if len(self.tried) <= self.in_use:
            raise Conflict("in use")


async def test_replacing_a_code_retries_until_one_is_free():
    """[JOIN2] The answer has the code that was free, with its expiry."""
    codes = _Codes(in_use=2)

    made = await groups.replace_code(Desk(store=codes).context, ADA, GroupId(GROUP))

    expires_ms = NOW_MS + _HALF_A_DAY_MS
    assert codes.tried[-1] == (ADA.key, GROUP, made.invite_code, expires_ms)
    assert made.expires_at == wire.iso(expires_ms)
    assert len({code for _, _, code, _ in codes.tried}) == 3


async def test_replacing_a_code_has_a_bounded_number_of_tries():
    """[JOIN2] If the store refuses every code, only a few are tried."""
    codes = _Codes(in_use=100)

    with pytest.raises(Conflict):
        await groups.replace_code(Desk(store=codes).context, ADA, GroupId(GROUP))

    assert len(codes.tried) == 4
