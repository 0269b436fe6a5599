"""Groups of several devices on a relay in memory: who reads what."""

import io

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbital_relay.e2ee.enrolment import Start
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.content import ContentKind
from orbital_relay.e2ee.formats.envelope import read_envelope
from orbital_relay.e2ee.formats.records import HistoryPolicy
from orbital_relay.e2ee.invite import read_invite
from orbital_relay.e2ee.media import MediaInfo, open_file, read_media_info, seal_file, write_media_info
from orbital_relay.e2ee.member import NewPart
from orbital_relay.e2ee.roster import LoggedRecord
from orbital_relay.e2ee.rows import LogEvent, LogPosition
from orbital_relay.e2ee.safety import matches_scan
from orbital_relay.e2ee.stores.memory import MemoryStore
from orbital_relay.e2ee.texts import from_base64, to_base64, uuid_bytes
from tests.support.e2ee import (
    ADA,
    BEN,
    CLEO,
    FakeRelay,
    codes,
    enter,
    event_of,
    family,
    message,
    reply,
    say,
    texts,
)

THREAD = "11111111-2222-4333-8444-555555555555"
DAY_MS = 86_400_000


class Killed(Exception):
    pass


def invited(text_and_number):
    """Read the invite of a link."""
    invite = read_invite(text_and_number[0])
    assert invite is not None
    return invite


def log_of(relay, group):
    """The frames of a group."""
    return relay.groups[group].log


def keys_of(relay, group):
    """The envelopes of the `new_keys` in a log."""
    posted = [frame["data"]["encrypted_envelope"] for frame in log_of(relay, group) if frame["type"] == "new_keys"]
    return [read_envelope(from_base64(text)) for text in posted]


def requests_of(relay, group):
    """The requests for keys in a log."""
    return [one for one in keys_of(relay, group) if one.request is not None]


async def rest_of_log(relay, group, member):
    """Give a removed member everything, as a server that colludes with it would."""
    for frame in log_of(relay, group)[(await member.group(group)).position.seq :]:
        await member.receive(event_of(frame))


def without_keys(relay, group):
    """The log with its `new_keys` broken."""
    return [
        {**frame, "data": {**frame["data"], "encrypted_envelope": "AgA="}} if frame["type"] == "new_keys" else frame
        for frame in log_of(relay, group)
    ]


async def test_everybody_reads_everybody():
    """[PYDEV1] Every member of a group reads every message, once and in log order."""
    relay, members, group = await family()
    ada, ben, cleo = members
    await say(ada, group, "one")
    await relay.wait_idle(group)
    await say(ben, group, "two")
    await relay.wait_idle(group)
    await say(cleo, group, "three")
    await say(ada, group, "four")
    title = NewPart(field="encrypted_title", kind=ContentKind.TITLE, body=b"title")
    await ada.draft(group, "new_thread", [title, NewPart(field="encrypted_body", kind=ContentKind.BODY, body=b"body")])
    await relay.wait_idle(group)
    for member in members:
        assert await texts(member, group) == ["one", "two", "three", "four", "title|body"]
        assert await codes(member, group) == []
        assert await member.pending(group) == 0
        assert (await member.group(group)).stopped is None
    first = (await ben.items(group))[0]
    assert (first.author, first.device, first.text, first.via) == (ADA, 1, "one", None)
    assert "encrypted_envelope" not in first.fields


