"""Linking a device by a code: what is handed over, and that a lie, a mistake or a kill leaves nothing half done."""

from typing import get_args

import msgspec
import pytest

from orbital_relay.client import ApiError, Unreachable
from orbital_relay.e2ee import link_machine, linking
from orbital_relay.e2ee.crypto.curve import SigningKey
from orbital_relay.e2ee.crypto.mac import sha256
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.link import MAX_LINK_GROUPS, LinkBody, LinkGroup, read_link_code, seal_link
from orbital_relay.e2ee.handover import handed_over
from orbital_relay.e2ee.linking import CODE_MS, DeviceLink
from orbital_relay.e2ee.mailboxes import SdkMailboxes
from orbital_relay.e2ee.rows import GROUPS, MARKS, ROSTERS, SECRETS
from orbital_relay.e2ee.state import secret_key
from orbital_relay.e2ee.texts import from_base64, to_base64url
from orbital_relay.e2ee.unit import Unit
from tests.support.e2ee import ADA, BEN, GROUP, FakeRelay, codes, new_family, say, texts


class FakeMailboxes:
    """Mailboxes in memory; a test replaces `put_hook` and `read_hook` to lie or to fail."""

    def __init__(self):
        self.boxes = {}
        self.names = 0
        self.reads = 0
        self.size = 16
        self.put_hook = lambda message: None
        self.read_hook = lambda found: found

    async def open(self):
        self.names += 1
        name = bytes([self.names]) * self.size
        self.boxes[to_base64url(name)] = None
        return name

    async def put(self, name, message):
        self.put_hook(message)
        if name not in self.boxes:
            raise E2eeError("not_found", "no such mailbox")
        if self.boxes[name] not in {None, message}:
            raise E2eeError("conflict", "another message is in it")
        self.boxes[name] = message

    async def read(self, name):
        self.reads += 1
        if name not in self.boxes:
            raise E2eeError("not_found", "no such mailbox")
        return self.read_hook(self.boxes[name])


class Household:
    """Ada with a phone in groups with Ben, and her new tablet."""

    def __init__(self, relay, phone, ben, tablet, groups):
        self.relay, self.phone, self.ben, self.tablet, self.groups = relay, phone, ben, tablet, groups
        self.mailboxes = FakeMailboxes()
        self.older, self.newer = DeviceLink(phone, self.mailboxes), DeviceLink(tablet, self.mailboxes)

    async def wait_all(self):
        """Deliver and flush everything."""
        for group in self.groups:
            await self.relay.wait_idle(group, [self.phone, self.ben, self.tablet])

    async def rows(self, member):
        """What linking has stored at a device."""

        def work(unit):
            return [unit.get(linking.OFFERS, linking.OFFER), unit.get(linking.ADMISSIONS, linking.ADMISSION)]

        return sum(row is not None for row in await member.context.transact(work))

    async def known(self, member):
        """Groups of a device."""
        return [group for group, _ in await member.context.transact(lambda unit: unit.scan(GROUPS))]

    async def devices(self, member, group):
        """The roster at a device."""
        return sorted((one.user, one.device) for one in (await member.roster(group)).devices)

    async def wait_older(self):
        """Deliver and flush at the older device and the others."""
        await self.relay.wait_idle(self.groups[0], [self.phone, self.ben])

    def records(self, group):
        """Records of a kind `link` in a log."""
        log = self.relay.groups[group].log
        return [one for one in log if one["type"] == "new_record" and from_base64(one["data"]["record"])[0] == 0x1A]


BEFORE = [(ADA, 1), (BEN, 1)]
AFTER = [(ADA, 1), (ADA, 2), (BEN, 1)]


async def household(count=1):
    """Make it."""
    relay = FakeRelay()
    phone, ben = await relay.device(ADA), await relay.device(BEN)
    groups = [await new_family(relay, [phone, ben]) for _ in range(count)]
    tablet = await relay.device(ADA, 2)
    for group in groups:
        await relay.wait_idle(group, [phone, ben])
    return Household(relay, phone, ben, tablet, groups)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """A mailbox in memory needs no pause between two looks."""
    monkeypatch.setattr(linking, "LOOK_S", 0.0)


