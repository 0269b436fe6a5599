"""Password hashing and verification by Argon2, in threads, so that the event loop is not blocked."""

from __future__ import annotations

import asyncio
import logging
import secrets
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import HashingError, VerificationError, VerifyMismatchError
from argon2.low_level import ARGON2_VERSION

from orbital_relay.errors import Unavailable
from orbital_relay.services import context as services_context

log = logging.getLogger("orbital.auth")

Found = TypeVar("Found")

MAX_CHARS: Final = 1024
"""Longest password that is hashed; signing up takes none that is longer."""
THREADS: Final = 2
"""Hashes in progress at one time: at 19 MiB each, what a server with 512 MiB has to spare."""
MAX_WAITING: Final = 100
"""Hashes that wait for a thread: at 30 ms each some 1.5 s, after which an answer would come too late to be of use."""

# OWASP Password Storage Cheat Sheet, Argon2id: m=19456 (19 MiB), t=2, p=1, the first of its equally strong choices
# that a small server can afford several times at once; 31 ms on one core of ours.
MEMORY_KIB: Final = 19_456
PASSES: Final = 2
LANES: Final = 1


def _normal(password: str) -> str:
    """RFC 8265 §4.2: one keyboard's ä is the other's a with a diaeresis."""
    return unicodedata.normalize("NFC", password)


def _bytes(password: str) -> bytes:
    return _normal(password).encode("utf-8", "surrogatepass")


def _unpadded(data: bytes) -> str:
    """The base64 of the PHC string format."""
    return b64encode(data).decode().rstrip("=")


class Passwords:
    """
    Hashes passwords with Argon2id (RFC 9106) on a few threads of its own.

    It never hashes on the loop, and never lets more wait than can be answered soon.

    Args:
        threads: Hashes at one time.
        max_waiting: Most that wait for a thread.
    """

    def __init__(self, *, threads: int = THREADS, max_waiting: int = MAX_WAITING) -> None:
        self._hasher = PasswordHasher(
            time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, hash_len=32, salt_len=16, type=Type.ID
        )
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="orbital-passwords")
        self._room = threads + max_waiting
        self._under_way = 0
        # What is compared when there is no such user: it has the form and cost of all others, and no password's bits.
        self._nobody = (
            f"$argon2id$v={ARGON2_VERSION}$m={MEMORY_KIB},t={PASSES},p={LANES}"
            f"${_unpadded(secrets.token_bytes(16))}${_unpadded(secrets.token_bytes(32))}"
        )

    async def hash(self, password: str) -> str:
        """
        Return what is kept of a password: algorithm, cost, salt and hash in one text (PHC string format).

        Raises:
            Unavailable: If too many wait already, or the machine has no memory for it.
        """
        return await self._run(lambda: self._hasher.hash(_bytes(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """
        Return whether a password matches the stored hash.

        It takes the same time when there is none, so that nobody learns from a clock which names exist.

        Args:
            password_hash: What `hash` returned; None when there is no such user, or one without a password.
            password: What was typed.

        Raises:
            Unavailable: If too many wait already, or the machine has no memory for it.
        """
        if len(password) > MAX_CHARS:
            # It can be nobody's.
            password_hash, password = None, password[:MAX_CHARS]
        known = password_hash is not None
        against = self._nobody if password_hash is None else password_hash
        return await self._run(lambda: self._matches(against, password)) and known

    async def close(self) -> None:
        """Finish what is in progress, and end the threads."""
        await asyncio.to_thread(self._pool.shutdown)

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, _bytes(password))
        except VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], Found]) -> Found:
        if self._under_way >= self._room:
            raise Unavailable("Too many logins are in progress; try again in a moment.", retry_after_s=2)
        try:
            future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        except (MemoryError, RuntimeError) as exc:
            # No memory for the thread itself.
            raise _no_memory(exc) from exc
        self._under_way += 1
        # Counted until the thread is done with it, also when the caller was cancelled.
        future.add_done_callback(self._done)
        try:
            return await asyncio.shield(future)
        except (MemoryError, HashingError, VerificationError) as exc:
            raise _no_memory(exc) from exc

    def _done(self, future: asyncio.Future[Found]) -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()  # seen, also when nobody waits for it any more


def _no_memory(cause: Exception) -> Unavailable:
    """Log that a hash got no memory, and return the answer: the login is possible once others are done."""
    log.warning("a password could not be hashed: the machine has too little memory", extra={"reason": str(cause)})
    return Unavailable("The server has too little memory for a login now; try again in a moment.", retry_after_s=2)


_: type[services_context.Passwords] = Passwords