async def test_late_joiner():
    """[PYDEV2] A late joiner reads messages from its joining on; earlier ones are no replay, and stay pending."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await say(ada, group, "before")
    await relay.wait_idle(group)
    cleo = await relay.device(CLEO)
    await enter(relay, group, ada, cleo)
    await relay.wait_idle(group)
    await say(ada, group, "after")
    await relay.wait_idle(group)
    assert await texts(cleo, group) == ["[waiting]", "after"]
    assert await codes(cleo, group) == []
    assert await texts(ben, group) == ["before", "after"]


async def test_removal():
    """[PYDEV3] After a removal nothing is encrypted with a chain of the removed device; the other devices read on."""
    relay, (ada, ben, cleo), group = await family()
    await say(ada, group, "all three")
    await relay.wait_idle(group)
    await ada.revoke(group, CLEO, removed=True)
    await ada.flush(group)
    relay.leave(group, CLEO)
    await relay.wait_idle(group)
    await say(ada, group, "without Cleo")
    await relay.wait_idle(group)
    assert await texts(ben, group) == ["all three", "without Cleo"]
    assert (await ada.sender(group)).count == 1
    assert [one.user for one in keys_of(relay, group)[-1].keys.deliveries] == [BEN]
    await rest_of_log(relay, group, cleo)
    assert await texts(cleo, group) == ["all three", "[waiting]"]
    assert (await ada.group(group)).removals == ()


async def test_former_membership():
    """[PYDEV4] A post for a former membership is refused, and encrypted again for the current membership."""
    relay, (ada, ben, cleo), group = await family()
    await say(ada, group, "first")
    await relay.wait_idle(group)

    def leaves(post):
        if post["user"] == ADA and post["type"] == "new_message":
            relay.on_post = lambda _: None
            relay.leave(group, CLEO)

    relay.on_post = leaves
    await say(ada, group, "second")
    await relay.wait_idle(group)
    types = [frame["type"] for frame in log_of(relay, group)]
    assert types[types.index("member_left") :] == ["member_left", "new_keys", "new_message"]
    assert await texts(ben, group) == ["first", "second"]
    await relay.deliver(cleo, group)
    assert await texts(cleo, group) == ["first"]

    def lies(_):
        raise E2eeError("epoch_changed", "an epoch which the log never reaches", epoch=999)

    relay.on_post = lies
    with pytest.raises(E2eeError, match="never reaches"):
        await say(ada, group, "never")
    relay.on_post = lambda _: None
    await relay.wait_idle(group)
    assert await texts(ben, group) == ["first", "second", "never"]


@pytest.mark.parametrize("kind", ["new_keys", "new_message"])
@pytest.mark.parametrize("when", ["on_post", "on_posted"])
async def test_crash(kind, when):
    """[PYDEV5] A crash before or after the server accepts a post loses no draft and sends none twice."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await say(ada, group, "before")
    if kind == "new_keys":
        await ada.renew_keys(group)

    def dies(post):
        if post["user"] == ADA and post["type"] == kind:
            raise Killed

    setattr(relay, when, dies)
    with pytest.raises(Killed):
        await say(ada, group, "during")
    setattr(relay, when, lambda _: None)
    # A new process finds what the store holds, and nothing else.
    store = MemoryStore(relay.store_of(ada).snapshot())
    again = await relay.device(ADA, store=store, publish=False)
    relay.members = [again, ben]
    await say(again, group, "after")
    await relay.wait_idle(group)
    for member in (again, ben):
        assert await texts(member, group) == ["before", "during", "after"]
    assert await again.pending(group) == 0
    assert await codes(again, group) == []


async def test_missing_key():
    """[PYDEV6] After catch-up a missing key is requested, its owner sends it, and the message decrypts in place."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await say(ada, group, "unreadable at first")
    await relay.deliver(ben, group, without_keys(relay, group))
    assert await texts(ben, group) == ["[waiting]"]
    await ben.tick(group)
    ben.caught_up(group)
    for wait, asked in ((0, 0), (2_999, 0), (1, 1), (50_000, 1)):
        relay.now += wait
        await ben.tick(group)
        await ben.flush(group)
        assert len(requests_of(relay, group)) == asked, f"after {wait}"
    await relay.wait_idle(group)
    for member in (ada, ben):
        assert await texts(member, group) == ["unreadable at first"]
    assert await codes(ben, group) == ["unreadable_keys"]


async def test_requests_end():
    """[PYDEV7] Requests end after a day: a message that stays undecryptable is reported as such."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await say(ada, group, "gone")
    await relay.deliver(ben, group, without_keys(relay, group))
    ben.caught_up(group)
    for wait in (0, 3_000, 57_000, 3_540_000, 82_800_000, DAY_MS):
        relay.now += wait
        await ben.tick(group)
    await ben.flush(group)
    assert len(requests_of(relay, group)) == 4
    assert await texts(ben, group) == ["[no_key]"]


