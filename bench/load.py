"""The load side: starts the C program, hands it what is prepared, reads its answers."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from bench.tools import compiled, ended, placed, put_ahead

MARK = "OrbitalBench" + "0" * 12
"""Stands inside each payload; the load side writes the event's number into the zeros. 24 characters of base64."""

SATURATED = 0.92
"""Share of its core above which the load side may be what was measured."""

Progress = Callable[[dict], None]


def envelope(length: int) -> str:
    """Base64 text of a length (made a multiple of 4) that begins with the mark."""
    length = max(24, length - length % 4)
    return MARK + "Q" * (length - 24)


def escaped(data: str | bytes) -> str:
    """Bytes as the load program reads them from a line."""
    raw = data.encode() if isinstance(data, str) else data
    if raw.isascii() and b"\\" not in raw and not any(b < 32 for b in raw):
        return raw.decode()
    named = {0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
    return "".join(named.get(b) or (chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in raw)


class LoadFailed(Exception):
    """The load side could not do what was asked; the text says why, with the first answer of the server."""


class Load:
    """One load process on its core. Use as a context manager."""

    def __init__(self, host: str, port: int, *, core: int | None, steps: int = 0, sources: int = 4) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="bench-load-")
        self._files = 0
        program = compiled("load")
        self.process = subprocess.Popen(
            placed([program], core=core, steps=steps),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=bool(steps),
        )
        put_ahead(self.process.pid, steps)
        self.ask(f"server {host} {port} {sources}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        ended(self.process)
        self.process.stdout.close()
        self.folder.cleanup()

    # Requests and answers

    def write(self, line: str) -> None:
        """Send a command without waiting."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def read(
        self,
        *,
        progress: Progress | None = None,
        begin: Callable[[], None] | None = None,
        end: Callable[[], None] | None = None,
    ) -> dict:
        """The command's last word; `begin` and `end` are called at the edges of the measured window."""
        for line in self.process.stdout:
            word = json.loads(line)
            match word["ev"]:
                case "progress":
                    if progress:
                        progress(word)
                case "begin":
                    if begin:
                        begin()
                case "end":
                    if end:
                        end()
                case "fatal":
                    raise LoadFailed(word["message"])
                case _:
                    return word
        raise LoadFailed(f"the load process ended with status {self.process.wait()}")

    def ask(self, line: str, **read) -> dict:
        """Send a command and wait for its last word."""
        self.write(line)
        return self.read(**read)

    def _file(self, lines: Iterable[str]) -> Path:
        self._files += 1
        path = Path(self.folder.name) / str(self._files)
        with path.open("w") as out:
            out.writelines(f"{line}\n" for line in lines)
        return path

    # Commands

    def listeners(self, lines: Iterable["Conn"]) -> None:
        """Prepare listeners; `connect` opens them."""
        self.ask(f"listeners {self._file(line.text() for line in lines)}")

    def publishers(self, lines: Iterable["Conn"]) -> None:
        """Prepare sockets that events are sent on."""
        self.ask(f"publishers {self._file(line.text() for line in lines)}")

    def spin(self) -> None:
        """Never sleep while a window is measured: no delivery then pays for waking the load side up."""
        self.ask("spin on")

    def control(self, port: int) -> None:
        """Where publishers with the flag `r` send their lines."""
        self.ask(f"control {port}")

    def https(self, count: int) -> None:
        """Prepare keep-alive HTTP connections that events are posted on, one at a time on each."""
        self.ask(f"https {count}")

    def templates(self, lines: Iterable[tuple[int, int, str | bytes]], *, opcode: int) -> None:
        """Prepare events: (group, publisher or -1, bytes); opcode 0 for HTTP requests."""
        rows = ("\t".join([str(group), str(publisher), escaped(data)]) for group, publisher, data in lines)
        self.ask(f"templates {self._file(rows)} {opcode}")

    def options(self, *, answers: bool, many_marks: bool) -> None:
        """Whether each event is answered to its sender, and whether a frame may hold several events."""
        self.ask(f"options {int(answers)} {int(many_marks)}")

    def connect(
        self, *, at_once: int = 200, within_s: float = 60, want: int = 0, progress: Progress | None = None
    ) -> dict:
        """Open everything prepared; with `want`, wait until each listener has had so many events.

        Raises:
            LoadFailed: If not all could be opened.
        """
        result = self.ask(f"connect {at_once} {within_s} {want}", progress=progress)
        if not want and (result["failed"] or result["error"]):
            raise LoadFailed(f"{result['failed']} of {result['tried']} connections failed: {result['error']}")
        return result

    def batch(
        self, requests: Iterable[str], *, keep: bool = False, conns: int = 32, progress: Progress | None = None
    ) -> list[tuple[int, str]]:
        """Send requests, each once, and give (status, body) in their order when `keep`.

        Raises:
            LoadFailed: If one was refused.
        """
        out = Path(self.folder.name) / "answers"
        file = self._file(map(escaped, requests))
        result = self.ask(f"batch {file} {out if keep else '-'} {conns}", progress=progress)
        if result["good"] != result["of"]:
            raise LoadFailed(
                f"{result['of'] - result['good']} of {result['of']} requests were refused: {result['error']}"
            )
        if not keep:
            return []
        return [
            (int(status), body) for status, _, body in (line.partition("\t") for line in out.read_text().splitlines())
        ]

    def run(self, kind: str, amount: float, *, warm_s: float, window_s: float, drain_s: float = 5, **read) -> dict:
        """Publish: `closed` keeps `amount` events in flight, `open` sends `amount` a second whatever comes back."""
        return self.ask(f"run {kind} {amount} {warm_s} {window_s} {drain_s}", **read)

    def idle(self, seconds: float, **read) -> dict:
        """Only answer pings."""
        return self.ask(f"idle {seconds}", **read)

    def drop(self, *, listeners_only: bool = False) -> None:
        """Cut the connections (RST), as a power cut does."""
        self.ask("drop listeners" if listeners_only else "drop")


class Conn:
    """One connection: where it belongs, its request head, and the frames of its setup in turn with the server's."""

    def __init__(self, group: int, head: str, steps: Iterable[str | bytes] = (), *, flags: str = "g") -> None:
        self.group, self.head, self.steps, self.flags = group, head, list(steps), flags

    def text(self) -> str:
        """The line as the load program reads it."""
        return "\t".join([str(self.group), self.flags, *map(escaped, [self.head, *self.steps])])


def upgrade(host: str, path: str, *, bearer: str | None = None, more: str = "") -> str:
    """A WebSocket handshake (RFC 6455 §4.1) with a fixed key: the server does the same work for it."""
    auth = f"Authorization: Bearer {bearer}\r\n" if bearer else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: T3JiaXRhbEJlbmNoS2V5IQ==\r\nSec-WebSocket-Version: 13\r\n{auth}{more}\r\n"
    )


def request(
    method: str, host: str, path: str, body: str = "", *, bearer: str | None = None, kind: str = "application/json"
) -> str:
    """An HTTP/1.1 request, whole."""
    auth = f"Authorization: Bearer {bearer}\r\n" if bearer else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{auth}"
    if body:
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n"
    return f"{head}\r\n{body}"
