"""The server's mailboxes, by which an older device hands a message to a new one."""

from __future__ import annotations

from typing import Protocol

from orbital_relay.client import ApiError, Orbital
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.texts import from_base64, to_base64


class MailboxTransport(Protocol):
    """The server's mailboxes. Each holds one message."""

    async def open(self) -> bytes:
        """Return a new mailbox's name, 16 bytes."""

    async def put(self, name: str, message: bytes) -> None:
        """
        Put the one message in; the same message again changes nothing.

        Raises:
            E2eeError: `conflict` when another message is in it, `not_found` when it is gone.
        """

    async def read(self, name: str) -> bytes | None:
        """
        Wait for the message; None when no message came in time.

        Raises:
            E2eeError: `not_found` when it is gone.
        """


class SdkMailboxes:
    """The mailboxes of a server, by a client of the SDK."""

    def __init__(self, orbital: Orbital) -> None:
        """
        Use this client.

        Args:
            orbital: It is open while the mailboxes are used.
        """
        self._api = orbital.api

    async def open(self) -> bytes:
        """Open a mailbox, and return its name, 16 bytes."""
        return from_base64((await self._api.open_mailbox()).mailbox)

    async def put(self, name: str, message: bytes) -> None:
        """Put the one message in."""
        try:
            await self._api.fill_mailbox(name, to_base64(message))
        except ApiError as exc:
            raise _named(exc) from exc

    async def read(self, name: str) -> bytes | None:
        """Wait for the message."""
        try:
            found = await self._api.read_mailbox(name)
        except ApiError as exc:
            raise _named(exc) from exc
        try:
            return None if found is None else from_base64(found)
        except ValueError as exc:
            raise E2eeError("malformed", "the message in the mailbox is not base64") from exc


def _named(error: ApiError) -> Exception:
    match error.code:
        case "NOT_FOUND":
            return E2eeError("not_found", error.message)
        case "CONFLICT":
            return E2eeError("conflict", error.message)
        case _:
            return error


_: type[MailboxTransport] = SdkMailboxes