async def test_reinstalled():
    """[PYDEV8] A reinstalled device gets a warning, is held, and reads only messages after it is accepted."""
    relay, (ada, _), group = await family([ADA, BEN])
    await say(ada, group, "old")
    await relay.wait_idle(group)
    relay.members.pop()
    again = await relay.device(BEN)
    await again.join(group, invited(await ada.invite(group)), inviter=ADA)
    await relay.wait_idle(group)
    assert sorted(await codes(ada, group)) == ["held_device", "identity_differs"]
    await say(again, group, "from the reinstalled device")
    await say(ada, group, "while held")
    await relay.wait_idle(group)
    assert await texts(again, group) == ["[waiting]", "from the reinstalled device", "[waiting]"]
    assert await texts(ada, group) == ["old", "[waiting]", "while held"]
    held = next(one for one in (await ada.roster(group)).warnings if one.code == "held_device")
    assert held.identity == await again.identity()
    await ada.accept(group, BEN, 1, held.identity)
    assert await texts(ada, group) == ["old", "from the reinstalled device", "while held"]
    await say(ada, group, "after")
    await relay.wait_idle(group)
    assert (await texts(again, group))[1:] == ["from the reinstalled device", "[waiting]", "after"]


async def test_linked():
    """[PYDEV9] A linked device reads messages after its link; a revoked device reads no further message."""
    relay, (ada, ben), group = await family([ADA, BEN])
    tablet = await relay.device(BEN, 2)
    await tablet.enter_linked(group, invited(await ben.invite(group)))
    await relay.wait_idle(group)
    assert len((await ada.roster(group)).devices) == 2
    await ben.link(group, device=2, identity=await tablet.identity(), suites=2)
    await relay.wait_idle(group)
    await say(ada, group, "to both")
    await say(tablet, group, "from the tablet")
    await relay.wait_idle(group)
    for member in (tablet, ben):
        assert await texts(member, group) == ["to both", "from the tablet"]
    await ben.revoke(group, BEN, 2)
    await relay.wait_idle(group)
    await say(ada, group, "to the phone")
    await relay.wait_idle(group)
    assert await texts(tablet, group) == ["to both", "from the tablet", "[waiting]"]
    assert await texts(ben, group) == ["to both", "from the tablet", "to the phone"]


async def test_history():
    """[PYDEV10] History is accepted from the inviter only, and names its sender unless the author signed it."""
    relay, (ada, ben), group = await family([ADA, BEN], HistoryPolicy.ALL)
    await say(ada, group, "by Ada")
    await say(ben, group, "by Ben")
    await relay.wait_idle(group)
    cleo = await relay.device(CLEO)
    await enter(relay, group, ada, cleo)
    await relay.wait_idle(group)
    assert await texts(cleo, group) == ["[waiting]", "[waiting]"]
    assert await ben.share_history(group, CLEO) == 2
    await relay.wait_idle(group)
    assert await texts(cleo, group) == ["[waiting]", "[waiting]"]
    assert await codes(cleo, group) == ["untrusted_history"]
    assert await ada.share_history(group, CLEO) == 2
    await relay.wait_idle(group)
    assert await texts(cleo, group) == ["by Ada", "by Ben"]
    # The giver's own chain carries no proof of an owner; Ben's is signed by Ben.
    assert [item.via for item in await cleo.items(group)] == [ADA, None]
    await ada.set_policy(group, history=HistoryPolicy.NONE, rotation_days=7)
    await relay.wait_idle(group)
    with pytest.raises(E2eeError, match="does not share history"):
        await ada.share_history(group, CLEO)


async def test_history_of_a_device_that_left():
    """[PYDEV30] A device that was shown a chain by somebody else reads nothing that follows its removal."""
    for leaves in ("revoked", "removed"):
        relay, (ada, ben), group = await family([ADA, BEN], HistoryPolicy.ALL)
        await say(ben, group, "before")
        await relay.wait_idle(group)
        cleo = await relay.device(CLEO)
        await enter(relay, group, ada, cleo)
        await relay.wait_idle(group)
        await ada.share_history(group, CLEO)
        await relay.wait_idle(group)
        if leaves == "revoked":
            await ada.revoke(group, CLEO, 0)
        else:
            relay.leave(group, CLEO)
        await relay.wait_idle(group)
        # Ben never gave Cleo the chain himself.
        await say(ben, group, "after")
        await relay.wait_idle(group)
        last = (await cleo.group(group)).position.seq
        for event in relay.groups[group].log[last:]:
            await cleo.receive(event_of(event))
        assert await texts(cleo, group) == ["before", "[waiting]"]
        assert await texts(ada, group) == ["before", "after"]


