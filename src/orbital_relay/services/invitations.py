"""Invitations to a server (registration tokens): required for sign-up if it is not open."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from orbital_relay.api.about import SignupPolicy
from orbital_relay.errors import InvitationRefused, SignupsClosed
from orbital_relay.services.context import ServiceContext

_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without I, O, 0 and 1, which people confuse: 32 letters, 5 bits each."""
_LETTERS: Final = 20
"""100 bits: they cannot be guessed, so the limit on sign-ups is not what protects them."""
_CODE: Final = re.compile(rf"[{_ALPHABET}]{{{_LETTERS}}}")
_GROUP_CODE: Final = re.compile(r"[A-Z0-9]{8}")


def new_invitation() -> str:
    """Draw the code of an operator's invitation, in groups that can be read aloud."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS))
    return "-".join(letters[start : start + 5] for start in range(0, _LETTERS, 5))


def digest_of(code: str) -> bytes:
    """Return what is stored of an operator's invitation; a fast hash suffices for 100 random bits."""
    return hashlib.sha256(_plain(code).encode()).digest()


def is_invitation(text: str) -> bool:
    """Return whether a text has the form of an operator's invitation, or of a one-time code, which has the same."""
    return _CODE.fullmatch(_plain(text)) is not None


def _plain(text: str) -> str:
    bare = text.replace(" ", "").replace("-", "")
    return bare.upper() if bare.isascii() else ""


async def admit(context: ServiceContext, policy: SignupPolicy, invitation: str | None) -> bytes | None:
    """
    Check whether an account may be made.

    Args:
        context: What use cases work with.
        policy: Who may.
        invitation: What the sign-up brought: an operator's invitation or a group's invite code.

    Returns:
        The digest of the operator's invitation, which the account uses up; None where none is used up.

    Raises:
        SignupsClosed: If it may not.
    """
    if policy == "open":
        return None
    if policy == "closed":
        raise SignupsClosed("This server does not accept sign-ups. Ask its operator for an account.", signups=policy)
    code = _plain(invitation or "")
    if not code:
        raise SignupsClosed(
            "This server takes new accounts by invitation. Ask its operator, or a member of a group, for a link.",
            field="invitation",
            signups=policy,
        )
    now_ms = context.clock.wall_ms()
    if _GROUP_CODE.fullmatch(code):
        if await context.store.invite_code_opens(code, now_ms=now_ms):
            return None
    elif _CODE.fullmatch(code):
        digest = digest_of(code)
        if await context.store.invitation_opens(digest, now_ms=now_ms):
            return digest
    raise InvitationRefused
