"""The port to the mailboxes by which devices are linked."""

from __future__ import annotations

from typing import Protocol


class MailboxStore(Protocol):
    """Mailboxes that hold one message each, for minutes; a name cannot be guessed."""

    async def open_mailbox(self, mailbox: str, *, now_ms: int) -> None:
        """Make an empty mailbox."""
        ...

    async def fill_mailbox(self, mailbox: str, message: str, *, after_ms: int) -> None:
        """
        Put the one message into a mailbox that was made after a moment; the same message again changes nothing.

        Raises:
            NotFound: If there is no such mailbox.
            Conflict: If another message is in it.
        """
        ...

    async def mail(self, mailbox: str, *, after_ms: int) -> str | None:
        """
        Return the message of a mailbox that was made after a moment; None while it is empty.

        Raises:
            NotFound: If there is no such mailbox.
        """
        ...

    async def prune_mailboxes(self, *, before_ms: int) -> int:
        """Drop the mailboxes that were made before a moment; return how many went."""
        ...
