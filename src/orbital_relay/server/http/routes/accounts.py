"""Signing up, logging in and out, and tickets for the WebSocket."""

from __future__ import annotations

import logging
from typing import Final

from orbital_relay.api.accounts import LoggedIn, LoginBody, SignedUp, SignupBody, WsTicket
from orbital_relay.errors import AccountDisabled, Conflict, InvalidCredentials, SignupsClosed, UsernameTaken
from orbital_relay.server.auth.credentials import bearer
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.http.routes.about import signup_policy
from orbital_relay.services import accounts

log = logging.getLogger("orbital.auth")

_TAG: Final = "Accounts"
# What comes without a token is kept short: a public key of 16 KiB, a name, a password.
_BODY_BYTES: Final = 64 * 1024


@endpoint(
    "POST",
    "/api/signup",
    tag=_TAG,
    answers=[Answer(201, "The account was created.", SignedUp)],
    errors=[UsernameTaken, Conflict, SignupsClosed],
    auth=False,
    idempotent=True,
    limited=True,
    body_limit=_BODY_BYTES,
)
async def signup(call: Call, body: SignupBody) -> Reply:
    """
    Sign up.

    `public_key` is forwarded unchanged to the members of the user's groups. With an `Idempotency-Key`, a client
    whose response was lost can retry within 24 hours: it gets the same account and a new token.

    `GET /api/about` returns the policy: with `invited`, `invitation` is required: an operator's invitation, which is
    valid for one account, or the invite code of a group, which can be used again.
    """
    accounts.check_signup(body)
    idempotency_key = accounts.signup_key(call.idempotency_key, body)
    await call.server.limits.signup(call.address)
    try:
        answer = await accounts.sign_up(
            call.server.services, body, policy=signup_policy(call), idempotency_key=idempotency_key
        )
        return Reply.json(answer, status=201)
    except (UsernameTaken, Conflict, SignupsClosed) as exc:
        extra = {"address": call.address, "code": exc.code, "request_id": call.request_id}
        log.warning("signup refused", extra=extra)
        raise


@endpoint(
    "POST",
    "/api/login",
    tag=_TAG,
    answers=[Answer(200, "The password is correct.", LoggedIn)],
    errors=[InvalidCredentials, AccountDisabled],
    auth=False,
    limited=True,
    body_limit=_BODY_BYTES,
)
async def login(call: Call, body: LoginBody) -> Reply:
    """
    Log in.

    Neither the answer nor its timing reveals whether a name exists.
    """
    await call.server.limits.login(call.address, accounts.name_key(body.username))
    try:
        return Reply.json(await accounts.log_in(call.server.services, body))
    except AccountDisabled:
        # Only a right password finds out, so the name is that of an account.
        log.warning("login refused", extra={"address": call.address, "username": body.username, "code": "disabled"})
        raise
    except InvalidCredentials as exc:
        # Only the name of an account is written: people type passwords into the wrong field.
        extra = {"address": call.address, "username": exc.known or "(no account)", "request_id": call.request_id}
        log.warning("login refused", extra=extra)
        raise


@endpoint("POST", "/api/logout", tag=_TAG, answers=[Answer(204, "The token is no longer valid on any server.")])
async def logout(call: Call) -> Reply:
    """
    Log out: revoke the token that the request carries.

    WebSockets that were opened with it are closed with 1008. All tokens of the same login are revoked, including
    renewed ones; the user's other logins remain valid.
    """
    await call.server.logins.log_out(call.principal)
    return Reply(204)


@endpoint("POST", "/api/ws-ticket", tag=_TAG, answers=[Answer(200, "A ticket for one handshake.", WsTicket)])
async def ws_ticket(call: Call) -> Reply:
    """
    Get a ticket for the WebSocket's `?ticket=`.

    A browser cannot read why a handshake was refused; here it can read the 401, or the 429 with its `Retry-After`.
    A ticket does not count as a connection attempt, but the response is 429 while the connection limit is exhausted.
    """
    await call.server.admission.peek(call.address, call.principal)
    shown = next(value for name, value in call.scope["headers"] if name == b"authorization")
    token = bearer(shown.decode("latin-1")) or ""
    ticket, expires_in = await call.server.auth.issue_ticket(call.principal, token=token)
    return Reply.json(WsTicket(ticket=ticket, expires_in=expires_in))


ENDPOINTS: Final = (signup, login, logout, ws_ticket)
