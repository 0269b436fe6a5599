"""The caller's own account: display name, password, logins, token renewal, deletion."""

from __future__ import annotations

import logging
from typing import Final

from orbital_relay import wire
from orbital_relay.api.accounts import SignedUp
from orbital_relay.api.logins import (
    DeleteAccountBody,
    DisplayNameBody,
    IssuedToken,
    LoginSessions,
    OwnAccount,
    PasswordBody,
    ResetBody,
)
from orbital_relay.errors import AccountDisabled, Conflict, Forbidden, InvalidCredentials, NotFound, ResetRefused
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.http.routes.paging import PageQuery
from orbital_relay.services import own_account
from orbital_relay.services.accounts import name_key

log = logging.getLogger("orbital.auth")

_TAG: Final = "Accounts"
_BODY_BYTES: Final = 64 * 1024


@endpoint(
    "GET", "/api/account", tag=_TAG, answers=[Answer(200, "The caller's account.", OwnAccount)], errors=[NotFound]
)
async def get_account(call: Call) -> Reply:
    """Get the caller's account, and whether it is a server administrator."""
    return Reply.json(await own_account.own_account(call.server.services, call.principal))


@endpoint(
    "PUT",
    "/api/account/display-name",
    tag=_TAG,
    answers=[Answer(200, "The account with its new display name.", OwnAccount)],
    errors=[NotFound],
    body_limit=_BODY_BYTES,
)
async def put_display_name(call: Call, body: DisplayNameBody) -> Reply:
    """
    Replace the caller's display name: 1 to 64 characters of any script; null removes it.

    It is stored in Unicode's form NFC. Control characters and overrides of the direction of writing are refused. It is
    in the account, and beside `username` in lists of members; the log and logging in know only the `username`.
    """
    return Reply.json(await own_account.set_display_name(call.server.services, call.principal, body))


@endpoint(
    "DELETE",
    "/api/account",
    tag=_TAG,
    answers=[Answer(204, "The account accepts no more logins, and is erased within seconds.")],
    errors=[InvalidCredentials, Conflict, NotFound],
    limited=True,
    body_limit=_BODY_BYTES,
)
async def delete_account(call: Call, body: DeleteAccountBody) -> Reply:
    """
    Delete the caller's account; this cannot be undone.

    The user leaves every group, which emits `member_left`. Name, id, password, keys and media are deleted at once;
    messages are deleted when the retention of the log ends.
    """
    await _count(call)
    try:
        await own_account.delete_account(call.server.services, call.principal, body)
    except InvalidCredentials as exc:
        _refused(call, exc)
        raise
    return Reply(204)


@endpoint(
    "POST",
    "/api/password",
    tag=_TAG,
    answers=[Answer(200, "The password is changed; the token belongs to a new login.", IssuedToken)],
    errors=[InvalidCredentials, Conflict, NotFound],
    limited=True,
    body_limit=_BODY_BYTES,
)
async def change_password(call: Call, body: PasswordBody) -> Reply:
    """
    Change the caller's password.

    All logins of the user end, including the caller's: WebSockets are closed with 1008, and only the token in the
    response is valid. A wrong `old_password` is 401 `INVALID_CREDENTIALS`, and the token of the request stays valid.
    """
    await _count(call)
    try:
        return Reply.json(await own_account.change_password(call.server.services, call.principal, body))
    except InvalidCredentials as exc:
        _refused(call, exc)
        raise


@endpoint(
    "POST",
    "/api/password/reset",
    tag=_TAG,
    answers=[Answer(200, "The password is set; the token belongs to a new login.", SignedUp)],
    errors=[ResetRefused, AccountDisabled],
    auth=False,
    limited=True,
    body_limit=_BODY_BYTES,
)
async def reset_password(call: Call, body: ResetBody) -> Reply:
    """
    Set a new password with a one-time code from the operator.

    All logins of the user end. The code is valid once.
    """
    # Codes cannot be guessed: the limit keeps the hashing of passwords within bounds.
    await call.server.limits.login(call.address, name_key(""))
    try:
        return Reply.json(await own_account.reset_password(call.server.services, body))
    except ResetRefused:
        log.warning("password reset refused", extra={"address": call.address, "request_id": call.request_id})
        raise


@endpoint("GET", "/api/sessions", tag=_TAG, answers=[Answer(200, "A page of the caller's logins.", LoginSessions)])
async def list_sessions(call: Call, query: PageQuery) -> Reply:
    """
    List the caller's active logins.

    Tokens of an outside identity provider, and tokens from versions that did not record logins, are not listed.
    """
    page = await own_account.sessions(call.server.services, call.principal, limit=query.limit, offset=query.offset)
    return Reply.json(page)


@endpoint(
    "DELETE",
    "/api/sessions/{session_id}",
    tag=_TAG,
    answers=[Answer(204, "All tokens of that login are revoked on every server.")],
    errors=[NotFound],
)
async def end_session(call: Call) -> Reply:
    """End one of the caller's logins: revoke its tokens and close its WebSockets with 1008."""
    await own_account.end_session(call.server.services, call.principal, call.text("session_id"))
    return Reply(204)


@endpoint(
    "POST",
    "/api/session/renew",
    tag=_TAG,
    answers=[Answer(200, "A newer token of the same login.", IssuedToken)],
    errors=[Forbidden],
)
async def renew_session(call: Call) -> Reply:
    """
    Renew a token that is still valid, without the password.

    Both tokens belong to the same login and are revoked together; the old one stays valid until it expires.
    """
    issued = await call.server.logins.renew(call.principal)
    return Reply.json(IssuedToken(token=issued.token, expires_at=wire.iso(issued.expires_at_s * 1000)))


async def _count(call: Call) -> None:
    """Count a password that is tried: a stolen token must not become a way to guess the password."""
    await call.server.limits.login(call.address, name_key(call.principal.username))


def _refused(call: Call, exc: InvalidCredentials) -> None:
    extra = {"address": call.address, "username": exc.known, "request_id": call.request_id}
    log.warning("password refused", extra=extra)


ENDPOINTS: Final = (
    get_account,
    put_display_name,
    delete_account,
    change_password,
    reset_password,
    list_sessions,
    end_session,
    renew_session,
)
