"""Media up and down: Orbital beside Node with multer, and nginx, which is as quick as files go."""

import contextlib
import json
import os
import shutil
import socket
import threading
import time
import uuid
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

from bench import tools
from bench.load import LoadFailed, request
from bench.measure import Bench, Figures
from bench.systems import SYSTEMS, TEMPORARY, Missing, Orbital, System, Testbed, compact
from bench.tools import CACHE, identity

MIB = 1024 * 1024
CHUNK_BYTES = 5 * MIB
SIDE_BY_SIDE = 3
"""Chunks in flight at once, as the SDKs send them."""

_BOUNDARY = "----bench"


class MediaSystem(System):
    """A server that takes chunks and gives a file back, `size_mib` of it."""

    def begin(self, size_mib: int) -> None:
        """Make ready for an upload of that size."""

    @abstractmethod
    def chunk(self, index: int, total: int) -> tuple[bytes, str]:
        """Return the head of a chunk's request, but for the length of its body, and the form around the bytes."""

    @abstractmethod
    def file(self, size_mib: int) -> str:
        """Return the request that fetches a file of that size, which the server has now."""


def _form(fields: dict[str, object]) -> str:
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return "".join(parts) + (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="chunk"; filename="chunk"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )


class OrbitalMedia(MediaSystem, Orbital):
    """`orbital serve` on SQLite: every chunk synced, its row committed, membership asked each time."""

    key, label = "orbital-media", "Orbital"
    user = identity("media")

    def __init__(self) -> None:
        super().__init__()
        self._thread = ""
        self._fields: dict[str, object] = {}

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        command, env = super().command(testbed)
        return command, {**env, "ORBITAL_MEDIA_GROUP_BYTES": str(1 << 40), "ORBITAL_MEDIA_GROUP_FILES": "100000"}

    def _ask(self, method: str, path: str, body: dict) -> dict:
        text = request(method, self.authority, path, compact(body), bearer=self.bearer(self.user))
        with _connected(self) as line:
            line.sendall(text.encode())
            status, _, answer = _answer(line)
        if status >= 300:
            raise LoadFailed(f"{path} answered {status}: {answer[:200]!r}")
        return json.loads(answer)

    def begin(self, size_mib: int) -> None:
        if not self._thread:
            group = self._ask("POST", "/api/groups", {"encrypted_name": "bmFtZQ==", "encrypted_group_key": "a2V5"})
            thread = {"group_id": group["group_id"], "encrypted_title": "dA==", "encrypted_body": "Yg=="}
            self._thread = self._ask("POST", "/api/threads", thread)["thread_id"]
        self._fields = {
            "media_id": str(uuid.uuid4()),
            "thread_id": self._thread,
            "encrypted_metadata": "bQ==",
            "encryption_iv": "aXY=",
        }

    def chunk(self, index: int, total: int) -> tuple[bytes, str]:
        head = (
            f"POST /api/media/upload HTTP/1.1\r\nHost: {self.authority}\r\n"
            f"Authorization: Bearer {self.bearer(self.user)}\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
        )
        return head.encode(), _form({**self._fields, "chunk_index": index, "total_chunks": total})

    def file(self, size_mib: int) -> str:
        return request(
            "GET",
            self.authority,
            f"/api/media/{self._fields['media_id']}/download",
            bearer=self.bearer(self.user),
        )


class NodeMulter(MediaSystem):
    """Express and multer on disk, no database, no membership; a chunk is answered when the kernel has it."""

    key, label = "multer", "Express, multer"
    sync = ""

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        program = tools.node()
        self.folder = testbed.folder / self.key
        self.folder.mkdir()
        env = {"MEDIA_DIR": str(self.folder), "SYNC": self.sync}
        return [program, str(CACHE / "node" / "node_multer.mjs"), str(self.port)], env

    def chunk(self, index: int, total: int) -> tuple[bytes, str]:
        head = (
            f"POST /api/media/upload HTTP/1.1\r\nHost: {self.authority}\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
        )
        return head.encode(), _form({"media_id": "m", "chunk_index": index, "total_chunks": total})

    def file(self, size_mib: int) -> str:
        _make_file(self.folder / "file", size_mib)
        return request("GET", self.authority, "/file")


class NodeMulterSync(NodeMulter):
    """The same, a chunk answered when it is on the disk."""

    key, label, sync = "multer-sync", "Express, multer, fsync", "1"


class Nginx(MediaSystem):
    """
    nginx: `sendfile` down, a plain PUT up, one worker; nothing is asked, nothing is synced.

    Half a MiB a turn: with the default of 2 MiB it was a third as quick here, and without `sendfile` half.
    """

    key, label = "nginx", "nginx"

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
        if program is None:
            raise Missing("it needs nginx (apt-get install nginx-light)")
        self.folder = testbed.folder / self.key
        here = self.folder
        (here / "up").mkdir(parents=True)
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; {user} pid {here}/pid; error_log {here}/error.log;\n"
            "events { worker_connections 1024; }\n"
            "http { access_log off; sendfile on; sendfile_max_chunk 512k; tcp_nodelay on;\n"
            "client_max_body_size 0; client_body_buffer_size 1m;\n"
            + "".join(f"{kind}_temp_path {here}/{kind};\n" for kind in TEMPORARY)
            + f"server {{ listen 127.0.0.1:{self.port}; root {here}; location /up/ {{ dav_methods PUT; }} }} }}\n"
        )
        return [program, "-e", f"{self.folder}/error.log", "-c", f"{self.folder}/nginx.conf"], {}

    def chunk(self, index: int, total: int) -> tuple[bytes, str]:
        return f"PUT /up/{index} HTTP/1.1\r\nHost: {self.authority}\r\n".encode(), ""

    def file(self, size_mib: int) -> str:
        _make_file(self.folder / "file", size_mib)
        return request("GET", self.authority, "/file")


