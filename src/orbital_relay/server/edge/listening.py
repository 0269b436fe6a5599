"""Listening sockets: addresses, a Unix socket, or sockets from systemd."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from orbital_relay.config import Settings
from orbital_relay.errors import SettingsInvalid

FIRST_FD: Final = 3
"""The number of the first socket that systemd passes (sd_listen_fds(3), SD_LISTEN_FDS_START)."""
REDIRECT_NAME: Final = "redirect"
"""`FileDescriptorName=` of a socket unit whose requests are redirected to HTTPS."""
UDS_MODE: Final = 0o660
"""Rights of a Unix socket: its owner and its group connect."""


class ListenAddress(msgspec.Struct, frozen=True):
    """
    Where a server listens, for people.

    Attributes:
        host: The first address; empty for a Unix socket.
        port: Its port; 0 for a Unix socket.
        tls: Whether TLS is spoken there.
        uds: The path of a Unix socket.
    """

    host: str
    port: int
    tls: bool = False
    uds: str | None = None

    @property
    def url(self) -> str:
        """The address to open: one that reaches a server that listens everywhere."""
        if self.uds is not None:
            return f"unix:{self.uds}"
        host = self.host
        if host in {"0.0.0.0", "::", "127.0.0.1", "::1"}:  # noqa: S104 - compared, not bound
            host = "localhost"
        scheme = "https" if self.tls else "http"
        # RFC 6874 §2: a zone is separated by `%25` in an address.
        return (
            f"{scheme}://[{host.replace('%', '%25')}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )


class Listeners:
    """
    The sockets of one server, bound and closed together.

    Args:
        serving: Those that serve; at least one.
        redirecting: Those whose requests are redirected to HTTPS.
        shared: Whether several processes accept from the same sockets; else each binds its own to the same port.
        uds: The path of a Unix socket that is removed when this is closed.
    """

    def __init__(
        self,
        serving: list[socket.socket],
        redirecting: list[socket.socket],
        *,
        shared: bool = False,
        uds: Path | None = None,
    ) -> None:
        self.serving = serving
        self.redirecting = redirecting
        self.shared = shared
        self._uds = None if uds is None else (uds, uds.lstat().st_ino)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker gets: the sockets; the file of a Unix socket stays the first process'."""
        return {**vars(self), "_uds": None}

    def settings(self, settings: Settings) -> Settings:
        """Return the settings with the places that are really bound, such as a port that the system chose."""
        first = self.serving[0]
        if first.family == socket.AF_UNIX:
            return msgspec.structs.replace(settings, uds=Path(first.getsockname()))
        # The widest address counts: whether only this machine reaches the server is judged by it.
        hosts = [host_of(one) for one in self.serving if one.family != socket.AF_UNIX]
        host = settings.host if not self.shared else next((one for one in hosts if not _loopback(one)), hosts[0])
        redirect = self.redirecting[0].getsockname()[1] if self.redirecting else settings.redirect_port
        return msgspec.structs.replace(settings, host=host, port=first.getsockname()[1], redirect_port=redirect)

    def address(self, *, tls: bool) -> ListenAddress:
        """Return where the first socket is."""
        first = self.serving[0]
        if first.family == socket.AF_UNIX:
            return ListenAddress("", 0, tls, str(first.getsockname()))
        return ListenAddress(host_of(first), first.getsockname()[1], tls)

    def close(self) -> None:
        """Close all, and remove the Unix socket unless another server has put its own there."""
        for one in (*self.serving, *self.redirecting):
            one.close()
        if self._uds is not None:
            path, inode = self._uds
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_ino == inode:
                    path.unlink()


def open_listeners(settings: Settings, given: Listeners | None = None) -> Listeners:
    """
    Return the sockets that were given, else those that the settings name.

    Raises:
        SettingsInvalid: If a place is taken, or the machine does not have it.
    """
    if given is not None:
        return given
    if settings.uds is not None:
        return Listeners([_bind_uds(settings.uds)], [], shared=True, uds=settings.uds)
    serving = listen(settings)
    try:
        redirecting = [] if settings.redirect_port is None else listen(settings, port=settings.redirect_port)
    except SettingsInvalid:
        for one in serving:
            one.close()
        raise
    return Listeners(serving, redirecting)