async def test_linked():
    """[PYLINK1] A code hands over every group; once the number was compared, all devices read each other."""
    home = await household(2)
    await home.phone.verify(BEN)
    await home.phone.verify(ADA)
    offer = await home.newer.offer()
    assert offer.until == home.relay.now + CODE_MS
    seen = await home.older.inspect(f" {offer.code.text[:80]}\n{offer.code.text[80:]} ")
    assert (seen.device, seen.identity) == (2, await home.tablet.identity())
    assert sorted(seen.groups) == sorted(home.groups)

    sent, received = await home.older.admit(offer.code.text), await home.newer.receive()
    assert sent.number == received.number
    assert len(sent.number) == 6
    assert await home.known(home.tablet) == []
    assert sorted(await home.newer.accept()) == sorted(home.groups)

    await home.wait_all()
    for group in home.groups:
        for one in (home.phone, home.ben, home.tablet):
            assert await home.devices(one, group) == AFTER
        await say(home.tablet, group, "from the tablet")
        await home.wait_all()
        await say(home.ben, group, "to both")
        await home.wait_all()
        for one in (home.phone, home.ben, home.tablet):
            assert await texts(one, group) == ["from the tablet", "to both"]
            assert await codes(one, group) == []
    verified = await home.tablet.context.transact(lambda unit: unit.scan(MARKS, "verified/"))
    assert [key for key, _ in verified] == [f"verified/{BEN}"]
    assert (await home.rows(home.phone), await home.rows(home.tablet)) == (0, 0)


async def test_wrong_codes():
    """[PYLINK2] A code with a wrong letter, of another length, version, account or number is refused unsent."""
    home = await household()

    def never(message):
        raise AssertionError("nothing is put into a mailbox")

    home.mailboxes.put_hook = never
    code = (await home.newer.offer()).code
    text = code.text
    for at in range(0, len(text), 13):
        wrong = text[:at] + ("B" if text[at] == "A" else "A") + text[at + 1 :]
        with pytest.raises(E2eeError, match="letter of the code is wrong"):
            await home.older.admit(wrong)
    for wrong in ("", text[1:], f"{text}A", f"%{text[1:]}"):
        with pytest.raises(E2eeError, match="160 letters"):
            await home.older.inspect(wrong)

    def coded(**more):
        return msgspec.structs.replace(code, **more).text

    future = bytes([2]) + code.encoded[1:116]
    phone = await home.phone.identity()
    for wrong, sentence in (
        (coded(user=BEN), "another account"),
        (coded(device=1), "which is this one"),
        (coded(identity=phone), "which is this one"),
        (coded(device=0), "device 0"),
        (coded(device=128), "device 128"),
        (coded(identity=b"\x05" + bytes(32)), "low order"),
        (to_base64url(future + sha256(future)[:4]), "version 2"),
    ):
        with pytest.raises(E2eeError, match=sentence):
            await home.older.admit(wrong)

    await home.phone.link(home.groups[0], device=2, identity=SigningKey.generate().public_key, suites=2)
    await home.relay.wait_idle(home.groups[0], [home.phone, home.ben])
    with pytest.raises(E2eeError, match="device 2 of yours is another one"):
        await home.older.admit(text)
    await home.phone.revoke(home.groups[0], ADA, 2)
    await home.phone.link(home.groups[0], device=3, identity=code.identity, suites=2)
    await home.phone.revoke(home.groups[0], ADA, 3)
    await home.relay.wait_idle(home.groups[0], [home.phone, home.ben])
    with pytest.raises(E2eeError, match="was revoked"):
        await home.older.admit(text)
    assert await home.rows(home.phone) == 0


