"""The two machines as tables: complete, closed, and drawn in the documents."""

from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbital_relay.e2ee import receiver, sender, words
from orbital_relay.e2ee.receiver import (
    RECEIVER,
    REQUEST_MS,
    Pin,
    on_content,
    on_history,
    on_keys,
    on_keys_of_nobody,
    on_request,
    receiver_row,
    request_due,
)
from orbital_relay.e2ee.sender import (
    MAX_MESSAGES,
    SENDER,
    Given,
    SenderFacts,
    SenderView,
    ViewDevice,
    missing_devices,
    next_input,
    sender_row,
)
from tests.docs.encryption import drawn
from tests.support.programs import CHECKOUT

DAY_MS = 86_400_000
ADA, BEN = ViewDevice("ada", 1, "05aa", 2), ViewDevice("ben", 1, "05bb", 2)
OTHER_BEN = ViewDevice("ben", 1, "05cc", 2)


def given_of(device, *, maybe=False):
    """A device that was given the chain."""
    return Given(user=device.user, device=device.device, identity=device.identity, maybe=maybe)


def view(*devices, epoch=5, days=7):
    """What the log says."""
    return SenderView(epoch=epoch, devices=devices, rotation_days=days)


def facts(**more):
    """What the device has stored."""
    known = {"state": "ready", "epoch": 5, "count": 0, "made_at": 0, "drafts": True}
    return SenderFacts(**{**known, "given": [given_of(ADA), given_of(BEN)], **more})


MACHINES = [
    (SENDER, sender.SenderState, sender.SenderInput, sender.SenderAct),
    (RECEIVER, receiver.ReceiverState, receiver.ReceiverInput, receiver.ReceiverAct),
]
WORDS = [
    (words.SENDER_STATES, words.SENDER_INPUTS, words.SENDER_ACTS),
    (words.RECEIVER_STATES, words.RECEIVER_INPUTS, words.RECEIVER_ACTS),
]


@pytest.mark.parametrize(("machine", "described"), list(zip(MACHINES, WORDS, strict=True)), ids=["sender", "receiver"])
def test_tables(machine, described):
    """[PYSND1] Each pair of state and input has one row at most; every state, input and act is used and described."""
    rows, *types = machine
    assert len({(row.state, row.on) for row in rows}) == len(rows)
    for kind, names, used in zip(types, described, ("state", "on", "does"), strict=True):
        assert set(get_args(kind)) == set(names) == {getattr(row, used) for row in rows}


some_device = st.sampled_from([ADA, BEN, OTHER_BEN])
some_facts = st.builds(
    SenderFacts,
    state=st.sampled_from(["none", "made", "giving", "ready"]),
    epoch=st.integers(0, 9),
    count=st.integers(0, 1200),
    made_at=st.integers(0, 9 * DAY_MS),
    given=st.lists(st.builds(given_of, some_device, maybe=st.booleans()), max_size=3),
    drafts=st.booleans(),
)
some_view = st.builds(
    SenderView,
    epoch=st.integers(0, 9),
    devices=st.lists(some_device, unique=True, max_size=3),
    rotation_days=st.integers(1, 30),
)


@settings(max_examples=600, deadline=None)
@given(start=some_facts, seen=some_view, now=st.integers(0, 20 * DAY_MS))
def test_the_machine_becomes_idle(start, seen, now):
    """[PYSND2] Fuzzed: the next input always has a row, and without new facts the machine becomes idle."""
    change = msgspec.structs.replace
    state = change(start, given=[]) if start.state == "none" else start
    for _ in range(40):
        on = next_input(state, seen, now)
        if on is None:
            return
        row = sender_row(state.state, on)
        match row.does:
            case "seal":
                return
            case "make":
                state = change(state, given=[], count=0, made_at=now, epoch=seen.epoch, state=row.to)
            case "drop":
                state = change(state, given=[], state=row.to)
            case "give" | "repost":
                accepted = sender_row(row.to, "accepted").to
                state = change(state, given=[given_of(one) for one in seen.devices], state=accepted, epoch=seen.epoch)
            case _:
                state = change(state, epoch=seen.epoch, state=row.to)
    pytest.fail("the machine does not come to rest")