def inherited(variables: Mapping[str, str], *, tls: bool) -> Listeners | None:
    """
    Return the sockets that systemd opened for this process; None if there are none.

    The protocol is sd_listen_fds(3). A socket with the name `redirect` redirects to HTTPS.

    Args:
        variables: `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`.
        tls: Whether the server has a certificate.

    Raises:
        SettingsInvalid: If one of them cannot be used.
    """
    pid, count, names = (variables.get(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    named = names.split(":")
    serving: list[socket.socket] = []
    redirecting: list[socket.socket] = []
    for number in range(int(count)):
        try:
            one = socket.socket(fileno=FIRST_FD + number)
        except OSError as exc:
            raise SettingsInvalid(f"The file descriptor {FIRST_FD + number} of LISTEN_FDS is not a socket.") from exc
        one.set_inheritable(False)
        one.setblocking(False)
        if one.type != socket.SOCK_STREAM or one.family not in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}:
            raise SettingsInvalid("A socket of LISTEN_FDS is not a stream socket; the socket unit needs ListenStream=.")
        (redirecting if named[number : number + 1] == [REDIRECT_NAME] else serving).append(one)
    if not serving:
        raise SettingsInvalid(f"Every socket of LISTEN_FDS has the name {REDIRECT_NAME}; one without it has to serve.")
    if redirecting and not tls:
        raise SettingsInvalid(f"A socket of LISTEN_FDS has the name {REDIRECT_NAME}, and ORBITAL_TLS_CERT is not set.")
    return Listeners(serving, redirecting, shared=True)


def listen(settings: Settings, *, port: int | None = None) -> list[socket.socket]:
    """
    Bind the port at every address that the host has; several workers share it.

    `localhost` is 127.0.0.1 and ::1, whatever the machine's table of hosts says (RFC 6761 §6.3): browsers ask no
    resolver for it, and many tables name it for one family alone.

    Args:
        settings: The host, and whether there are workers.
        port: Another port than the settings'.

    Raises:
        SettingsInvalid: If it is taken, or the machine has none of the addresses.
    """
    wanted = settings.port if port is None else port
    made: list[socket.socket] = []
    try:
        found = [
            one
            for host in (("127.0.0.1", "::1") if settings.host.lower() == "localhost" else (settings.host,))
            for one in socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ]
        # 127.0.0.1 first: it is the address that is shown, and the one whose port the others take.
        places = sorted(dict.fromkeys((family, place) for family, _, _, _, place in found), key=lambda one: one[0])
        for family, place in places:
            try:
                made.append(_bind(family, place, made, shared=settings.workers > 1))
            except OSError as exc:
                # A name may have an address of a family that this machine does not have, as ::1 in a container.
                if exc.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT} or (place == places[-1][1] and not made):
                    raise
    except OSError as exc:
        for listening in made:
            listening.close()
        flags = "--port, or an address of this machine with --host" if port is None else "--redirect-port"
        raise SettingsInvalid(
            f"Port {wanted} of {settings.host} cannot be used: {exc.strerror}. Choose another with {flags}."
        ) from exc
    return made


def host_of(listening: socket.socket) -> str:
    """Return the address that a socket is bound to; a link-local one with its zone, `fe80::1%eth0` (RFC 4007 §11)."""
    host, _, *more = listening.getsockname()
    return f"{host}%{socket.if_indextoname(more[1])}" if more and more[1] else str(host)


def _loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def _bind(family: int, place: tuple[Any, ...], made: list[socket.socket], *, shared: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if made and family == socket.AF_INET6:
            # IPv4 has a socket of its own here.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        port = made[0].getsockname()[1] if made else place[1]
        listening.bind((place[0], port, *place[2:]))
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _bind_uds(path: Path) -> socket.socket:
    """Bind a Unix socket; one that a server left behind when it was killed is replaced."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise SettingsInvalid(f"ORBITAL_UDS, {path}, exists and is not a socket. Choose another path.")
            if _answers(path):
                raise SettingsInvalid(
                    f"Another server listens at ORBITAL_UDS, {path}. Stop it, or choose another path."
                )
            path.unlink()
        listening.bind(str(path))
        path.chmod(UDS_MODE)
        listening.setblocking(False)
    except OSError as exc:
        listening.close()
        raise SettingsInvalid(
            f"ORBITAL_UDS, {path}, cannot be used: {exc.strerror or exc}. "
            "Its folder has to exist, the server needs the right to write there, and a path has at most 107 bytes."
        ) from exc
    except SettingsInvalid:
        listening.close()
        raise
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # Its queue is full, or it may not be asked: somebody is there.
            return True
        return True