async def test_history_of_a_verified_user():
    """[PYDEV29] History is accepted from a verified user, too; policy `joined` limits it to chains made since."""
    relay, (ada, ben), group = await family([ADA, BEN], HistoryPolicy.JOINED)
    await say(ada, group, "before")
    await relay.wait_idle(group)
    cleo = await relay.device(CLEO)
    await enter(relay, group, ada, cleo)
    await relay.wait_idle(group)
    assert await ben.share_history(group, CLEO) == 0
    await ada.set_policy(group, history=HistoryPolicy.ALL, rotation_days=7)
    await relay.wait_idle(group)
    await cleo.verify(BEN)
    assert await ben.share_history(group, CLEO) == 1
    await relay.wait_idle(group)
    assert await texts(cleo, group) == ["before"]
    [item] = await cleo.items(group)
    assert (item.author, item.via) == (ADA, None)


async def test_old_copy():
    """[PYDEV11] The log reveals an old copy of a store: a warning, and a new chain before anything is sent."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await say(ada, group, "one")
    await relay.wait_idle(group)
    old = relay.store_of(ada).snapshot()
    await say(ada, group, "two")
    await relay.wait_idle(group)
    restored = await relay.device(ADA, store=MemoryStore(old), publish=False)
    relay.members = [restored, ben]
    await relay.deliver(restored, group)
    assert await codes(restored, group) == ["old_copy"]
    assert (await restored.sender(group)).state == "none"
    await say(restored, group, "three")
    await relay.wait_idle(group)
    assert await texts(ben, group) == ["one", "two", "three"]
    assert await texts(restored, group) == ["one", "[own_lost]", "three"]


async def test_two_chains():
    """[PYDEV12] Two members on one store have a chain each, both read all messages, and one takes over drafts."""
    relay, (ada, ben), group = await family([ADA, BEN])
    second = await relay.device(ADA, store=relay.store_of(ada), chain_name="second", publish=False)
    relay.members = [ada, ben]
    for member, text in ((ada, "first"), (second, "second"), (ada, "first again")):
        await say(member, group, text)
    await relay.wait_idle(group)
    for member in (ben, second):
        assert await texts(member, group) == ["first", "second", "first again"]
    await ada.draft(group, "new_message", message("left behind"))
    await second.adopt_drafts(group)
    await second.flush(group)
    await relay.wait_idle(group)
    assert (await texts(ben, group))[-1] == "left behind"


async def test_rotation():
    """[PYDEV13] A chain is rotated after seven days, after 1,000 messages, and on request of the user."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await say(ada, group, "1")
    first = len(keys_of(relay, group))
    relay.now += 7 * DAY_MS - 1
    await say(ada, group, "2")
    assert len(keys_of(relay, group)) == first
    relay.now += 1
    await say(ada, group, "3")
    assert len(keys_of(relay, group)) == first + 1
    await ada.renew_keys(group)
    await say(ada, group, "4")
    assert len(keys_of(relay, group)) == first + 2
    for _ in range(1000):
        await ada.draft(group, "new_message", message("x"))
    await ada.flush(group)
    assert len(keys_of(relay, group)) == first + 3
    await relay.wait_idle(group)
    read = await texts(ben, group)
    assert len(read) == 1004
    assert not any(text.startswith("[") for text in read)


async def test_new_secret():
    """[PYDEV14] A renewed invite secret reaches every device; a knock with the old secret has no effect."""
    relay, (ada, ben), group = await family([ADA, BEN])
    old = invited(await ada.invite(group))
    await ada.renew_secret(group)
    await relay.wait_idle(group)
    assert await ben.invite(group) == await ada.invite(group)
    assert (await ben.invite(group))[1] == 1
    cleo = await relay.device(CLEO)
    relay.join(group, CLEO)
    await cleo.join(group, old)
    await relay.wait_idle(group)
    assert await ada.strangers(group) == [CLEO]
    late = await relay.device(CLEO, 2)
    relay.members.remove(cleo)
    await enter(relay, group, ben, late)
    await relay.wait_idle(group)
    assert await ada.strangers(group) == []
    # It derives the older secret and folds the same roster.
    assert len((await late.roster(group)).devices) == 3


