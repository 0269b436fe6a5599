"""Records and the roster that they fold into."""

import os

import pytest

from orbital_relay.e2ee.crypto.curve import SigningKey
from orbital_relay.e2ee.formats.records import Founding, Knock, Link, Policy, Revoke, Secret, next_secret, write_record
from orbital_relay.e2ee.invite import founder_hash
from orbital_relay.e2ee.roster import LoggedRecord, RosterFacts, accepted_key, all_secrets, fold
from tests.support.e2ee import ADA, BEN, CLEO, GROUP, OTHER_GROUP


class Log:
    """A group of Ada's with an invite, and a log that records are appended to."""

    def __init__(self):
        self.ada = SigningKey.generate()
        self.secret = os.urandom(16)
        self.log = []
        self.facts = {"founder": founder_hash(self.ada.public_key), "secrets": {0: self.secret}}
        self.post(ADA, Founding(user=ADA, device=1, identity=self.ada.public_key, suites=2), self.ada)

    def post(self, author, body, proof, group=GROUP):
        self.append(author, write_record(group, body, proof))

    def append(self, author, record):
        self.log.append(LoggedRecord(len(self.log) + 2, author, record))

    def fold(self, **more):
        return fold(GROUP, self.log, RosterFacts(**{**self.facts, **more}))


@pytest.fixture
def group():
    """A group of Ada."""
    return Log()


@pytest.fixture
def ben(group):
    """Ben's key, with his first device in the group."""
    key = SigningKey.generate()
    group.post(BEN, knock(BEN, 1, key), group.secret)
    return key


def knock(user, device, key, number=0):
    """A knock of a device."""
    return Knock(user=user, device=device, identity=key.public_key, suites=2, secret_number=number)


def link(user, device, key, by):
    """A link of a device by an older one."""
    return Link(user=user, device=device, identity=key.public_key, suites=3, by_device=by)


def names(roster):
    """The devices of a roster."""
    return " ".join(f"{one.user[0]}{one.device}" for one in roster.devices)


def faults(roster):
    """The codes of a roster."""
    return [one.code for one in roster.warnings]


def test_admitted(group, ben):
    """[PYROS1] The roster has the invite's founder, a knock with the secret, and a link by an older device."""
    group.post(BEN, link(BEN, 2, SigningKey.generate(), 1), ben)

    roster = group.fold()
    assert names(roster) == "a1 b1 b2"
    assert [(one.since, one.by) for one in roster.devices] == [(2, "found"), (3, "knock"), (4, "link")]
    assert (faults(roster), roster.founder) == ([], ADA)


def test_refused(group, ben):
    """[PYROS2] Another founder, a ghost, a swapped key, a forged device or a record of another group is refused."""
    mallory = SigningKey.generate()
    group.post(CLEO, Founding(user=CLEO, device=1, identity=mallory.public_key, suites=2), mallory)
    group.post(ADA, Founding(user=ADA, device=9, identity=group.ada.public_key, suites=2, history=2), group.ada)
    group.post(CLEO, knock(CLEO, 1, mallory), os.urandom(16))
    group.post(BEN, link(BEN, 2, mallory, 1), mallory)
    group.post(CLEO, link(CLEO, 1, mallory, 1), mallory)
    group.post(CLEO, knock(CLEO, 1, mallory), group.secret, OTHER_GROUP)
    swapped = write_record(GROUP, knock(CLEO, 1, ben), group.secret).replace(ben.public_key, mallory.public_key)
    group.append(CLEO, swapped)
    group.append(CLEO, os.urandom(40))
    zero = Knock(user=CLEO, device=1, identity=b"\5" + bytes(32), suites=2)
    group.post(CLEO, zero, group.secret)
    group.post(BEN, Link(user=BEN, device=3, identity=b"\5" + bytes(32), suites=2, by_device=1), ben)

    roster = group.fold()
    assert names(roster) == "a1 b1"
    proven = ["other_founder"] * 2 + ["not_proven"] * 5 + ["unreadable_record"] + ["not_proven"] * 2
    assert faults(roster) == proven


def test_other_author(group):
    """[PYROS3] A record is refused if its author differs from the author that the server states."""
    ben = SigningKey.generate()
    group.post(CLEO, knock(BEN, 1, ben), group.secret)
    group.post(CLEO, link(ADA, 2, ben, 1), group.ada)
    assert faults(group.fold()) == ["wrong_author", "wrong_author"]

    group.log = [LoggedRecord(2, BEN, group.log[0].record)]
    assert faults(group.fold()) == ["wrong_author"]