async def test_directory():
    """[PYLINK3] A device that the directory does not list, or lists with another identity, is not linked."""
    home = await household()
    text = (await home.newer.offer()).code.text
    other = SigningKey.generate().public_key
    home.relay.on_devices = lambda listed: [
        msgspec.structs.replace(one, identity=other) if one.device == 2 else one for one in listed
    ]
    with pytest.raises(E2eeError, match="another identity") as caught:
        await home.older.admit(text)
    assert caught.value.code == "bad_key"
    home.relay.on_devices = lambda listed: [one for one in listed if one.device != 2]
    with pytest.raises(E2eeError, match="log in on the new device first"):
        await home.older.admit(text)
    assert await home.devices(home.phone, home.groups[0]) == BEFORE
    assert await home.rows(home.phone) == 0


async def test_once():
    """[PYLINK4] A code serves once: read again, or after ten minutes, it links nothing."""
    home = await household()
    text = (await home.newer.offer()).code.text
    await home.older.admit(text)
    await home.newer.receive()
    await home.newer.accept()
    length = len(home.relay.groups[home.groups[0]].log)
    with pytest.raises(E2eeError, match="used before, and nothing was linked"):
        await home.older.admit(text)
    assert len(home.relay.groups[home.groups[0]].log) == length
    for again in (home.newer.receive, home.newer.accept):
        with pytest.raises(E2eeError) as caught:
            await again()
        assert caught.value.code == "not_found"

    late = DeviceLink(await home.relay.device(ADA, 3), home.mailboxes)
    second = await late.offer()
    home.relay.now += CODE_MS
    home.mailboxes.boxes.clear()
    with pytest.raises(E2eeError, match="expired, and nothing was linked"):
        await home.older.admit(second.code.text)
    assert (await late.offer()).code != second.code
    home.mailboxes.boxes.clear()
    with pytest.raises(E2eeError, match="expired: show a new one"):
        await late.receive()
    with pytest.raises(E2eeError, match="no code is shown"):
        await late.receive()


LIES = {
    "changed": lambda sealed, first: sealed[:40] + bytes([sealed[40] ^ 1]) + sealed[41:],
    "cut": lambda sealed, first: sealed[:-1],
    "short": lambda sealed, first: sealed[:40],
    "empty": lambda sealed, first: b"",
    "version": lambda sealed, first: b"\x02" + sealed[1:],
    "low order": lambda sealed, first: sealed[:1] + bytes(32) + sealed[33:],
    "replayed": lambda sealed, first: first,
}


async def test_lies():
    """[PYLINK5] A server that changes, replaces, replays or withholds the message enters nothing; the code expires."""
    home = await household()
    await home.older.admit((await home.newer.offer()).code.text)
    first = next(iter(home.mailboxes.boxes.values()))
    await home.newer.decline()
    for name, lie in LIES.items():
        code = (await home.newer.offer()).code
        await home.older.admit(code.text)
        shown = lie(home.mailboxes.boxes[code.mailbox_name], first)
        # The empty message is one, as far as the transport knows.
        home.mailboxes.read_hook = lambda found, shown=shown: shown
        with pytest.raises(E2eeError):
            await home.newer.receive()
        assert (await home.known(home.tablet), await home.rows(home.tablet)) == ([], 0), name
        home.mailboxes.read_hook = lambda found: found

    def withheld(found):
        home.relay.now += CODE_MS

    def malformed(found):
        raise E2eeError("malformed", "not base64")

    home.mailboxes.read_hook = withheld
    await home.newer.offer()
    with pytest.raises(E2eeError, match="expired"):
        await home.newer.receive()
    home.mailboxes.read_hook = malformed
    await home.newer.offer()
    with pytest.raises(E2eeError, match="not base64"):
        await home.newer.receive()
    home.mailboxes.size = 15
    with pytest.raises(E2eeError, match="15 bytes"):
        await home.newer.offer()
    assert await home.rows(home.tablet) == 0