SYSTEMS.update({kind.key: kind for kind in (OrbitalMedia, NodeMulter, NodeMulterSync, Nginx)})


def _make_file(path: Path, size_mib: int) -> None:
    if not path.exists() or path.stat().st_size != size_mib * MIB:
        with path.open("wb") as file:
            for _ in range(size_mib):
                file.write(os.urandom(MIB))


# The load side: threads that mostly wait for the kernel, on a core of their own.


@contextlib.contextmanager
def _connected(system: System) -> Iterator[socket.socket]:
    with socket.create_connection((system.host, system.port), timeout=120) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield line


def _answer(line: socket.socket, *, into: memoryview | None = None) -> tuple[int, int, bytes]:
    """Read one answer; return its status, the size of its body, and the body unless it went into a buffer."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = line.recv(65536)
        if not more:
            raise LoadFailed("the server hung up")
        head += more
    head, _, body = head.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    fields = dict(each.lower().split(b": ", 1) for each in lines[1:])
    status, length = int(lines[0].split()[1]), int(fields.get(b"content-length", 0))
    if into is None:
        while len(body) < length:
            body += line.recv(65536)
        return status, length, body
    left = length - len(body)
    while left > 0:
        got = line.recv_into(into, min(left, len(into)))
        if not got:
            raise LoadFailed("the server hung up in the middle of a file")
        left -= got
    return status, length, b""


def _send_all(system: MediaSystem, size_mib: int, data: memoryview) -> None:
    whole = size_mib * MIB
    total = -(-whole // CHUNK_BYTES)
    owed, lock, failed = iter(range(total)), threading.Lock(), []
    tail = f"\r\n--{_BOUNDARY}--\r\n".encode()

    def work() -> None:
        try:
            with _connected(system) as line:
                while True:
                    with lock:
                        index = next(owed, None)
                    if index is None:
                        return
                    head, form = system.chunk(index, total)
                    end = tail if form else b""
                    chunk_bytes = min(CHUNK_BYTES, whole - index * CHUNK_BYTES)
                    length = len(form) + chunk_bytes + len(end)
                    line.sendall(head + f"Content-Length: {length}\r\n\r\n{form}".encode())
                    # Another offset for each: no two chunks are alike.
                    line.sendall(data[index : index + chunk_bytes])
                    line.sendall(end)
                    status, _, body = _answer(line)
                    if status >= 300:
                        raise LoadFailed(f"chunk {index} was answered {status}: {body[:200]!r}")
        except (OSError, LoadFailed) as exc:
            failed.append(exc)

    workers = [threading.Thread(target=work) for _ in range(SIDE_BY_SIDE)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed:
        raise LoadFailed(str(failed[0]))


def carry(bench: Bench, *, size_mib: int, rounds: int) -> dict[str, Figures]:
    """A file of that size up in chunks, three at a time, then one down: bytes a second, the server's CPU and memory."""
    data = memoryview(os.urandom(CHUNK_BYTES + 1000))
    buffer = memoryview(bytearray(MIB))
    if bench.testbed.load_core is not None:
        os.sched_setaffinity(0, {bench.testbed.load_core})

    def one(system: System, text: str) -> dict:
        if not isinstance(system, MediaSystem):
            raise LoadFailed("it carries no media")
        before = system.resident_bytes()
        result: dict[str, float] = {}
        bench.show(f"{text}: up")
        system.begin(size_mib)
        with _timed(bench, system, result, "up", size_mib):
            _send_all(system, size_mib, data)
        if before is not None:
            result["grown_bytes"] = max(0, (system.resident_bytes() or 0) - before)
        bench.show(f"{text}: down")
        asked = system.file(size_mib).encode()
        with _connected(system) as line, _timed(bench, system, result, "down", size_mib):
            line.sendall(asked)
            status, length, _ = _answer(line, into=buffer)
        if (status, length) != (200, size_mib * MIB):
            raise LoadFailed(f"the file came with {status} and {length} bytes")
        return result

    return bench.interleaved(rounds, one)


@contextlib.contextmanager
def _timed(bench: Bench, system: System, result: dict[str, float], way: str, size_mib: int) -> Iterator[None]:
    cpu, ours, started = system.cpu_ns(), time.process_time(), time.monotonic()
    yield
    took, now = time.monotonic() - started, system.cpu_ns()
    result[f"{way}_mb_s"] = size_mib * MIB / 1e6 / took
    result[f"{way}_load_share"] = (time.process_time() - ours) / took
    if cpu is not None and now is not None:
        result[f"{way}_share"] = (now - cpu) / 1e9 / took
    bench.saturated(system, result[f"{way}_load_share"])
