"""Text of a refusal (error message) that several rooms raise: each is written here, once."""

from __future__ import annotations

from typing import assert_never

from orbital_relay.errors import Conflict, Forbidden, NotFound, OrbitalError, Unauthorized
from orbital_relay.model import Access


def no_group() -> NotFound:
    """Make the refusal for a group that does not exist."""
    return NotFound("There is no such group.")


def not_member(**details: str) -> Forbidden:
    """Make the refusal for a group that the caller is not in."""
    return Forbidden("You are not a member of this group.", **details)


def check_member(access: Access, **details: str) -> None:
    """
    Refuse a caller who is not in a group.

    Args:
        access: What the caller may do with the group.
        details: More for programs, in the refusal.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    match access:
        case Access.UNKNOWN:
            raise no_group()
        case Access.STRANGER:
            raise not_member(**details)
        case Access.MEMBER:
            pass
        case _:
            assert_never(access)


def no_account() -> NotFound:
    """Make the refusal for a valid token whose user has no account here any more."""
    return NotFound("There is no account for this token.")


def no_thread(**details: str) -> NotFound:
    """Make the refusal for a thread that does not exist."""
    return NotFound("There is no such thread.", **details)


def no_target() -> NotFound:
    """Make the refusal for an annotation of something that is not in the thread."""
    text = "Nothing in this thread has this `target_id`: give the id of the thread, or of a reply or a medium in it."
    return NotFound(text, field="target_id")


def no_device() -> NotFound:
    """Make the refusal for a device that the caller does not have."""
    return NotFound("There is no such device of yours.")


def no_such_member() -> NotFound:
    """Make the refusal for a user who is not in the group."""
    return NotFound("There is no such member in this group.")


def no_code() -> NotFound:
    """Make the refusal for an invite code that opens no group."""
    return NotFound("This invite code is unknown or no longer valid. Ask a member for the current one.")


def no_media() -> NotFound:
    """Make the refusal for a medium that does not exist."""
    return NotFound("There is no such medium.")


def may_not_delete() -> Forbidden:
    """Make the refusal for deleting another user's medium."""
    return Forbidden("Only the member who uploaded a medium, and the group's founder and administrators, delete it.")


def no_content() -> NotFound:
    """Make the refusal for content to be deleted that does not exist."""
    return NotFound("There is nothing of this kind with this id to delete.")


def not_author() -> Forbidden:
    """Make the refusal for deleting another member's content."""
    return Forbidden("Only the author, and the group's founder and administrators, delete this.")


def code_taken() -> Conflict:
    """Make the refusal for an invite code that another group has."""
    return Conflict("The invite code that was drawn is in use. Try again.")


def no_mailbox() -> NotFound:
    """Make the refusal for a mailbox that does not exist, or no longer."""
    return NotFound("There is no such mailbox, or it has expired. Open a new one.")


def key_reused() -> Conflict:
    """Make the refusal for an idempotency key that was used with another request."""
    return Conflict("This Idempotency-Key was used with another request. Use a new key for a new request.")


def token_ended() -> Unauthorized:
    """Make the refusal for a token that was revoked, or whose user was disabled, since it was verified."""
    return Unauthorized("The token is no longer valid; log in again.")


def bug() -> OrbitalError:
    """Make the answer to a frame that the server failed to handle."""
    return OrbitalError("The server has a bug; try again. Its log has the details.")


def bug_in_store() -> OrbitalError:
    """Make the answer to a write that failed for no reason that is known; it was rolled back."""
    return OrbitalError("The server has a bug; nothing was stored. Its log has the details.")
