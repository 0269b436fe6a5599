"""A real S3-compatible server in a process of its own: moto's, over HTTP, with a bucket."""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.process import Program

BUCKET = "orbital-media"


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
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Ask it something."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


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
