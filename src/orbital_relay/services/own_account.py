"""The caller's own account: display name, password and its reset, list of logins (sessions), deletion."""

from __future__ import annotations

from orbital_relay import wire
from orbital_relay.api import logins as api
from orbital_relay.api.accounts import SignedUp
from orbital_relay.core.refusals import no_account
from orbital_relay.errors import AccountDisabled, Conflict, InvalidCredentials, NotFound, ResetRefused
from orbital_relay.model import Account, Login, Principal
from orbital_relay.services.accounts import check_password
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.display_names import read_display_name
from orbital_relay.services.invitations import digest_of, is_invitation


async def own_account(context: ServiceContext, principal: Principal) -> api.OwnAccount:
    """Return the caller's account."""
    account = await _account(context, principal)
    return api.OwnAccount(
        user_id=account.user_id,
        username=account.username,
        admin=await context.store.is_admin(account.key),
        has_password=account.password_hash is not None,
        display_name=account.display_name,
    )


async def set_display_name(context: ServiceContext, principal: Principal, body: api.DisplayNameBody) -> api.OwnAccount:
    """
    Give the caller another display name, or none; return the account.

    Raises:
        ValidationFailed: If the name breaks the rules.
    """
    name = None if body.display_name is None else read_display_name(body.display_name)
    await context.store.set_display_name(principal.key, name)
    return await own_account(context, principal)


async def change_password(context: ServiceContext, principal: Principal, body: api.PasswordBody) -> api.IssuedToken:
    """
    Give the caller another password, end all of the caller's logins, and open one for the caller.

    Raises:
        ValidationFailed: If the new password breaks the rules.
        InvalidCredentials: If the old one is wrong.
        Conflict: If the caller has no password here.
    """
    check_password(body.new_password, field="new_password")
    account = await _with_password(context, principal, body.old_password)
    name = await _name_of(context, principal)
    await context.store.set_password(account.key, await context.passwords.hash(body.new_password))
    await context.logins.end_all(account.user_id)
    issued = await context.logins.open(account.user_id, account.username, name=name)
    return api.IssuedToken(token=issued.token, expires_at=wire.iso(issued.expires_at_s * 1000))


async def reset_password(context: ServiceContext, body: api.ResetBody) -> SignedUp:
    """
    Set another password by a one-time code, end all logins of the account, and open one.

    Raises:
        ValidationFailed: If the new password breaks the rules.
        ResetRefused: If the code is unknown, used or expired.
        AccountDisabled: If the account is disabled.
    """
    check_password(body.new_password, field="new_password")
    if not is_invitation(body.code):
        raise ResetRefused
    digest = digest_of(body.code)
    account = await context.store.reset_opens(digest, now_ms=context.clock.wall_ms())
    if account is None:
        raise ResetRefused
    if account.disabled is not None:
        raise AccountDisabled(account.disabled)
    password_hash = await context.passwords.hash(body.new_password)
    await context.store.reset_password(digest, password_hash=password_hash, now_ms=context.clock.wall_ms())
    await context.logins.end_all(account.user_id)
    issued = await context.logins.open(account.user_id, account.username)
    return SignedUp(user_id=account.user_id, username=account.username, token=issued.token)


async def delete_account(context: ServiceContext, principal: Principal, body: api.DeleteAccountBody) -> None:
    """
    Have the caller's account erased: at once it takes no login, and the running servers erase the rest.

    Raises:
        InvalidCredentials: If the password is wrong.
        Conflict: If the caller has no password here.
    """
    account = await _with_password(context, principal, body.password)
    await context.store.request_erasure(account.key, at_ms=context.clock.wall_ms())
    await context.logins.end_all(account.user_id)


async def sessions(context: ServiceContext, principal: Principal, *, limit: int, offset: int) -> api.LoginSessions:
    """Return a page of the caller's logins, the last used first."""
    found, has_more = await context.store.logins(
        principal.key, now_ms=context.clock.wall_ms(), limit=limit, offset=offset
    )
    return api.LoginSessions(sessions=[session(each, current=principal.login_id) for each in found], has_more=has_more)


def session(login: Login, *, current: str = "") -> api.LoginSession:
    """Return a login as its user, or an administrator, sees it."""
    return api.LoginSession(
        session_id=login.login_id,
        name=login.name,
        created_at=wire.iso(login.created_ms),
        last_used_at=wire.iso(login.seen_ms),
        expires_at=wire.iso(login.expires_ms),
        current=login.login_id == current,
    )


async def end_session(context: ServiceContext, principal: Principal, session_id: str) -> None:
    """
    End a login of the caller.

    Raises:
        NotFound: If the caller has no such login.
    """
    if "\0" in session_id or not await context.logins.end(principal.key, session_id):
        raise NotFound("You have no such session. `GET /api/sessions` lists them.")


async def _name_of(context: ServiceContext, principal: Principal) -> str:
    """Return what the caller's own login is called."""
    found, _ = await context.store.logins(principal.key, now_ms=context.clock.wall_ms(), limit=500)
    return next((each.name for each in found if each.login_id == principal.login_id), "")


async def _account(context: ServiceContext, principal: Principal) -> Account:
    account = await context.store.find_user(principal.user_id)
    if account is None:
        raise no_account()
    return account


async def _with_password(context: ServiceContext, principal: Principal, password: str) -> Account:
    """
    Return the caller's account, if the password holds.

    Raises:
        InvalidCredentials: If it is wrong.
        Conflict: If the account has none.
    """
    account = await _account(context, principal)
    if account.password_hash is None:
        raise Conflict("Your account has no password here: another service issues your tokens.")
    if not await context.passwords.verify(account.password_hash, password):
        raise InvalidCredentials(known=account.username)
    return account
