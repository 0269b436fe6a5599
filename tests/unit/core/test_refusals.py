"""Refusals: who passes, and what each says."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from orbital_relay.core import refusals
from orbital_relay.core.refusals import check_member
from orbital_relay.errors import Forbidden, NotFound, OrbitalError
from orbital_relay.model import Access

MAKERS = [
    maker
    for name, maker in inspect.getmembers(refusals, inspect.isfunction)
    # Mutation testing adds functions of its own to the module.
    if maker.__module__ == refusals.__name__ and name != "check_member" and "mutmut" not in name
]
DETAILED = [maker for maker in MAKERS if inspect.signature(maker).parameters]


def test_membership():
    """[MBRCHK1] A member passes; a stranger is refused with 403 and the details, an unknown group with 404."""
    check_member(Access.MEMBER, thread_id="t")

    with pytest.raises(Forbidden) as refused:
        check_member(Access.STRANGER, thread_id="t")
    with pytest.raises(NotFound) as missing:
        check_member(Access.UNKNOWN)

    assert (refused.value.message, refused.value.details) == (
        "You are not a member of this group.",
        {"thread_id": "t"},
    )
    assert missing.value.message == "There is no such group."


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_refusal_is_a_sentence(make: Callable[[], OrbitalError]):
    """[MBRCHK2] Each refusal is a protocol error with its own message for people; no two messages are equal."""
    refusal = make()

    assert isinstance(refusal, OrbitalError)
    assert type(refusal).__name__ == inspect.signature(make).return_annotation
    assert refusal.message[0].isupper()
    assert refusal.message[1:] != refusal.message[1:].upper()
    assert refusal.message.endswith(".")
    assert [other.__name__ for other in MAKERS if other().message == refusal.message] == [make.__name__]


@pytest.mark.parametrize("make", DETAILED, ids=lambda make: make.__name__)
def test_a_refusal_has_the_details_that_it_was_given(make: Callable[..., OrbitalError]):
    """[MBRCHK3] A refusal that accepts details has them for programs."""
    assert make(thread_id="t").details == {"thread_id": "t"}
    assert make().details == {}
