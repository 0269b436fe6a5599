"""What annotations come to."""

import json

from orbital_relay.e2ee.annotation_fold import ShownEdit, ShownPin, fold_annotations
from orbital_relay.e2ee.annotation_kinds import Edit, Pinning, Poll, Reaction, SeenMark, Vote, write_annotation
from orbital_relay.e2ee.formats.content import ContentKind
from orbital_relay.e2ee.rows import Item, Part
from tests.support.e2ee import ADA, BEN, CLEO, GROUP

THREAD = "11111111-2222-4333-8444-555555555555"
REPLY = "22222222-2222-4333-8444-555555555555"
POLL = bytes([7]) * 16


def note(author, target, annotation, status="read"):
    """Return an annotation as a device keeps it."""
    body = annotation if isinstance(annotation, bytes) else write_annotation(annotation)
    return author, "new_annotation", {"thread_id": THREAD, "target_id": target}, body, status


def fold(*entries):
    """Fold entries behind a thread by Ada and a reply by Ben."""
    first = [
        (ADA, "new_thread", {"thread_id": THREAD}, b"Sunday", "read"),
        (BEN, "new_reply", {"thread_id": THREAD, "reply_id": REPLY}, b"I do.", "read"),
    ]
    items = [
        Item(
            group=GROUP,
            seq=seq,
            hash="",
            type=kind,
            status=status,
            author=author,
            data=json.dumps(data).encode(),
            parts=(Part(ContentKind.ANNOTATION, body, 1000 + seq),),
        )
        for seq, (author, kind, data, body, status) in enumerate([*first, *entries], 1)
    ]
    return fold_annotations(items)


def test_edits():
    """[SEALNOTE13] In Python, too, an edit counts if its author wrote the target, and the last one counts."""
    found = fold(
        note(BEN, THREAD, Edit("forged", "forged")),
        note(ADA, THREAD, Edit("Who cooks?", "Monday")),
        note(ADA, REPLY, Edit("forged")),
        note(BEN, REPLY, Edit("one")),
        note(BEN, REPLY, Edit("two")),
        note(BEN, REPLY, Edit("not read"), "waiting"),
        note(CLEO, GROUP, Edit("of what nobody read")),
    )
    assert found[THREAD].edit == ShownEdit("Who cooks?", "Monday", 4, 1004)
    assert found[REPLY].edit == ShownEdit("two", None, 7, 1007)
    assert found[GROUP].edit is None
    # A second event with the id of a reply does not change whose it is.
    again = fold((CLEO, "new_reply", {"reply_id": REPLY}, b"x", "read"), note(CLEO, REPLY, Edit("stolen")))
    assert again[REPLY].edit is None


def test_reactions_pins_and_positions():
    """[SEALNOTE14] In Python, too, reactions are kept by text and member, and what a member has seen never falls."""
    found = fold(
        note(ADA, REPLY, Reaction("❤️")),
        note(BEN, REPLY, Reaction("❤️")),
        note(ADA, REPLY, Reaction("❤️")),
        note(CLEO, REPLY, Reaction("__proto__")),
        note(CLEO, REPLY, Reaction("gone")),
        note(CLEO, REPLY, Reaction("gone", removed=True)),
        note(CLEO, REPLY, Reaction("never there", removed=True)),
        note(BEN, REPLY, Reaction("❤️", removed=True)),
        note(BEN, THREAD, Pinning()),
        note(ADA, REPLY, Pinning()),
        note(CLEO, REPLY, Pinning(removed=True)),
        note(ADA, THREAD, SeenMark(9)),
        note(ADA, THREAD, SeenMark(4)),
        note(CLEO, REPLY, b"\x7a\x00"),
        (CLEO, "new_message", {}, b"x", "read"),
    )
    assert list(found[REPLY].reactions.items()) == [("❤️", [ADA]), ("__proto__", [CLEO])]
    assert (found[THREAD].pin, found[REPLY].pin) == (ShownPin(BEN, 11), None)
    assert found[THREAD].seen == {ADA: 9}


def test_polls():
    """[SEALNOTE15] In Python, too, a vote counts in an earlier poll of its target, for options that it has."""
    poll = Poll(POLL, "Pizza?", ("yes", "no"))
    found = fold(
        note(CLEO, THREAD, Vote(POLL, (0,))),
        note(ADA, THREAD, poll),
        note(BEN, THREAD, Poll(POLL, "forged", ("yes", "no"))),
        note(ADA, THREAD, Vote(POLL, (1,))),
        note(BEN, THREAD, Vote(POLL, (1,))),
        note(BEN, THREAD, Vote(POLL, (0,))),
        note(CLEO, THREAD, Vote(POLL, (2,))),
        note(CLEO, THREAD, Vote(POLL, (0, 1))),
        note(ADA, REPLY, Vote(POLL, (1,))),
    )
    shown = found[THREAD].polls[POLL.hex()]
    assert (shown.question, shown.options, shown.multiple, shown.by, shown.seq) == (
        "Pizza?",
        ("yes", "no"),
        False,
        ADA,
        4,
    )
    assert shown.votes == {ADA: (1,), BEN: (0,)}
    several = Poll(POLL, "Pizza?", ("yes", "no"), multiple=True)
    found = fold(
        note(ADA, THREAD, several),
        note(ADA, THREAD, Vote(POLL, (1, 0, 1))),
        note(BEN, THREAD, Vote(POLL, (1,))),
        note(BEN, THREAD, Vote(POLL, ())),
    )
    assert found[THREAD].polls[POLL.hex()].votes == {ADA: (0, 1)}