def test_order():
    """[PYSND3] Keys are sent before content; a lost device or a due rotation is handled before both."""
    some = [given_of(ADA)]
    maybe = [given_of(ADA), given_of(BEN, maybe=True)]
    assert next_input(facts(state="none", given=[]), view(ADA), 0) == "draft"
    assert next_input(facts(state="none", given=[], drafts=False), view(ADA), 0) is None
    assert next_input(facts(given=some), view(ADA, BEN), 0) == "missing"
    assert next_input(facts(given=some), view(ADA, BEN, epoch=6), 0) == "moved"
    assert next_input(facts(), view(ADA, BEN), 0) == "draft"
    assert next_input(facts(drafts=False), view(ADA, BEN, ViewDevice("ben", 2, "05bb", 2), epoch=6), 0) is None
    assert next_input(facts(drafts=False), view(ADA, epoch=6), 0) == "lost"
    assert next_input(facts(), view(ADA, OTHER_BEN), 0) == "lost"
    assert next_input(facts(given=maybe), view(ADA, BEN), 0) == "missing"
    assert next_input(facts(given=maybe), view(ADA), 0) == "lost"
    assert next_input(facts(state="made", given=[]), view(), 0) == "complete"
    assert next_input(facts(state="giving", given=[]), view(ADA), 0) == "pending"
    assert next_input(facts(state="giving", given=[]), view(ADA, epoch=6), 0) == "moved"
    assert missing_devices(view(ADA, OTHER_BEN), [given_of(ADA), given_of(BEN)]) == [OTHER_BEN]


def test_rotation():
    """[PYSND4] A chain ends after 1,000 messages or after the days that the policy sets."""
    assert MAX_MESSAGES == 1000
    assert next_input(facts(count=999), view(ADA, BEN), 7 * DAY_MS - 1) == "draft"
    assert next_input(facts(count=1000), view(ADA, BEN), 0) == "rotate"
    assert next_input(facts(), view(ADA, BEN), 7 * DAY_MS) == "rotate"
    assert next_input(facts(state="giving"), view(ADA, BEN), 7 * DAY_MS) == "rotate"
    assert next_input(facts(), view(ADA, BEN, days=1), DAY_MS) == "rotate"
    with pytest.raises(AssertionError, match="no row for accepted in none"):
        sender_row("none", "accepted")


def does(row):
    """What a row says."""
    return row.does, row.warning


def test_contents():
    """[PYRCV1] Content is checked against the pinned identity before anything is decrypted."""
    pin = Pin(group="g", user="ada", device=1, first=10, last=20)

    def judged(pinned=pin, author="ada", group="g", iteration=20):
        return does(on_content(pinned, author=author, group=group, iteration=iteration))

    assert judged(None) == ("wait", None)
    assert judged() == judged(iteration=10) == judged(iteration=2020) == ("read", None)
    assert judged(iteration=9) == ("wait", None)
    assert judged(author="ben") == ("warn", "wrong_sender")
    assert judged(group="h", author="ben") == ("warn", "misplaced")
    assert judged(iteration=2021) == ("warn", "too_far_ahead")


def test_keys():
    """[PYRCV2] A distribution belongs to the first device that sent it; only devices of the roster may request it."""
    pin = Pin(group="g", user="ada", device=1)
    assert does(on_keys(None, user="ada", device=1, group="g")) == ("pin", None)
    assert does(on_keys(pin, user="ada", device=1, group="g")) == ("ignore", None)
    for thief in ({"user": "ben"}, {"device": 2}, {"group": "h"}):
        stolen = on_keys(pin, **{"user": "ada", "device": 1, "group": "g", **thief})
        assert does(stolen) == ("warn", "stolen_distribution")
    asker = {"in_roster": True, "given": False, "since": 5, "made_epoch": 4}
    assert does(on_request(**{**asker, "in_roster": False, "given": True})) == ("warn", "foreign_request")
    assert does(on_request(**asker)) == ("ignore", None)
    assert does(on_request(**{**asker, "given": True})) == ("answer", None)
    assert does(on_request(**{**asker, "since": 4})) == ("answer", None)
    for known in (False, True):
        assert does(on_history(known=known, trusted=True)) == ("read_past", None)
        assert does(on_history(known=known, trusted=False)) == ("warn", "untrusted_history")
        held = pin if known else None
        assert does(on_keys_of_nobody(held, known_device=False)) == ("hold", "unknown_device")
        assert does(on_keys_of_nobody(held, known_device=True)) == ("hold", "identity_differs")
    with pytest.raises(AssertionError, match="no row for duplicate in unknown"):
        receiver_row("unknown", "duplicate")


def test_requests():
    """[PYRCV3] A missing key is requested after 3 seconds, a minute, an hour and a day, and then no more."""
    assert REQUEST_MS == (3_000, 60_000, 3_600_000, 86_400_000)
    assert [request_due(asked, 100) for asked in range(5)] == [3_100, 60_100, 3_600_100, 86_400_100, None]


def test_documents():
    """[PYSND5] The documentation shows the machines and the fields as the code defines them."""
    page = (CHECKOUT / "docs" / "reference" / "encryption.md").read_text("utf-8")
    for name, table in drawn().items():
        assert table in page, f"{name} differs from docs/reference/encryption.md"