async def test_swaps():
    """[PYDEV15] Swapped, replayed and re-attributed contents yield warnings, not messages."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await reply(ada, group, THREAD, "right")
    await relay.wait_idle(group)
    assert await texts(ben, group) == ["right"]
    data = log_of(relay, group)[-1]["data"]
    await reply(ada, group, THREAD, "moved")
    moved = log_of(relay, group)[-1]
    moved["data"] = {**moved["data"], "thread_id": THREAD.replace("5", "9")}
    relay.append(group, "new_reply", {**data, "author_id": BEN})
    relay.append(group, "new_reply", data)
    await relay.deliver(ben, group)
    assert await texts(ben, group) == ["right", "[misplaced]", "[wrong_sender]", "[repeated]"]
    assert await codes(ben, group) == ["misplaced", "wrong_sender", "repeated"]


@pytest.mark.parametrize("how", ["same chain", "new chain", "other name"])
async def test_lost_answer(how):
    """[PYDEV16] A draft accepted without a received answer and encrypted again is neither sent twice nor kept."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await say(ada, group, "before")

    def dies(post):
        if post["type"] == "new_message":
            raise Killed

    relay.on_posted = dies
    with pytest.raises(Killed):
        await say(ada, group, "once")
    relay.on_posted = lambda _: None
    sender = ada
    if how == "new chain":
        await ada.renew_keys(group)
    if how == "other name":
        sender = await relay.device(ADA, store=relay.store_of(ada), chain_name="second", publish=False)
        await sender.adopt_drafts(group)
    relay.members = [sender, ben]
    await sender.flush(group)
    await relay.wait_idle(group)
    await say(sender, group, "after")
    await relay.wait_idle(group)
    for member in (sender, ben):
        assert await texts(member, group) == ["before", "once", "after"]
    assert await sender.pending(group) == 0


async def test_a_chain_that_may_have_been_received():
    """[PYDEV17] If the answer is lost, a device that may have received a chain counts as one that has it."""
    relay, (ada, ben, cleo), group = await family()

    def dies(post):
        if post["type"] == "new_keys":
            raise Killed

    relay.on_posted = dies
    with pytest.raises(Killed):
        await say(ada, group, "one")
    relay.on_posted = lambda _: None
    await ada.revoke(group, CLEO)
    relay.leave(group, CLEO)
    relay.members = [ada, ben]
    await relay.wait_idle(group)
    await rest_of_log(relay, group, cleo)
    assert await texts(ben, group) == ["one"]
    assert await texts(cleo, group) == ["[waiting]"]


async def test_unseen():
    """[PYDEV19] A device not seen for 90 days receives no chain; once it is seen again, it receives the chain."""
    relay, (ada, ben, cleo), group = await family()
    await say(ada, group, "all")
    await relay.wait_idle(group)
    unseen = {CLEO}

    def listed(devices):
        long_ago = relay.now - 90 * DAY_MS - 1
        return [msgspec.structs.replace(one, seen_at=long_ago if one.user in unseen else relay.now) for one in devices]

    relay.on_devices = listed
    await ada.check_directory(group)
    await say(ada, group, "without Cleo")
    await relay.wait_idle(group)
    assert await texts(cleo, group) == ["all", "[waiting]"]
    assert await texts(ben, group) == ["all", "without Cleo"]
    unseen.clear()
    await ada.check_directory(group)
    await say(ada, group, "again")
    await relay.wait_idle(group)
    assert await texts(cleo, group) == ["all", "[waiting]", "again"]
    assert await codes(ada, group) == []


async def test_title_of_another_thread():
    """[PYDEV20] A title over the body of another thread is misplaced, even if both have the same author."""
    relay, (ada, ben), group = await family([ADA, BEN])

    async def thread(title, body):
        parts = [
            NewPart(field="encrypted_title", kind=ContentKind.TITLE, body=title),
            NewPart(field="encrypted_body", kind=ContentKind.BODY, body=body),
        ]
        await ada.draft(group, "new_thread", parts)
        await ada.flush(group)
        return log_of(relay, group)[-1]

    one, two, kind = await thread(b"a", b"b"), await thread(b"c", b"d"), await thread(b"e", b"f")
    titles = one["data"]["encrypted_title"], two["data"]["encrypted_title"]
    one["data"], two["data"] = (
        {**one["data"], "encrypted_title": titles[1]},
        {**two["data"], "encrypted_title": titles[0]},
    )
    data = kind["data"]
    kind["data"] = {**data, "encrypted_title": data["encrypted_body"], "encrypted_body": data["encrypted_title"]}
    await relay.wait_idle(group)
    assert await texts(ben, group) == ["[misplaced]"] * 3


