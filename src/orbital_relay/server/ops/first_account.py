"""The warning of a new server with open sign-ups: a stranger could create its first account, the administrator's."""

from __future__ import annotations

import logging
from typing import Protocol

from orbital_relay.config import Settings

log = logging.getLogger("orbital.server")


class _Accounts(Protocol):
    async def is_new(self) -> bool:
        """Return whether no account was ever made."""
        ...


async def warn_of_strangers(settings: Settings, accounts: _Accounts) -> None:
    """
    Log a warning if sign-ups are open to other machines and nobody has an account.

    The first account of a server is its administrator, and a new server on a public address is found within hours.
    """
    if settings.local or settings.signup_policy(forwarded=True) != "open" or not await accounts.is_new():
        return
    log.warning(
        "the first to sign up becomes the administrator, also a stranger",
        extra={
            "reason": f"ORBITAL_SIGNUPS is open on {settings.host}, and nobody has an account here. Make your own now, "
            "before you publish the address: orbital user add NAME. If somebody was faster: orbital user promote NAME, "
            "orbital user demote STRANGER, orbital user disable STRANGER."
        },
    )