async def test_seen_by_another_client():
    """[PYLINK6] An answer by a client that saw the code and was first links nothing, nor does one of a wrong device."""
    home = await household()
    thief = SigningKey.generate()
    handed = LinkGroup(group=home.groups[0], founder=bytes(16), secret=bytes(16))
    forged = LinkBody(user=ADA, device=1, identity=thief.public_key, groups=[handed])
    code = (await home.newer.offer()).code
    await home.mailboxes.put(code.mailbox_name, seal_link(code, forged, thief))
    with pytest.raises(E2eeError) as caught:
        await home.older.admit(code.text)
    assert caught.value.code == "conflict"
    assert (await home.devices(home.phone, home.groups[0]), await home.rows(home.phone)) == (BEFORE, 0)
    await home.newer.receive()
    await home.newer.decline()
    assert (await home.known(home.tablet), await home.rows(home.tablet)) == ([], 0)

    other = SigningKey.generate().public_key
    for more in ({"user": BEN}, {"device": 2}, {"identity": await home.tablet.identity()}, {"identity": other}):
        code = (await home.newer.offer()).code
        await home.mailboxes.put(code.mailbox_name, seal_link(code, msgspec.structs.replace(forged, **more), thief))
        with pytest.raises(E2eeError):
            await home.newer.receive()
        assert await home.rows(home.tablet) == 0


async def test_older_device_killed():
    """[PYLINK7] The older device, killed at any point, sends the same message again and links once."""
    home = await household(2)
    code = (await home.newer.offer()).code
    put = []

    def lost(message):
        put.append(message)
        if len(put) == 1:
            raise Unreachable("no connection")

    home.mailboxes.put_hook = lost
    with pytest.raises(Unreachable):
        await home.older.admit(code.text)
    assert await home.rows(home.phone) == 1
    assert (await home.older.admit(code.text)).number == (await home.newer.receive()).number
    assert len(set(put)) == 1
    assert await home.older.resume() is None

    store = home.relay.store_of(home.phone)
    commit, calls = store.commit, []

    def killed(writes, *, durable):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("killed")
        commit(writes, durable=durable)

    await home.newer.accept()
    await home.wait_all()
    second = DeviceLink(await home.relay.device(ADA, 3), home.mailboxes)
    store.commit = killed
    with pytest.raises(RuntimeError, match="killed"):
        await home.older.admit((await second.offer()).code.text)
    store.commit = commit
    sent = await DeviceLink(home.phone, home.mailboxes).resume()
    assert sent is not None
    assert sent.number == (await second.receive()).number
    await home.wait_all()
    for group in home.groups:
        assert len(home.records(group)) == 2
        assert await home.devices(home.ben, group) == sorted([*AFTER, (ADA, 3)])


async def test_new_device_killed(monkeypatch):
    """[PYLINK8] The new device, killed before the person confirms, shows the same again; entering is atomic."""
    home = await household(3)
    offer = await home.newer.offer()
    assert await DeviceLink(home.tablet, home.mailboxes).offer() == offer
    sent = await home.older.admit(offer.code.text)
    store = home.relay.store_of(home.tablet)

    def killed(writes, *, durable):
        raise RuntimeError("killed")

    with monkeypatch.context() as dying:
        dying.setattr(store, "commit", killed)
        with pytest.raises(RuntimeError, match="killed"):
            await home.newer.receive()
    assert (await DeviceLink(home.tablet, home.mailboxes).receive()).number == sent.number
    reads = home.mailboxes.reads
    home.mailboxes.boxes.clear()
    assert (await DeviceLink(home.tablet, home.mailboxes).receive()).number == sent.number
    assert home.mailboxes.reads == reads
    with monkeypatch.context() as dying:
        dying.setattr(store, "commit", killed)
        with pytest.raises(RuntimeError, match="killed"):
            await home.newer.accept()
    assert await home.known(home.tablet) == []
    assert len(await home.newer.accept()) == len(await home.known(home.tablet)) == 3


