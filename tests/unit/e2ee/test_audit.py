"""Audit files: what a device exports is verified without the server, and every kind of lie in it is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from orbital_relay.cli import main
from orbital_relay.core.chain import digest
from orbital_relay.e2ee import GroupDevice, check_audit, read_invite
from orbital_relay.e2ee.audit import signed_text
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.texts import from_base64, to_base64
from tests.support.e2ee import ADA, BEN, CLEO, DORA, OTHER_GROUP, FakeRelay, codes, enter, event_of, new_family, say

Line = dict[str, Any]
Family = tuple[FakeRelay, list[GroupDevice], str]


@pytest.fixture
async def kept() -> Family:
    """Three people whose devices keep frames, and some messages of each."""
    relay = FakeRelay()
    members = [await relay.device(user, keep_frames=True) for user in (ADA, BEN, CLEO)]
    group = await new_family(relay, members)
    for text in ("one", "two"):
        for member in members:
            await say(member, group, text)
            await relay.wait_idle(group)
    return relay, members, group


async def resigned(member: GroupDevice, group: str, lines: list[Line]) -> bytes:
    """Sign lines as the device would: a liar that has the device."""
    text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines[:-1])
    cx = member._cx
    signer = await cx.transact(cx.ratchet.identity)
    end = {
        "line": "end",
        "identity": to_base64(signer.public_key),
        "signature": to_base64(signer.sign(signed_text(group, text))),
    }
    return text + msgspec.json.encode(end) + b"\n"


def lines_of(data: bytes) -> list[Line]:
    """Return the lines of a file."""
    return [msgspec.json.decode(line) for line in data.splitlines()]


def events_of(lines: list[Line]) -> list[Line]:
    """Return the lines of events."""
    return [line for line in lines if line["line"] == "event"]


def found(data: bytes) -> set[str]:
    """Return the codes of what is wrong with a file."""
    return {finding.code for finding in check_audit(data).findings}


async def test_honest(kept: Family) -> None:
    """[AUDFILE1] The file of an honest group has no findings; with an invite, joins are verified too."""
    relay, members, group = kept
    number, last = (await members[0].invite(group)), len(relay.groups[group].log)
    invite = read_invite(number[0])
    assert invite is not None
    for member in members:
        data = await member.audit(group)
        report = check_audit(data)
        assert (report.findings, report.warnings, report.group) == ([], [], group)
        assert (report.user, report.device, report.first, report.last) == (member.me.user, 1, 1, last)
        assert (report.records, report.vouched) == (3, 2)
        assert report.heads == 4
        assert check_audit(data, secret=(number[1], invite.secret)).vouched == 0
        assert check_audit(data, secret=(number[1], invite.secret)).findings == []
        assert invite.secret.hex().encode() not in data
        assert to_base64(invite.secret).encode() not in data


async def test_not_kept(kept: Family) -> None:
    """[AUDFILE2] A device exports the frames that it stored without a gap; a device that stored none reports that."""
    relay, members, group = kept
    later = await relay.device(DORA)
    with pytest.raises(E2eeError, match="unknown here"):
        await later.audit(group)
    await enter(relay, group, members[0], later)
    await relay.wait_idle(group, [members[0], later])
    with pytest.raises(E2eeError, match="keep_frames=True"):
        await later.audit(group)
    now = await relay.device(DORA, store=relay.store_of(later), publish=False, keep_frames=True)
    await say(members[0], group, "kept from here on")
    await relay.wait_idle(group, [members[0], now])
    report = check_audit(await now.audit(group))
    assert report.findings == []
    assert 1 < report.first <= report.last == len(relay.groups[group].log)


async def test_unsigned_changes(kept: Family) -> None:
    """[AUDFILE3] A file that was changed in any byte, or cut off, is refused or has findings: 300 seeded changes."""
    _, members, group = kept
    data = await members[1].audit(group)
    seed = 12
    dice = random.Random(seed)
    for _ in range(300):
        at = dice.randrange(len(data))
        other = bytes([data[at] ^ 1 << dice.randrange(7)])
        cut = data[:at] if dice.random() < 0.2 else data[:at] + other + data[at + 1 :]
        try:
            codes_found = found(cut)
        except E2eeError as exc:
            codes_found = {exc.code} & {"malformed", "unsupported"}
        assert codes_found, (seed, at)


def _drop(lines: list[Line]) -> None:
    lines.remove(events_of(lines)[6])


def _reorder(lines: list[Line]) -> None:
    at = lines.index(events_of(lines)[6])
    lines[at], lines[at + 1] = lines[at + 1], lines[at]


def _repeat(lines: list[Line]) -> None:
    at = lines.index(events_of(lines)[6])
    lines.insert(at, dict(lines[at]))


def _change(lines: list[Line]) -> None:
    line = events_of(lines)[6]
    line["frame"] = line["frame"].replace('"type":"', '"type":"x', 1)


def _change_with_hash(lines: list[Line]) -> None:
    _change(lines)
    line = events_of(lines)[6]
    line["hash"] = digest(line["frame"].encode())


def _renumber(lines: list[Line]) -> None:
    line = events_of(lines)[6]
    line["frame"] = line["frame"].replace('"seq":7', '"seq":70')


def _first_event(lines: list[Line]) -> None:
    line = events_of(lines)[0]
    line["frame"] = line["frame"].replace('"prev":"', '"prev":"A', 1)[:-3] + '"}'


def _other_group(lines: list[Line]) -> None:
    line = events_of(lines)[6]
    line["frame"] = line["frame"].replace(lines[0]["group"], OTHER_GROUP)


def _head(lines: list[Line]) -> None:
    line = next(one for one in reversed(events_of(lines)) if one["heads"])
    line["heads"][0][1] = "00" * 16


def _future_head(lines: list[Line]) -> None:
    line = next(one for one in events_of(lines) if one["heads"])
    line["heads"][0][0] = line["seq"]


def _record_of(lines: list[Line], at: int) -> Line:
    return [line for line in lines if line["line"] == "record"][at]


def _record_differs(lines: list[Line]) -> None:
    _record_of(lines, 1)["author"] = CLEO


def _record_missing(lines: list[Line]) -> None:
    lines.remove(_record_of(lines, 2))


def _record_added(lines: list[Line]) -> None:
    lines.insert(-1, {**_record_of(lines, 2), "seq": 99})


def _record_order(lines: list[Line]) -> None:
    one, two = _record_of(lines, 0), _record_of(lines, 1)
    at, then = lines.index(one), lines.index(two)
    lines[at], lines[then] = two, one


def _forged_record(lines: list[Line]) -> None:
    line = _record_of(lines, 0)
    record = bytearray(from_base64(line["record"]))
    record[-1] ^= 1
    line["record"] = to_base64(bytes(record))


def _other_device(lines: list[Line]) -> None:
    lines[0]["user"] = CLEO


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (_drop, "gap"),
        (_reorder, "gap"),
        (_repeat, "gap"),
        (_change, "changed"),
        (_change_with_hash, "broken_chain"),
        (_renumber, "wrong_number"),
        (_first_event, "broken_chain"),
        (_other_group, "wrong_group"),
        (_head, "two_histories"),
        (_future_head, "two_histories"),
        (_record_differs, "record_differs"),
        (_record_missing, "record_missing"),
        (_record_added, "record_added"),
        (_record_order, "record_order"),
        (_forged_record, "not_proven"),
        (_other_device, "unknown_device"),
    ],
)
async def test_lies(kept: Family, tmp_path: Path, lie: Callable[[list[Line]], None], code: str) -> None:
    """[AUDFILE4] Each kind of lie is found by its name, also when the device itself signed it."""
    _, members, group = kept
    lines = lines_of(await members[1].audit(group))
    assert found(await resigned(members[1], group, lines)) == set()
    lie(lines)
    data = await resigned(members[1], group, lines)
    (tmp_path / "file").write_bytes(data)
    run = CliRunner().invoke(main, ["verify", str(tmp_path / "file")])

    assert code in found(data)
    assert (run.exit_code, f"finding    {code}: " in run.output) == (1, True)


async def test_a_lying_relay(kept: Family) -> None:
    """[AUDFILE5] Two histories that a relay shows are in the files of those who read each other."""
    relay, members, group = kept
    _, ben, cleo = members
    log = relay.groups[group].log
    # Cleo is shown another event than all others, and then what she posts.
    other = [*log, {**log[-1], "seq": len(log) + 1, "type": "media_expired", "data": {}}]
    other[-1] = {**other[-1], "prev": log[-1]["hash"], "hash": digest(b"another")}
    relay.append(group, "media_expired", {"media_id": "x"})
    await relay.deliver(ben, group)
    await cleo.receive(event_of(other[-1]))
    await say(cleo, group, "from another history")
    await relay.deliver(ben, group)
    report = check_audit(await ben.audit(group))

    assert {finding.code for finding in report.findings} == {"two_histories"}
    assert "two_histories" in await codes(ben, group)
    assert [warned.code for warned in report.warnings] == ["two_histories"]


async def test_command(kept: Family, tmp_path: Path) -> None:
    """[AUDFILE6] `orbital verify` prints what a file shows, and names an invalid file or invite."""
    _, members, group = kept
    path = tmp_path / "family.audit"
    path.write_bytes(await members[0].audit(group))
    text, _ = await members[0].invite(group)

    def run(*arguments: str, **env: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["verify", *arguments], env=env)
        return done.exit_code, done.output

    status, shown = run(str(path))
    assert (status, "2 taken on the device's word" in shown, "one history" in shown) == (0, True, True)
    assert f"group      {group}" in shown
    status, shown = run(str(path), ORBITAL_INVITE=f"https://orbital.example/join#{text}")
    assert (status, "word" in shown) == (0, False)
    status, shown = run(str(path), "--invite", "A" * 43)
    assert (status, "not_proven" in shown) == (1, True)
    status, shown = run(str(path), "--invite", "nonsense")
    assert (status, "43 letters" in shown) == (2, True)
    for content, sentence in ((b"", "cut off"), (b"{}\n", "line 1"), (path.read_bytes()[:-200], "cut off")):
        path.write_bytes(content)
        status, shown = run(str(path))
        assert (status, sentence in shown) == (1, True)
