"""Checks of the network path as clients see it: TLS, proxy, path, addresses, upgrade, sizes, timeouts."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec

from orbital_relay.server.doctor.finding import Finding

WAIT_S: Final = 5.0
"""Longest wait for each answer."""
FORGED: Final = "192.0.2.77"
"""An address for documentation (RFC 5737), which no client has."""
CLOCK_S: Final = 30.0
"""Difference of clocks that makes a ticket of 30 seconds useless."""
RENEW_S: Final = 14 * 86_400
"""A certificate that ends so soon should have been renewed: Let's Encrypt's are renewed 30 days before."""
PAUSE_S: Final = 1.0
"""The pause in a request; the server makes one of the same length in a response."""
PAUSE_ATTEMPTS: Final = 2
"""How often a pause must get lost before the proxy is said to buffer."""
BEGINNING_BYTES: Final = 64 * 1024
"""Sent before the pause: Caddy forwards a request with the first 4 KiB of its body, Apache with the first 16 KiB."""

_HANDSHAKE: Final = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "b3JiaXRhbCBkb2N0b3IhIQ=="),
)


class PublicAddress(msgspec.Struct, frozen=True):
    """
    An address, and how it is reached.

    Attributes:
        url: Without a slash at the end.
        cafile: Certificates that are trusted in place of the system's; None for those.
    """

    url: str
    cafile: Path | None = None

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection that is not open yet; it ignores proxies that the environment names."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.cafile)
            return http.client.HTTPSConnection(host, parts.port or 443, timeout=WAIT_S, context=context)
        return http.client.HTTPConnection(host, parts.port or 80, timeout=WAIT_S)

    def ask(self, path: str, *headers: tuple[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        """
        GET a path below the address; return status, headers and the first 64 KiB of the body.

        Raises:
            OSError, http.client.HTTPException: If there is no answer.
        """
        with closing(self.connect()) as connection:
            connection.putrequest("GET", urlsplit(self.url).path + path)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read(65_536)


def check_outside(address: PublicAddress, *, chunk_bytes: int, token: str | None = None) -> list[Finding]:
    """
    Look at a server from outside, in the order in which the faults hide each other.

    Args:
        address: The public address.
        chunk_bytes: Size of a chunk of a medium, which the proxy has to accept.
        token: A user's token, to find out how long an idle connection lives; not looked at without.
    """
    try:
        status, headers, body = address.ask("/api/about")
    except ssl.SSLCertVerificationError as exc:
        text = f"The certificate of {address.url} is not trusted: {exc.verify_message}."
        return [_problem(text, "Renew it, serve the whole chain (fullchain.pem), and check the name in it.")]
    except (OSError, http.client.HTTPException) as exc:
        text = f"{address.url} does not answer: {_reason(exc)}."
        return [_problem(text, "Check the name's DNS entry, the proxy, its port and the firewall.")]
    about = _json(body)
    if status != 200 or "version" not in about:
        text = f"{address.url}/api/about answers {status} and is not Orbital's."
        remedy = "Let the proxy pass this path on unchanged; a path in front belongs into --url and ORBITAL_PUBLIC_URL."
        if status in {502, 503, 504}:
            remedy = "The proxy does not reach Orbital: check that it runs, and its address in the proxy's settings."
        return [_problem(text, remedy)]
    found = [Finding("outside", "ok", f"{address.url} answers: Orbital {about['version']}.")]
    for check in (_tls, _clock, _addresses, _upgrade):
        found += check(address, headers)
    found += _sizes(address, chunk_bytes)
    found += _buffering(address)
    if not any(each.text == _DROPPED for each in found):
        found += _idle(address, token)
    return found


def _tls(address: PublicAddress, _headers: http.client.HTTPMessage) -> Iterator[Finding]:
    parts = urlsplit(address.url)
    if parts.scheme == "http":
        if parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
            text = f"{address.url} has no TLS: passwords and tokens can be read on the way."
            yield _problem(text, "Put a proxy with a certificate in front, or use --tls-cert.")
        return
    with closing(address.connect()) as connection:
        connection.connect()
        # With TLS it is an SSLSocket.
        certificate: dict[str, Any] = cast("Any", connection.sock).getpeercert()
    left_s = ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()
    if left_s < RENEW_S:
        text = f"The certificate of {address.url} ends in {left_s / 86_400:.1f} days."
        yield _note(text, "Renew it, and see why the automatic renewal did not: certbot renew --dry-run")


def _clock(address: PublicAddress, headers: http.client.HTTPMessage) -> Iterator[Finding]:
    date = headers["Date"]
    if date is None:
        return
    with suppress(ValueError):
        off_s = time.time() - parsedate_to_datetime(date).timestamp()
        if abs(off_s) > CLOCK_S:
            ahead = "ahead of" if off_s > 0 else "behind"
            text = f"This machine's clock is {abs(off_s):.0f} s {ahead} the Date of {address.url}."
            yield Finding("clock", "problem", text, "Set both clocks, and let them be kept by NTP.")
        else:
            yield Finding("clock", "ok", f"This machine's clock agrees with the Date of {address.url}.")


def _addresses(address: PublicAddress, _headers: http.client.HTTPMessage) -> Iterator[Finding]:
    plain, forged = (_json(address.ask("/health/client", *more)[2]) for more in ((), (("X-Forwarded-For", FORGED),)))
    if not {"address", "forwarded", "trusted"} <= plain.keys():
        yield _note(
            "The server does not say which address it sees.", "Let the proxy pass /health/client; or upgrade Orbital."
        )
    elif forged.get("address") == FORGED:
        text = (
            "A client can forge its address: the proxy passes X-Forwarded-For on as it came, and the server trusts it."
        )
        yield _problem(text, "Let the proxy replace the header; nginx: proxy_set_header X-Forwarded-For $remote_addr;")
    elif plain["forwarded"] and not plain["trusted"]:
        text = "The proxy's X-Forwarded-For is not trusted: all users count as one address, and share its limits."
        yield _problem(text, "Name the proxy's address in ORBITAL_TRUSTED_PROXIES.")
    elif plain["trusted"] and not plain["forwarded"]:
        text = (
            "The proxy is trusted and sends no X-Forwarded-For: all users count as its address, and share its limits."
        )
        yield _problem(text, "nginx: proxy_set_header X-Forwarded-For $remote_addr;")
    else:
        yield Finding("outside", "ok", f"The server sees this client as {plain['address']}.")


def _upgrade(address: PublicAddress, _headers: http.client.HTTPMessage) -> Iterator[Finding]:
    try:
        status, _, body = address.ask("/ws", *_HANDSHAKE)
    except (OSError, http.client.HTTPException) as exc:
        yield _problem(f"A WebSocket handshake at {address.url}/ws has no answer: {_reason(exc)}.", _UPGRADE)
        return
    code = _json(body).get("error")
    if status == 401 and code == "UNAUTHORIZED":
        yield Finding("outside", "ok", "A WebSocket handshake reaches the server.")
    elif code == "UPGRADE_REQUIRED":
        yield _problem(_DROPPED, _UPGRADE)
    elif code == "TOO_MANY_REQUESTS":
        yield _note(
            "A WebSocket handshake was not looked at: this address has used up its attempts.", "Try again in a minute."
        )
    else:
        yield _problem(
            f"A WebSocket handshake at {address.url}/ws is answered with {status}, which is not Orbital's.", _UPGRADE
        )


_DROPPED: Final = "The proxy drops the upgrade to WebSocket: clients cannot connect."
_UPGRADE: Final = (
    "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; "
    "other proxies: see the page Behind a proxy."
)


def _sizes(address: PublicAddress, chunk_bytes: int) -> Iterator[Finding]:
    status, body = _announce(address, chunk_bytes)
    # The server's own refusal is JSON; a proxy's is a page.
    if status == 413 and not _json(body):
        text = f"The proxy refuses bodies of {chunk_bytes} bytes, the size of a chunk: media cannot be sent."
        yield _problem(text, "nginx: client_max_body_size 8m; and more, if ORBITAL_MEDIA_CHUNK_BYTES is larger.")
    else:
        yield Finding("outside", "ok", f"Bodies of {chunk_bytes} bytes are accepted.")


def _buffering(address: PublicAddress) -> Iterator[Finding]:
    """Pause in a request and in a response: a proxy that buffers removes the pause."""
    try:
        request_as_sent = _passes_pauses(_request_pause_s, address)
        response_as_sent = _passes_pauses(_response_pause_s, address)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        text = f"Whether the proxy buffers is unknown: {address.url}/health/stream failed: {_reason(exc)}."
        yield _note(text, "Let the proxy forward /health/stream; or upgrade Orbital.")
        return
    if request_as_sent:
        yield Finding("outside", "ok", "The proxy passes bodies on as they come.")
    else:
        text = "The proxy waits for a whole body before it passes it on: the progress of uploads is not real."
        yield _note(text, "nginx: proxy_request_buffering off;")
    if response_as_sent:
        yield Finding("outside", "ok", "The proxy forwards responses as they arrive.")
    else:
        text = "The proxy buffers responses: downloads of media start late, and fill its memory or its disk."
        remedy = "nginx: proxy_buffering off; proxy_buffer_size 128k; elsewhere remove the module that buffers."
        yield _note(text, remedy)


def _passes_pauses(measure: Callable[[PublicAddress], float], address: PublicAddress) -> bool:
    # Buffering shows in each attempt; a delay of this process or of the network does not.
    return any(measure(address) > PAUSE_S / 2 for _ in range(PAUSE_ATTEMPTS))


def _request_pause_s(address: PublicAddress) -> float:
    """
    Send a body with a pause, and return how long it took to arrive at the server, in seconds.

    Raises:
        OSError, http.client.HTTPException: If there is no answer.
        ValueError: If the answer is not the server's.
    """
    with closing(address.connect()) as connection:
        connection.putrequest("POST", urlsplit(address.url).path + "/health/stream")
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(BEGINNING_BYTES + 1))
        connection.endheaders(b" " * BEGINNING_BYTES)
        time.sleep(PAUSE_S)
        connection.send(b" ")
        answer = connection.getresponse()
        reported = _json(answer.read(1024)).get("milliseconds")
    if answer.status != 200 or not isinstance(reported, int):
        raise ValueError(f"the answer is {answer.status} and not the server's")
    return reported / 1000


def _response_pause_s(address: PublicAddress) -> float:
    """
    Return the time between the first and the second line of `/health/stream`, in seconds.

    Raises:
        OSError, http.client.HTTPException: If there is no answer.
        ValueError: If the answer is not the server's.
    """
    with closing(address.connect()) as connection:
        connection.putrequest("GET", urlsplit(address.url).path + "/health/stream")
        connection.endheaders()
        answer = connection.getresponse()
        lines, received_s = [], []
        for _ in range(2):
            lines.append(answer.readline(1024))
            received_s.append(time.monotonic())
    if answer.status != 200 or [_json(line).get("line") for line in lines] != [1, 2]:
        raise ValueError(f"the answer is {answer.status} and not the server's")
    return received_s[1] - received_s[0]


def _announce(address: PublicAddress, size: int) -> tuple[int | None, bytes]:
    """Announce a body that is never sent; return status and body of the answer, None without one in time."""
    with closing(address.connect()) as connection:
        try:
            connection.putrequest("POST", urlsplit(address.url).path + "/api/groups")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(size))
            connection.putheader("Expect", "100-continue")
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read(65_536)
        except (OSError, http.client.HTTPException):
            return None, b""


def _idle(address: PublicAddress, token: str | None) -> Iterator[Finding]:
    """Hold a connection on which nothing is sent until after the server's first ping."""
    if token is None:
        text = "How long an idle connection lives was not looked at."
        yield Finding("outside", "ok", f"{text} Give a token: ORBITAL_TOKEN=$(orbital token NAME)")
        return
    from websockets.exceptions import ConnectionClosed, WebSocketException  # noqa: PLC0415 - only here
    from websockets.sync.client import connect  # noqa: PLC0415 - only here

    context = ssl.create_default_context(cafile=address.cafile) if address.url.startswith("https:") else None
    began_s = time.monotonic()
    try:
        with connect(
            f"ws{address.url.removeprefix('http')}/ws",
            additional_headers={"Authorization": f"Bearer {token}"},
            ssl=context,
            open_timeout=WAIT_S,
            close_timeout=WAIT_S,
            ping_interval=None,
            proxy=None,
        ) as opened:
            greeted = json.loads(opened.recv(WAIT_S))
            heartbeat_s = float(greeted["data"]["heartbeat_seconds"])
            began_s = time.monotonic()
            with suppress(TimeoutError):
                while (left_s := began_s + heartbeat_s * 1.2 + 1 - time.monotonic()) > 0:
                    opened.recv(left_s)
    except ConnectionClosed:
        lived_s = time.monotonic() - began_s
        text = f"An idle connection was cut after {lived_s:.0f} s, before the server's ping."
        yield _problem(
            text, "Raise the proxy's time-out above ORBITAL_HEARTBEAT_SECONDS; nginx: proxy_read_timeout 120s;"
        )
    except (OSError, WebSocketException, KeyError, ValueError) as exc:
        yield _problem(f"A WebSocket with the token could not be opened: {_reason(exc)}.", "Check the token.")
    else:
        yield Finding(
            "outside", "ok", f"An idle connection lives longer than the server's heartbeat of {heartbeat_s:g} s."
        )


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _problem(text: str, remedy: str) -> Finding:
    return Finding("outside", "problem", text, remedy)


def _note(text: str, remedy: str) -> Finding:
    return Finding("outside", "note", text, remedy)