async def test_again():
    """[PYLINK9] A second code takes later groups along and posts no second record; another founder is refused."""
    home = await household()

    async def link():
        await home.older.admit((await home.newer.offer()).code.text)
        await home.newer.receive()
        return await home.newer.accept()

    await link()
    await home.wait_all()
    home.groups.append(await new_family(home.relay, [home.phone, home.ben]))
    await home.relay.wait_idle(home.groups[1], [home.phone, home.ben])
    assert sorted(await link()) == sorted(home.groups)
    await home.wait_all()
    assert [len(home.records(group)) for group in home.groups] == [1, 1]
    await say(home.ben, home.groups[1], "in the later group")
    await home.wait_all()
    assert await texts(home.tablet, home.groups[1]) == ["in the later group"]

    code, signer = (await home.newer.offer()).code, SigningKey.generate()
    handed = LinkGroup(group=home.groups[1], founder=bytes(16), secret=bytes(16))
    forged = LinkBody(user=ADA, device=1, identity=signer.public_key, groups=[handed])
    await home.mailboxes.put(code.mailbox_name, seal_link(code, forged, signer))
    await home.newer.receive()
    with pytest.raises(E2eeError, match="another founder"):
        await home.newer.accept()


async def test_nothing_to_hand_over():
    """[PYLINK10] A device without groups, without the present secret or with too many groups hands nothing over."""
    home = await household()
    group, cx = home.groups[0], home.phone.context
    code = (await home.newer.offer()).code
    lonely = DeviceLink(await home.relay.device(ADA, 4), home.mailboxes)
    with pytest.raises(E2eeError, match="in no group"):
        await lonely.inspect(code.text)

    def many(unit, count):
        for number in range(count):
            name = f"{GROUP[:-3]}{number:03d}"
            unit.put(GROUPS, name, unit.get(GROUPS, group))
            unit.put(ROSTERS, name, unit.get(ROSTERS, group))
            unit.put(SECRETS, secret_key(name, 0), unit.get(SECRETS, secret_key(group, 0)))
        return handed_over(unit, cx, code)

    def hidden(unit):
        unit.delete(SECRETS, secret_key(group, 0))
        return handed_over(unit, cx, code)

    def foreign(unit):
        unit.put(GROUPS, GROUP, unit.get(GROUPS, group))
        return handed_over(unit, cx, code)

    def tried(work):
        return work(Unit(cx.store))

    assert len(tried(lambda unit: many(unit, MAX_LINK_GROUPS - 1))) == MAX_LINK_GROUPS
    with pytest.raises(E2eeError, match="501 groups"):
        tried(lambda unit: many(unit, MAX_LINK_GROUPS))
    with pytest.raises(E2eeError, match=r"secret 0 of .* has not reached"):
        tried(hidden)
    # A group in which this device is not admitted is left out.
    assert [one.group for one in tried(foreign)] == [group]


def test_size():
    """[PYLINK11] A message of 500 groups and 1,024 verified users fits into a mailbox."""
    signer = SigningKey.generate()
    handed = LinkGroup(group=GROUP, founder=bytes(16), secret=bytes(16), secret_number=2**31)
    body = LinkBody(
        user=ADA,
        device=1,
        identity=signer.public_key,
        groups=[handed] * MAX_LINK_GROUPS,
        verified=[BEN] * linking.MAX_VERIFIED,
    )
    code = read_link_code(_code(signer))
    assert len(seal_link(code, body, signer)) <= 64 * 1024
    assert signer.public_key.hex() not in repr(code)
    assert "0000" not in repr(handed).removeprefix(f"LinkGroup({GROUP})")


def _code(signer):
    code = linking.LinkCode(
        mailbox=bytes(16),
        user=ADA,
        device=2,
        suites=2,
        identity=signer.public_key,
        point=linking.link_point(bytes(31) + b"\x40"),
        secret=bytes(16),
    )
    return code.text