async def test_files():
    """[PYDEV21] A file's key is in the content of its event, and decrypts only that file."""
    relay, (ada, ben), group = await family([ADA, BEN])
    media, sealed = "22222222-2222-4333-8444-555555555555", io.BytesIO()
    key, digest = seal_file(media, io.BytesIO(b"a photo"), sealed)
    body = write_media_info(MediaInfo(key=key, sha256=digest, type="image/png", name="sea.png"))
    part = NewPart(field="encrypted_metadata", kind=ContentKind.MEDIA, context=uuid_bytes(media), body=body)
    await ada.draft(group, "media_uploaded", [part], {"media_id": media})
    await ada.flush(group)
    data = log_of(relay, group)[-1]["data"]
    relay.append(group, "media_uploaded", {**data, "media_id": media.replace("5", "6")})
    await relay.wait_idle(group)
    item, moved = await ben.items(group)
    opened = io.BytesIO()
    sealed.seek(0)
    open_file(item.fields["media_id"], read_media_info(item.parts[0].body), sealed, opened)
    assert opened.getvalue() == b"a photo"
    assert moved.status == "repeated"


async def test_own_events():
    """[PYDEV23] A replayed own message, and one that differs from what was sent, are not shown as messages."""
    relay, (ada, _), group = await family([ADA, BEN])
    await say(ada, group, "once")
    await relay.deliver(ada, group)
    relay.append(group, "new_message", log_of(relay, group)[-1]["data"])
    await say(ada, group, "changed")
    last = log_of(relay, group)[-1]
    data = bytearray(from_base64(last["data"]["encrypted_envelope"]))
    data[200] ^= 1
    last["data"] = {**last["data"], "encrypted_envelope": to_base64(bytes(data))}
    await relay.deliver(ada, group)
    assert await texts(ada, group) == ["once", "[repeated]", "[own_lost]"]
    ada.caught_up(group)
    await ada.tick(group)
    assert await codes(ada, group) == ["repeated", "withheld_post"]


async def test_another_device_answers():
    """[PYDEV24] Another device of the owner answers after 10 s, unless the owner's device did; four times at most."""
    relay, (ada, ben), group = await family([ADA, BEN])
    tablet = await relay.device(ADA, 2)
    await tablet.enter_linked(group, invited(await ada.invite(group)))
    await ada.link(group, device=2, identity=await tablet.identity(), suites=2)
    await relay.wait_idle(group)
    await say(ada, group, "by the phone")
    await relay.wait_idle(group, [ada, tablet])
    await relay.deliver(ben, group, without_keys(relay, group))
    ben.caught_up(group)
    await ben.tick(group)
    relay.now += 3_000
    await ben.tick(group)
    await ben.flush(group)
    await ben.verify(ADA)
    await relay.wait_idle(group, [tablet])
    assert await texts(ben, group) == ["[waiting]"]
    relay.now += 10_000
    await relay.wait_idle(group, [tablet, ben])
    assert await texts(ben, group) == ["by the phone"]
    before = len(keys_of(relay, group))
    asked = next(frame for frame in reversed(log_of(relay, group)) if _asks(frame))
    for _ in range(6):
        relay.append(group, "new_keys", asked["data"])
    await relay.wait_idle(group, [ada])
    assert len(keys_of(relay, group)) - before == 6 + 4


def _asks(frame):
    return frame["type"] == "new_keys" and read_envelope(from_base64(frame["data"]["encrypted_envelope"])).request


async def test_start_in_the_middle():
    """[PYDEV25] A device that starts in the middle of a log reads from there, with the earlier records."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await say(ada, group, "before")
    await relay.wait_idle(group)
    log = log_of(relay, group)
    records = [
        LoggedRecord(frame["seq"], frame["data"]["author_id"], from_base64(frame["data"]["record"]))
        for frame in log
        if frame["type"] == "new_record"
    ]
    start = Start(
        position=LogPosition(log[-1]["seq"], log[-1]["hash"]),
        epoch=relay.groups[group].epoch,
        members=[ADA, BEN],
        records=records,
    )
    cleo = await relay.device(CLEO)
    await cleo.join(group, invited(await ada.invite(group)), inviter=ADA, start=start)
    with pytest.raises(E2eeError, match="known here already"):
        await cleo.join(group, invited(await ada.invite(group)))
    relay.join(group, CLEO)
    await relay.wait_idle(group)
    await say(ben, group, "after")
    await relay.wait_idle(group)
    assert await texts(cleo, group) == ["after"]
    assert [one.user for one in (await cleo.roster(group)).devices] == [ADA, BEN, CLEO]


async def test_safety_number():
    """[PYDEV26] Two members see the same safety number and accept each other's scan; a new device changes it."""
    relay, (ada, ben), group = await family([ADA, BEN])
    mine, theirs = await ada.safety_number(group, BEN), await ben.safety_number(group, ADA)
    assert mine.digits == theirs.digits
    assert matches_scan(mine.scannable, theirs.scannable)
    tablet = await relay.device(BEN, 2)
    await ben.link(group, device=2, identity=await tablet.identity(), suites=2)
    await relay.wait_idle(group, [ada, ben])
    assert (await ada.safety_number(group, BEN)).digits != mine.digits
    with pytest.raises(ValueError, match="no device"):
        await ada.safety_number(group, CLEO)


