"""The SDK's exceptions. Each is named for what is true; its text is a sentence for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class ClientError(Exception):
    """The root of every error that the client raises for a reason outside the caller's code."""


class Unreachable(ClientError):
    """
    The server did not answer, or not as Orbital does.

    Whether it did what was asked is unknown; a request with an idempotency key may be repeated.

    Attributes:
        status: The HTTP status of what answered in its place; None when nothing did, or its status was 2xx.
        retry_after_s: Seconds to wait, if the answer asked for that.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(message)


class BadAnswer(Unreachable):
    """
    Something answered that does not speak the protocol: a captive portal, a proxy's page, a cut body.

    It is never the server's decision, whatever its status is: the server counts as away.
    """


class ApiError(ClientError):
    """
    The server refused a request.

    Attributes:
        status: The HTTP status.
        code: The protocol's code, such as `FORBIDDEN`.
        message: The server's sentence.
        details: More for programs.
        retry_after_s: Seconds that the server asked to wait; None when it did not ask.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        details: dict[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.details: dict[str, Any] = details or {}
        self.retry_after_s = retry_after_s
        super().__init__(message)

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        # 507 lasts until the operator makes room.
        return self.status in {408, 425, 429} or (self.status >= 500 and self.status != 507)


class Refused(ClientError):
    """
    The server refuses this client, and trying again would not help.

    Attributes:
        status: The HTTP status of the handshake; None when an open connection was closed.
        close_code: The WebSocket close code; None when the handshake was refused.
        code: The protocol's code when the server gave one.
    """

    def __init__(
        self, message: str, *, status: int | None = None, close_code: int | None = None, code: str | None = None
    ) -> None:
        self.status = status
        self.close_code = close_code
        self.code = code
        super().__init__(message)


class NotConnected(ClientError):
    """The connection did not open in the time that was allowed for it."""


class Closed(ClientError):
    """The client was closed by its own program; open another one."""


class NotAMember(ClientError):
    """
    The caller is not in the group, or there is no such group.

    Attributes:
        group_id: The group.
    """

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        super().__init__(f"You are not a member of the group {group_id}, or it does not exist.")


class AlreadySubscribed(ClientError):
    """
    This client listens to the group already; close that subscription, or share its events.

    Attributes:
        group_id: The group.
    """

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        super().__init__(f"This client already subscribes to the group {group_id}; close that subscription first.")


class ChainBroken(ClientError):
    """
    The server's log is not the one it was: an event was dropped, changed or moved.

    Attributes:
        group_id: The group.
        seq: Number of the first event that does not fit.
    """

    def __init__(self, group_id: str, seq: int) -> None:
        self.group_id = group_id
        self.seq = seq
        super().__init__(
            f"Event {seq} of the group {group_id} does not follow from the event before it: "
            "the server dropped, changed or re-ordered something."
        )


class SubscribeRefused(ClientError):
    """
    The server did not accept the request to subscribe.

    Attributes:
        group_id: The group.
        code: The protocol's code.
    """

    def __init__(self, group_id: str, code: str, message: str) -> None:
        self.group_id = group_id
        self.code = code
        super().__init__(message)


class OutboxFull(ClientError):
    """As many posts wait for the server as the outbox may hold; wait for some to be sent."""


class Discarded(ClientError):
    """The program discarded this post before the server had answered it."""


class OutboxExpired(ClientError):
    """
    A post was tried, not answered, and is now too old to be tried again without a risk of doubling it.

    The server remembers an idempotency key for 24 hours.
    """


class MediumTooLarge(ClientError):
    """
    A medium is larger than a download takes into memory; download it to a file, or allow more memory.

    Attributes:
        size_bytes: Its size.
        memory_bytes: What the caller allows.
    """

    def __init__(self, size_bytes: int, memory_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.memory_bytes = memory_bytes
        super().__init__(
            f"The medium has {size_bytes:,} bytes, and a download takes at most {memory_bytes:,} into memory; "
            "download it to a file (`to`), or raise `memory_bytes`."
        )


class StoreDamaged(ClientError):
    """A file that the client kept cannot be read; the text names it and says what to do."""


class StoreInUse(ClientError):
    """
    Another program uses a file that this client is to keep things in; both would lose some.

    Attributes:
        path: The file, or the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is used by another program; stop that one, or give this one another place.")
