"""The table of public errors: code, HTTP status, WebSocket close code, and whether a retry can help."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class OrbitalError(Exception):
    """
    An answer that a client gets, as an HTTP body, as an `error` frame or as a close reason.

    Args:
        message: A sentence for a person; it tells the next step when there is one.
        details: More for programs.
    """

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    close: ClassVar[int | None] = None
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        self.message = message
        self.details: dict[str, Any] = details
        super().__init__(message)

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that belong to the error."""
        return {}

    def body(self, **more: Any) -> bytes:
        """Return the JSON error body of the protocol's section 1, with `more` among its details."""
        return msgspec.json.encode({"error": self.code, "message": self.message, "details": {**self.details, **more}})


class ValidationFailed(OrbitalError):
    """The request does not match the schema; `details.field` names the field."""

    code, status, close = "VALIDATION_ERROR", 400, 1008

    def __init__(self, message: str, *, field: str | None = None, **details: Any) -> None:
        super().__init__(message, **({"field": field} if field is not None else {}), **details)


class InvalidChunk(OrbitalError):
    """A chunk does not fit the upload that it names."""

    code, status = "INVALID_CHUNK", 400


class Unauthorized(OrbitalError):
    """The token is missing or invalid."""

    code, status, close = "UNAUTHORIZED", 401, 1008

    @property
    def headers(self) -> dict[str, str]:
        """RFC 6750 §3: say which scheme would be accepted."""
        return {"WWW-Authenticate": "Bearer"}


class InvalidCredentials(OrbitalError):
    """
    The password is wrong or the user does not exist; the response does not reveal which.

    Args:
        known: The name, when there is such an account; for the server's log alone.
    """

    code, status = "INVALID_CREDENTIALS", 401

    def __init__(self, *, known: str | None = None) -> None:
        self.known = known
        super().__init__("The username or the password is wrong.")


class Forbidden(OrbitalError):
    """The caller is not permitted to do this."""

    code, status = "FORBIDDEN", 403


class AccountDisabled(OrbitalError):
    """
    The operator has disabled the account.

    Args:
        reason: What the operator wrote for its user; empty when nothing.
    """

    code, status, close = "ACCOUNT_DISABLED", 403, 1008

    def __init__(self, reason: str = "") -> None:
        why = f": {reason.rstrip('.')}" if reason else ""
        super().__init__(f"This account is disabled{why}. Ask the person who runs this server.", reason=reason)


class SignupsClosed(OrbitalError):
    """Signing up is disabled, or requires a valid invitation; `details.signups` is the policy."""

    code, status = "SIGNUPS_CLOSED", 403


class InvitationRefused(SignupsClosed):
    """The invitation is unknown, used or expired; the client cannot find out which."""

    def __init__(self) -> None:
        super().__init__(
            "This invitation is unknown, used or expired. Ask for a new one.", field="invitation", signups="invited"
        )


class ResetRefused(OrbitalError):
    """The one-time code is unknown, used or expired; the response does not reveal which."""

    code, status = "FORBIDDEN", 403

    def __init__(self) -> None:
        super().__init__(
            "This code is unknown, used or expired. Ask the person who runs this server for a new one.", field="code"
        )


class NotFound(OrbitalError):
    """The resource does not exist."""

    code, status = "NOT_FOUND", 404


class MethodNotAllowed(OrbitalError):
    """The path exists, but not for this method."""

    code, status = "METHOD_NOT_ALLOWED", 405


class UpgradeRequired(OrbitalError):
    """The path serves only WebSocket (RFC 9110 §15.5.22)."""

    code, status = "UPGRADE_REQUIRED", 426

    @property
    def headers(self) -> dict[str, str]:
        """RFC 6455 §4.4: name the version that is spoken."""
        return {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}


class UsernameTaken(OrbitalError):
    """The username is taken; case is ignored."""

    code, status = "USERNAME_TAKEN", 409