async def test_inbox():
    """[PYDEV27] Items of others are listed as unhandled, in log order, until the program has handled them."""
    relay, (ada, ben), group = await family([ADA, BEN])
    reader = await relay.device(BEN, store=relay.store_of(ben), inbox=True, publish=False)
    relay.members = [ada, reader]
    for text in ("one", "two"):
        await say(ada, group, text)
    await say(reader, group, "own")
    await relay.wait_idle(group)
    assert [item.text for item in await reader.unhandled(group)] == ["one", "two"]
    await reader.handled((await reader.unhandled(group))[0])
    again = await relay.device(BEN, store=relay.store_of(ben), inbox=True, publish=False)
    assert [item.text for item in await again.unhandled(group, limit=5)] == ["two"]


async def test_unknown_group():
    """[PYDEV28] The error names an unknown group, or a gap in the log."""
    relay, (ada, _), group = await family([ADA, BEN])
    event = event_of(log_of(relay, group)[-1])
    with pytest.raises(E2eeError) as caught:
        await ada.receive(msgspec.structs.replace(event, seq=event.seq + 2))
    assert (caught.value.code, caught.value.details) == ("out_of_order", {"expected": event.seq + 1})
    for call in (ada.flush(CLEO), ada.draft(CLEO, "new_message", message("x")), ada.invite(CLEO), ada.group(CLEO)):
        with pytest.raises(E2eeError, match=f"group {CLEO} is unknown here"):
            await call
    with pytest.raises(ValueError, match="not a lower-case UUID"):
        await ada.found("nonsense")
    with pytest.raises(ValueError, match="needs an encrypted field"):
        await ada.draft(group, "new_message", [])


NAMES = ["user_id", "device_id", "change", "identity_key", "author_id", "sender_id", "record", "thread_id", "media_id"]
FIELDS = ["encrypted_envelope", "encrypted_title", "encrypted_body", "encrypted_metadata"]
TYPES = ["member_joined", "member_left", "identity_changed", "new_record", "new_keys", "new_message", "new_thread"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


async def test_hostile_events():
    """[PYDEV22] Fuzzed: after any value in an event the log continues, and no such value is shown as a message."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await say(ada, group, "true")
    await relay.wait_idle(group)
    said = log_of(relay, group)[-1]["data"]["encrypted_envelope"]
    keys = next(f for f in reversed(log_of(relay, group)) if f["type"] == "new_keys")["data"]["encrypted_envelope"]
    snapshot, position = relay.store_of(ben).snapshot(), (await ben.group(group)).position
    values = st.one_of(
        json_values,
        st.binary(max_size=60).map(lambda data: to_base64(b"\2" + data)),
        st.sampled_from([ADA, BEN, group, said, keys, "", 1, "\ud800"]),
    )
    events = st.lists(
        st.tuples(
            st.sampled_from([*TYPES, "new_reply", "media_uploaded", "new_annotation", "deleted"]),
            st.dictionaries(st.sampled_from(NAMES + FIELDS), values),
        ),
        min_size=1,
        max_size=6,
    )
    received = []

    @settings(max_examples=150, deadline=None)
    @given(some=events)
    def collect(some):
        received.append(some)

    collect()
    for some in received:
        victim = await FakeRelay().device(BEN, store=MemoryStore(snapshot), publish=False)
        for at, (kind, data) in enumerate(some, 1):
            event = LogEvent.of(group_id=group, seq=position.seq + at, type=kind, data=data, hash=position.hash)
            assert (await victim.receive(event)).processed, (kind, data)
        shown = [text for text in await texts(victim, group) if not text.startswith("[")]
        assert shown == ["true"]
