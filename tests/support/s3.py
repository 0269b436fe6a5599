"""A real S3-compatible server in a process of its own: moto's, over HTTP, with a bucket."""

from __future__ import annotations

import http.client
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.process import Program

BUCKET = "orbital-media"
Answer = tuple[int, list[tuple[str, str]], bytes]
REFUSAL: Answer = (403, [], b"")


class S3:
    """
    An S3 server that runs.

    Attributes:
        program: Its process; what it prints is a line for each request.
        port: Where it listens, on this machine.
    """

    def __init__(self, program: Program, port: int) -> None:
        self.program, self.port = program, port

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which obstore finds it."""
        return _environ(self.port)

    def uploads(self) -> list[str]:
        """Return the names of multipart uploads that were begun and neither completed nor aborted."""
        status, listed = self.ask("GET", f"/{BUCKET}?uploads")
        assert status == 200
        return re.findall(r"<Upload>.*?<Key>(.*?)</Key>", listed.decode())

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Ask it something."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _environ(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


class HeldCalls:
    """
    Stands before an S3 server, and refuses or holds requests.

    Attributes:
        refused: Requests whose line this matches are answered 403.
        held: Requests whose line this matches wait until `release`.
        most_held: How many were waiting at a time, at most.
    """

    def __init__(self, s3: S3) -> None:
        self.refused = self.held = "no such request"
        self.most_held = 0
        self._holding = 0
        self._moved = threading.Condition()
        self._s3 = s3
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which obstore finds the gate."""
        return _environ(self._server.server_port)

    def wait_for_held(self, count: int = 1) -> None:
        """Return when so many requests are waiting."""
        with self._moved:
            assert self._moved.wait_for(lambda: self._holding >= count, timeout=60), f"{self._holding} are held"

    def release(self) -> None:
        """Let those that wait continue, and hold no more."""
        with self._moved:
            self.held = "no such request"
            self._moved.notify_all()

    def close(self) -> None:
        """Let all go, and stop listening."""
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _pass(self, line: str) -> bool:
        with self._moved:
            if re.search(self.held, line):
                self._holding += 1
                self.most_held = max(self.most_held, self._holding)
                self._moved.notify_all()
                self._moved.wait_for(lambda: not re.search(self.held, line), timeout=60)
                self._holding -= 1
            return not re.search(self.refused, line)

    def _forward(self, line: str, body: bytes, headers: dict[str, str]) -> Answer:
        method, path = line.split(" ", 1)
        connection = http.client.HTTPConnection("127.0.0.1", self._s3.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    # Who asked has hung up.
                    self.close_connection = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                line = f"{self.command} {self.path}"
                passes = gate._pass(line)
                status, headers, found = gate._forward(line, body, dict(self.headers.items())) if passes else REFUSAL
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - the library's names

        return Handler


@contextmanager
def s3_server() -> Iterator[S3]:
    """Start it with an empty bucket; it ends with the block."""
    program = Program(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        s3 = S3(program, int(program.wait_for(r"Running on http://127\.0\.0\.1:(\d+)")[1]))
        status, _ = s3.ask("PUT", f"/{BUCKET}")
        assert status == 200
        yield s3
    finally:
        program.kill()