class AlreadyMember(OrbitalError):
    """The caller is in the group."""

    code, status = "ALREADY_MEMBER", 409


class EpochChanged(OrbitalError):
    """The group's members or devices changed since the post's `if_epoch`; `details.epoch` is the group's epoch now."""

    code, status = "EPOCH_CHANGED", 409

    def __init__(self, *, epoch: int) -> None:
        super().__init__(
            f"The group's epoch is {epoch} now. Process its log up to that number, seal the content again for the "
            "devices of now, and post it under the same idempotency key.",
            epoch=epoch,
        )


class Conflict(OrbitalError):
    """The same idempotency key or chunk index was used before with other content."""

    code, status = "CONFLICT", 409


class UploadEnded(Conflict):
    """The medium is already in the requested state: complete, or expired. A repeated request gets this error."""


class RoleUnchanged(Conflict):
    """The member has the requested role already; nothing is emitted."""


class Gone(OrbitalError):
    """The resource existed and has been deleted."""

    code, status = "GONE", 410


class AlreadyDeleted(Gone):
    """The content was deleted before; nothing is emitted, and a repeated DELETE is answered as the first."""


class PositionLost(Gone):
    """Events after the reader's position are no longer kept; `details.oldest_seq` is the first that is."""

    def __init__(self, *, oldest_seq: int) -> None:
        super().__init__(
            f"Some events after that position are no longer kept; the oldest is number {oldest_seq}.",
            oldest_seq=oldest_seq,
        )


class PayloadTooLarge(OrbitalError):
    """The body, or an envelope in it, is over its limit."""

    code, status, close = "PAYLOAD_TOO_LARGE", 413, 1009


class FileTooLarge(OrbitalError):
    """The file is over the limit for one file."""

    code, status = "FILE_TOO_LARGE", 413


class QuotaExceeded(OrbitalError):
    """The group's quota is exhausted."""

    code, status = "QUOTA_EXCEEDED", 413


class StorageFull(OrbitalError):
    """The server has no space for media (RFC 4918 §11.5); messages are still stored."""

    code, status = "STORAGE_FULL", 507


class PreconditionFailed(OrbitalError):
    """The medium does not match If-Match (RFC 9110 §15.5.13)."""

    code, status = "PRECONDITION_FAILED", 412


class RangeNotSatisfiable(OrbitalError):
    """The medium has no bytes in the requested range (RFC 9110 §15.5.17)."""

    code, status = "RANGE_NOT_SATISFIABLE", 416

    def __init__(self, *, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        super().__init__(f"The medium has {size_bytes} bytes, none of them in that range.", size_bytes=size_bytes)

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9110 §14.4: say how long it is."""
        return {"Content-Range": f"bytes */{self.size_bytes}"}


class _RetryLater(OrbitalError):
    """An answer with a `Retry-After`."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: int = 1, **details: Any) -> None:
        self.retry_after_s = max(1, retry_after_s)
        super().__init__(message, retry_after=self.retry_after_s, **details)

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9110 §10.2.3, in whole seconds."""
        return {"Retry-After": str(self.retry_after_s)}


class TooManyRequests(_RetryLater):
    """A limit was reached; `Retry-After` says when to come back."""

    code, status, close = "TOO_MANY_REQUESTS", 429, 1008
    limit = "requests"
    """What there was too much of, for the log."""


class Unavailable(_RetryLater):
    """The server is shutting down, or its database cannot be reached; nothing was done."""

    code, status, close = "UNAVAILABLE", 503, 1012


class Busy(Unavailable):
    """The server has more to do than it can in time; it and its database are well."""


class UploadLost(Unavailable):
    """The chunk's upload was abandoned meanwhile; sending the chunk again starts a new upload."""


class SettingsInvalid(Exception):
    """A setting is invalid; the text is a sentence for the operator."""


class DatabaseRefused(Exception):
    """The database cannot be opened; the text is a sentence for the operator."""