def test_machines():
    """[PYLINK12] Both machines use described names only, and refuse an input that has no row."""
    for name in ("NEW", "OLD"):
        rows = getattr(link_machine, f"{name}_DEVICE")
        assert len({(row.state, row.on) for row in rows}) == len(rows)
        title = name.capitalize()
        for part, plural, used in (("State", "STATES", "state"), ("Input", "INPUTS", "on"), ("Act", "ACTS", "does")):
            described = getattr(link_machine, f"{name}_{plural}")
            assert set(get_args(getattr(link_machine, f"{title}{part}"))) == set(described)
            assert {getattr(row, used) for row in rows} == set(described)
    with pytest.raises(E2eeError, match="begin again with a new code"):
        link_machine.new_device_row("idle", "confirmed")


def refused(code):
    """An answer of the server's that is not worth a retry."""
    status = {"NOT_FOUND": 404, "CONFLICT": 409}.get(code, 403)
    return ApiError("refused", status=status, code=code)


class Api:
    """The SDK's side of mailboxes, with an answer that a test sets."""

    def __init__(self):
        self.answer = None

    async def _answered(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def fill_mailbox(self, name, message):
        await self._answered()

    async def read_mailbox(self, name):
        return await self._answered()


class Sdk:
    """A client of the SDK."""

    def __init__(self):
        self.api = Api()


async def test_sdk_mailboxes():
    """[PYLINK13] Answers of the server become errors of linking; others pass unchanged."""
    sdk = Sdk()
    mailboxes = SdkMailboxes(sdk)
    for code, named in (("NOT_FOUND", "not_found"), ("CONFLICT", "conflict")):
        sdk.api.answer = refused(code)
        for call in (mailboxes.put("A", b""), mailboxes.read("A")):
            with pytest.raises(E2eeError) as caught:
                await call
            assert caught.value.code == named
    sdk.api.answer = refused("FORBIDDEN")
    with pytest.raises(ApiError):
        await mailboxes.read("A")
    sdk.api.answer = "%"
    with pytest.raises(E2eeError, match="not base64"):
        await mailboxes.read("A")
    sdk.api.answer = None
    assert await mailboxes.read("A") is None


async def test_waiting_over_failures():
    """[PYLINK14] A lost connection while waiting is tried again until the code expires; a refusal ends it."""
    home = await household()
    failures = [Unreachable("no connection"), None, Unreachable("no connection")]

    def failing(found):
        failure = failures.pop()
        if failure is not None:
            raise failure
        if not failures:
            raise AssertionError("asked too often")
        return found

    code = (await home.newer.offer()).code
    await home.older.admit(code.text)
    home.mailboxes.read_hook = failing
    assert (await home.newer.receive()).groups == home.groups
    await home.newer.decline()

    def refusing(found):
        raise refused("FORBIDDEN")

    await home.newer.offer()
    home.mailboxes.read_hook = refusing
    with pytest.raises(ApiError):
        await home.newer.receive()


@pytest.mark.parametrize("failure", [Unreachable("away"), E2eeError("stopped", "a person decides")])
async def test_records_wait(failure):
    """[PYLINK15] A record that cannot be sent at once stays in the outbox of its group; a refusal is reported."""
    home = await household()

    def fails(post):
        raise failure

    home.relay.on_post = fails
    await home.older.admit((await home.newer.offer()).code.text)
    home.relay.on_post = lambda post: None
    await home.wait_older()
    assert await home.devices(home.ben, home.groups[0]) == AFTER


@pytest.mark.parametrize("failure", [refused("FORBIDDEN"), E2eeError("unsupported", "broken")])
async def test_refused_records(failure):
    """[PYLINK16] A record that the server refuses is reported."""
    home = await household()

    def fails(post):
        raise failure

    home.relay.on_post = fails
    with pytest.raises(type(failure)):
        await home.older.admit((await home.newer.offer()).code.text)
