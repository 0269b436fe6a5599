"""Annotations, sealed by CipherClient against a real server: between two Python members, and beside Node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from orbital_relay.e2ee import Edit, Item, Pinning, Poll, Reaction, Vote, annotation_of
from orbital_relay.e2ee.annotation_fold import ShownEdit, ShownPin
from tests.clients.test_python_e2ee import HERE, Human, human, invite_of
from tests.support import programs
from tests.support.client import Person
from tests.support.process import Program, eventually
from tests.support.programs import CHECKOUT
from tests.support.server import Server

POLL = Poll(bytes([7]) * 16, "Pizza?", ("yes", "no"))


@pytest.fixture
async def people(shared: Server) -> AsyncIterator[list[Person]]:
    """Two people."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await Person.sign_up(shared.url)) for _ in range(2)]


async def next_of(who: Human, type_: str) -> Item:
    """Return the next item of a type."""
    while True:
        item = await who.next_message()
        if item.type == type_:
            return item


async def test_two_people(people: list[Person], shared: Server) -> None:
    """[SEALNOTE17] A thread and a reply are annotated; members read it, the server stores nothing of it in plain."""
    ada, ben = people
    group = await ada.make_group()
    await ben.join(group)
    async with (
        human(ada, group, founds=True) as at_adas,
        human(ben, group, invite=await invite_of(at_adas)) as at_bens,
    ):
        await at_adas.admitted(ben)
        await at_adas.group.open_thread("Sunday", "Who cooks?")
        thread = str((await next_of(at_bens, "new_thread")).fields["thread_id"])
        await at_bens.group.reply(thread, "the canary sinks")
        reply = str((await next_of(at_adas, "new_reply")).fields["reply_id"])
        await at_adas.group.annotate(thread, thread, POLL)
        await at_adas.group.annotate(thread, reply, Reaction("the canary laughs"))
        assert annotation_of(await next_of(at_bens, "new_annotation")) == POLL
        seen = await next_of(at_bens, "new_annotation")
        assert (annotation_of(seen), seen.author, seen.text) == (Reaction("the canary laughs"), ada.user_id, "")
        assert (seen.fields["thread_id"], seen.fields["target_id"]) == (thread, reply)
        await at_bens.group.annotate(thread, thread, Vote(POLL.id, (1,)))
        await at_bens.group.annotate(thread, reply, Edit("the canary sings"))
        await at_bens.group.annotate(thread, thread, Edit("not Ben's to edit"))
        for _ in range(3):
            last = await next_of(at_adas, "new_annotation")
        for each in (at_adas, at_bens):
            await each.wait_applied()
            found = await each.group.annotated()
            assert found[thread].polls[POLL.id.hex()].votes == {ben.user_id: (1,)}
            assert found[thread].edit is None
            assert found[reply].reactions == {"the canary laughs": [ada.user_id]}
            edit = found[reply].edit
            assert isinstance(edit, ShownEdit)
            assert (edit.body, edit.seq) == ("the canary sings", last.seq - 1)
            assert await each.device.warnings(group.id) == []
        with pytest.raises(ValueError, match="not 1 to 64"):
            await at_adas.group.annotate(thread, reply, Reaction(""))
    files = [path for path in shared.data_dir.rglob("*") if path.is_file()]
    assert files
    assert not any(b"canary" in path.read_bytes() for path in files)


async def test_beside_node(people: list[Person]) -> None:
    """[SEALNOTE18] A Python member and a Node member read each other's annotations, and come to the same."""
    programs.node_package(CHECKOUT / "clients" / "e2ee", "@noble/hashes")
    ada, nina = people
    group = await ada.make_group()
    await nina.join(group)
    async with human(ada, group, founds=True) as at_adas:
        arguments = [ada.url, nina.token, nina.user_id, group.id, await invite_of(at_adas)]
        member = Program([programs.node(), str(HERE / "e2ee_member.mjs"), *arguments], stdin=True)
        await asyncio.to_thread(member.wait_for, "ready", deadline_s=90)
        await at_adas.admitted(nina)
        await at_adas.group.open_thread("Sunday", "Who cooks?")
        await at_adas.wait_applied()
        [own] = [item for item in await at_adas.device.items(group.id) if item.type == "new_thread"]
        thread = str(own.fields["thread_id"])
        for annotation in (POLL, Vote(POLL.id, (0,)), Reaction("❤️"), Pinning()):
            await at_adas.group.annotate(thread, thread, annotation)
            repeated = await next_of(at_adas, "new_annotation")
            assert (annotation_of(repeated), repeated.author) == (annotation, nina.user_id)

        def last() -> list[str]:
            return [line for line in member.lines if line.startswith("annotated ")]

        await eventually(lambda: len(last()) == 4, what="Node has them all", deadline_s=90)
        await at_adas.wait_applied()
        found = (await at_adas.group.annotated())[thread]
        everybody = [ada.user_id, nina.user_id]
        assert found.pin == ShownPin(nina.user_id, repeated.seq)
        assert found.reactions == {"❤️": everybody}
        assert found.polls[POLL.id.hex()].votes == dict.fromkeys(everybody, (0,))
        assert json.loads(last()[-1].removeprefix("annotated ")) == {
            "pin": {"by": nina.user_id, "seq": repeated.seq},
            "reactions": [["❤️", everybody]],
            "votes": [[[ada.user_id, [0]], [nina.user_id, [0]]]],
        }
        assert await at_adas.device.warnings(group.id) == []
        member.end_input()
        assert await asyncio.to_thread(member.wait) == 0, member.text