def test_revoked(group, ben):
    """[PYROS4] A revoked identity never returns; a user revokes own devices, the founder any device, nobody else."""
    tablet, cleo = SigningKey.generate(), SigningKey.generate()
    group.post(BEN, link(BEN, 2, tablet, 1), ben)
    group.post(CLEO, knock(CLEO, 1, cleo), group.secret)
    group.post(CLEO, Revoke(user=BEN, device=1, by_user=CLEO, by_device=1), cleo)
    assert names(group.fold()) == "a1 b1 b2 c1"
    group.post(BEN, Revoke(user=BEN, device=2, by_user=BEN, by_device=1), ben)
    assert names(group.fold()) == "a1 b1 c1"
    group.post(BEN, link(BEN, 2, tablet, 1), ben)
    group.post(ADA, Revoke(user=BEN, by_user=ADA, by_device=1), group.ada)
    group.post(BEN, knock(BEN, 1, ben), group.secret)

    roster = group.fold()
    assert names(roster) == "a1 c1"
    assert faults(roster) == ["not_proven", "revoked_identity", "revoked_identity"]


def test_held(group, ben):
    """[PYROS5] A knock of a user who has a device is held until a link arrives or a user accepts that exact key."""
    again, other = SigningKey.generate(), SigningKey.generate()
    group.post(BEN, knock(BEN, 1, ben), group.secret)
    group.post(BEN, knock(BEN, 1, again), group.secret)

    held = group.fold()
    assert held.devices[1].identity == ben.public_key
    [warning] = held.warnings
    assert (warning.code, warning.identity, warning.suites) == ("held_device", again.public_key, 2)
    accepted = group.fold(accepted=frozenset({accepted_key(BEN, 1, again.public_key)}))
    assert (accepted.devices[1].identity, accepted.devices[1].by) == (again.public_key, "accepted")
    unlike = group.fold(accepted=frozenset({accepted_key(BEN, 1, other.public_key)}))
    assert unlike.devices[1].identity == ben.public_key
    group.post(BEN, link(BEN, 1, again, 1), ben)
    assert group.fold().devices[1].identity == again.public_key


def test_returned(group, ben):
    """[PYROS6] A user whose devices were all revoked rejoins with a new key, and every member gets a warning."""
    assert ben.public_key == group.fold().devices[1].identity
    group.post(ADA, Revoke(user=BEN, by_user=ADA, by_device=1), group.ada)
    group.post(BEN, knock(BEN, 2, SigningKey.generate()), group.secret)

    roster = group.fold()
    assert (names(roster), faults(roster)) == ("a1 b2", ["returned_person"])


def test_secrets(group, ben):
    """[PYROS7] After a new secret the old one proves nothing; a later member derives the old secrets."""
    cleo = SigningKey.generate()
    second, earlier = next_secret(GROUP, group.secret)
    group.post(ADA, Secret(number=1, by_user=ADA, by_device=1, earlier=earlier), group.ada)
    group.post(CLEO, knock(CLEO, 1, cleo), group.secret)
    group.post(CLEO, knock(CLEO, 1, cleo, 1), group.secret)
    group.post(CLEO, knock(CLEO, 1, cleo, 1), second)
    third, earlier = next_secret(GROUP, second)
    for _ in range(2):
        group.post(BEN, Secret(number=2, by_user=BEN, by_device=1, earlier=earlier), ben)

    assert faults(group.fold()) == ["not_proven", "waiting_secret", "waiting_secret", "not_proven"]
    group.append(ADA, os.urandom(9))
    late = all_secrets(GROUP, group.log, {2: third})
    assert sorted(late) == [0, 1, 2]
    assert late[0] == group.secret
    group.log.pop()
    roster = group.fold(secrets=late)
    assert (names(roster), roster.secret_number) == ("a1 b1 c1", 2)
    assert faults(roster) == ["not_proven"] * 3
    assert len(all_secrets(GROUP, group.log, {2: os.urandom(16)})) == 1


def test_policy(group, ben):
    """[PYROS8] Only the founder sets the policy."""
    group.post(BEN, Policy(history=2, rotation_days=1, by_device=1), ben)
    assert (group.fold().history, group.fold().rotation_days) == (0, 7)
    group.post(ADA, Policy(history=2, rotation_days=1, by_device=1), group.ada)

    roster = group.fold()
    assert (roster.history, roster.rotation_days, faults(roster)) == (2, 1, ["not_proven"])
