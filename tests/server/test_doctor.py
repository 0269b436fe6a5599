"""`orbital doctor` against real files, databases, Redis users, and a server behind a real nginx with one mistake."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis as Client

from orbital_relay.config import Settings
from orbital_relay.server.doctor.finding import Finding
from orbital_relay.server.doctor.local import check_descriptors, check_disk, check_files, check_settings, filesystem_of
from orbital_relay.server.doctor.outside import PublicAddress, check_outside
from orbital_relay.server.doctor.stores import check_database, check_redis
from tests.server.test_clock import moved_clock
from tests.support.authority import Authority
from tests.support.fronts import certificate
from tests.support.process import Program, until
from tests.support.programs import CHECKOUT, free_port, nginx
from tests.support.redis import Redis
from tests.support.server import Server
from tests.support.tokens import token

Serve = Callable[..., Server]
CHUNK = 5 * 1024 * 1024


def _of(found: list[Finding], *, level: str = "problem") -> list[str]:
    return [each.text for each in found if each.level == level]


# Chapter: this machine


def test_files_that_others_can_read(tmp_path: Path):
    """[DOCTOR1] A database, a write-ahead log, media or a secret that every user can read is a problem."""
    settings = Settings(data_dir=tmp_path)
    for name in ("orbital.db", "orbital.db-wal", "jwt-secret"):
        (tmp_path / name).write_bytes(b"")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "media").mkdir(mode=0o700)
    assert [each.level for each in check_files(settings)] == ["ok"]

    for name, mode in (("orbital.db", 0o644), ("orbital.db-wal", 0o604), ("jwt-secret", 0o640), ("media", 0o755)):
        (tmp_path / name).chmod(mode)
    found = list(check_files(settings))

    assert {text.split()[0] for text in _of(found)} == {
        str(tmp_path / name) for name in ("orbital.db", "orbital.db-wal", "media")
    }
    assert [text.split()[0] for text in _of(found, level="note")] == [str(tmp_path / "jwt-secret")]
    assert f"chmod 700 {tmp_path / 'media'}" in {each.remedy for each in found}


def test_a_network_file_system():
    """[DOCTOR2] A SQLite database on NFS or SMB is a problem; the mount point that is nearest decides."""
    mounts = (
        "/dev/sda / ext4 rw 0 0\nnas:/x /srv/my\\040nas nfs4 rw 0 0\n"
        "//nas/y /mnt cifs rw 0 0\n/dev/sdb /mnt/disk xfs rw 0 0\n"
    )
    kinds = [filesystem_of(Path(path), mounts) for path in ("/a", "/srv/my nas/b", "/mnt/c", "/mnt/disk/d", "/mnt-e")]
    (found, *_) = check_disk(Settings(data_dir=Path("/srv/my nas")), mounts)
    away = list(check_disk(Settings(data_dir=Path("/mnt"), database_url="postgresql://h/d"), mounts))

    assert kinds == ["ext4", "nfs4", "cifs", "xfs", "ext4"]
    assert "network file system (nfs4)" in found.text
    assert _of(away) == []


def test_the_limits(tmp_path: Path):
    """[DOCTOR3] A full disk is a problem, and few open files are a note, each with a number and what to do."""
    assert _of(list(check_disk(Settings(data_dir=tmp_path, disk_reserve_bytes=1 << 50))))
    assert _of(list(check_disk(Settings(data_dir=tmp_path / "none")))) == []
    (few,) = check_descriptors(1024)
    (enough,) = check_descriptors(65_536)

    assert "about 928 connections" in few.text
    assert (few.level, enough.level) == ("note", "ok")


def test_settings_that_contradict(tmp_path: Path):
    """[DOCTOR4] What `orbital serve` would refuse or warn of is a finding."""
    found = list(check_settings(Settings(data_dir=tmp_path, workers=2), {"ORBITAL_SIGNUP": "closed"}))

    assert "there is no Redis" in _of(found)[0]
    assert "did you mean ORBITAL_SIGNUPS?" in _of(found, level="note")[0]
    assert [each.level for each in check_settings(Settings(data_dir=tmp_path), {})] == ["ok"]


# Chapter: the database


async def test_a_sqlite_database(serve: Serve, tmp_path: Path):
    """[DOCTOR5] A database is read and never changed: place, version, an unknown version, damage, a clock behind it."""
    server = serve()
    httpx.get(f"{server.url}/health/ready")
    server.terminate()
    settings = Settings(data_dir=server.data_dir)
    path = server.data_dir / "orbital.db"
    whole = await check_database(settings)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    old = await check_database(settings)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("DELETE FROM marks")
        connection.execute("INSERT INTO marks (name, value) VALUES ('heartbeat_ms', ?)", (4 * 10**12,))
    new = await check_database(settings)
    path.write_bytes(b"no database" * 1000)
    damaged = await check_database(settings)

    assert {each.level for each in whole} == {"ok"}
    assert str(path) in whole[0].text
    assert "is at version 0001" in _of(old, level="note")[0]
    assert "is at version 9999" in _of(new)[0]
    assert "clock is" in _of(new)[1]
    assert "cannot be read" in _of(damaged)[0]
    assert "no database at" in _of(await check_database(Settings(data_dir=tmp_path)), level="note")[0]
    assert not (tmp_path / "orbital.db").exists()


async def test_a_postgres_database(serve: Serve, postgres_url: str, postgres_cluster: Any):
    """[DOCTOR6] PostgreSQL's version and schema are checked; an unreachable server or a refusal is a problem."""
    empty = await check_database(Settings(database_url=postgres_cluster.create_database()))
    serve(env={"DATABASE_URL": postgres_url})
    used = await check_database(Settings(database_url=postgres_url))
    missing = await check_database(Settings(database_url=postgres_cluster.url("nowhere")))
    closed = await check_database(Settings(database_url=f"postgresql://u:hunter2@127.0.0.1:{free_port()}/d"))

    assert "has no schema yet" in repr(empty), empty
    assert "PostgreSQL 1" in used[0].text
    assert _of(used) == _of(used, level="note") == []
    assert 'database "nowhere" does not exist' in _of(missing)[0]
    assert len(_of(closed)) == 1
    assert "hunter2" not in repr(closed)


# Chapter: Redis


@pytest.mark.parametrize(
    "rules, lacks",
    [
        ("~orbital:* &orbital:* +@all", []),
        ("~orbital:* &orbital:* +@all -@dangerous", ["INFO"]),
        ("~orbital:* resetchannels +@all", ["PUBLISH and SUBSCRIBE"]),
        ("~orbital:* &orbital:* +@all -@pubsub", ["PUBLISH and SUBSCRIBE"]),
        ("~other:* &orbital:* +@all", ["reading and writing keys", "EVAL"]),
        ("~orbital:* &orbital:* +@all -@scripting", ["EVAL"]),
    ],
)
async def test_a_redis_user(redis_server: Redis, rules: str, lacks: list[str]):
    """[DOCTOR7] Each permission that a Redis user lacks is a finding, with its effect and the ACL for it."""
    place = redis_server.url.partition("://")[2]
    with Client.from_url(redis_server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "doctor", "reset", "on", ">pw", *rules.split())
    found = await check_redis(f"redis://doctor:pw@{place}")

    worse = [each for each in found if each.level != "ok"]
    assert [each.text.partition(" lacks ")[2].startswith(name) for each, name in zip(worse, lacks, strict=True)] == [
        True
    ] * len(lacks)
    assert {each.level for each in worse} <= ({"note"} if lacks == ["INFO"] else {"problem"})


async def test_a_redis_that_refuses(redis_server: Redis):
    """[DOCTOR8] A wrong password and an unreachable Redis are one problem each, without the password in the text."""
    place = redis_server.url.partition("://")[2]
    wrong = await check_redis(f"redis://nobody:hunter2@{place}")
    gone = await check_redis(f"redis://:hunter2@127.0.0.1:{free_port()}")

    assert len(_of(wrong)) == len(_of(gone)) == 1
    assert "hunter2" not in repr((wrong, gone))
    assert await check_redis(None) == []


def test_readiness_without_pub_sub(serve: Serve, postgres_url: str, redis_server: Redis):
    """[DOCTOR9] A server whose Redis user may not subscribe stores posts, is ready, and reports `degraded`."""
    place = redis_server.url.partition("://")[2]
    with Client.from_url(redis_server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "mute", "reset", "on", ">pw", "~orbital:*", "+@all", "-@pubsub")
    server = serve(env={"DATABASE_URL": postgres_url, "REDIS_URL": f"redis://mute:pw@{place}"})
    answer = httpx.get(f"{server.url}/health/ready")

    assert (answer.status_code, answer.json()) == (200, {"status": "degraded", "degraded": ["redis"]})
    assert "orbital_redis_connected 0.0" in httpx.get(f"{server.url}/metrics").text


# Chapter: the way to the server

GOOD = """
proxy_http_version 1.1;
proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $remote_addr;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $upgrade;
proxy_request_buffering off;
proxy_buffering off;
client_max_body_size 20m;
"""


class _Nginx:
    """An nginx in front of a server: TLS on one port, with these directives at the path `/`."""

    def __init__(self, folder: Path, port: int, directives: str, *, location: str = "/") -> None:
        self.cafile = folder / "orbital.crt"
        certificate(folder)
        own = free_port()
        self.url = f"https://127.0.0.1:{own}"
        path = folder / "nginx.conf"
        path.write_text(
            f"""
            daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
            events {{ worker_connections 64; }}
            http {{
                access_log off;
                map $http_upgrade $upgrade {{ default upgrade; "" ""; }}
                client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
                uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
                server {{
                    listen 127.0.0.1:{own} ssl;
                    ssl_certificate {folder}/orbital.crt; ssl_certificate_key {folder}/orbital.key;
                    location {location} {{ proxy_pass http://127.0.0.1:{port}; {directives} }}
                }}
            }}
            """,
            "utf-8",
        )
        self.program = Program([nginx(), "-c", path, "-p", folder])
        until(self._answers, what="an nginx")

    def _answers(self) -> bool:
        try:
            httpx.get(self.url, verify=False, timeout=60)  # noqa: S501 - only whether it listens
        except httpx.TransportError:
            return False
        return True


@pytest.fixture
def behind(serve: Serve, tmp_path: Path) -> Iterator[Callable[..., list[Finding]]]:
    """Look at a server behind an nginx with these directives."""
    started: list[_Nginx] = []

    def look(
        directives: str, *, path: str = "", trusted: str = "127.0.0.1", bearer: str | None = None, **place: str
    ) -> Any:
        server = serve(env={"ORBITAL_TRUSTED_PROXIES": trusted, "ORBITAL_HEARTBEAT_SECONDS": "2"})
        front = _Nginx(tmp_path, server.port, directives, **place)
        started.append(front)
        return check_outside(PublicAddress(front.url + path, front.cafile), chunk_bytes=CHUNK, token=bearer)

    yield look
    for front in started:
        front.program.terminate()


def test_a_good_proxy(behind: Callable[..., list[Finding]]):
    """[DOCTOR10] A correct proxy causes no finding except its certificate's expiry."""
    found = behind(GOOD, bearer=token("ada"))

    assert _of(found) == []
    # The test's certificate lives for a day.
    assert [text for text in _of(found, level="note") if "ends in" not in text] == []
    assert {
        "A WebSocket handshake reaches the server.",
        "The server sees this client as 127.0.0.1.",
        f"Bodies of {CHUNK} bytes are accepted.",
        "The proxy passes bodies on as they come.",
        "The proxy forwards responses as they arrive.",
        "An idle connection lives longer than the server's heartbeat of 2 s.",
    } <= set(_of(found, level="ok"))


@pytest.mark.parametrize(
    "change, sentence",
    [
        (("proxy_set_header Upgrade $http_upgrade;", ""), "drops the upgrade"),
        (("proxy_set_header X-Forwarded-For $remote_addr;", ""), "can forge its address"),
        (("X-Forwarded-For $remote_addr", 'X-Forwarded-For ""'), "sends no X-Forwarded-For"),
        (("client_max_body_size 20m;", "client_max_body_size 1m;"), "refuses bodies of"),
        (("proxy_buffering off;", "proxy_buffering off; proxy_read_timeout 1s;"), "idle connection was cut after 1 s"),
    ],
)
def test_a_proxy_with_a_mistake(behind: Callable[..., list[Finding]], change: tuple[str, str], sentence: str):
    """[DOCTOR11] Each misconfiguration of a proxy is reported as one problem, and its remedy names a directive."""
    found = behind(GOOD.replace(*change), bearer=token("ada"))

    problems = [each for each in found if each.level == "problem"]
    assert len(problems) == 1, problems
    assert sentence in problems[0].text
    assert "nginx" in problems[0].remedy


def test_a_proxy_that_buffers(behind: Callable[..., list[Finding]]):
    """[DOCTOR12] A proxy that waits for whole bodies is a note."""
    # In memory: nginx's workers run as another user, who may not write to the test's folder.
    found = behind(GOOD.replace("proxy_request_buffering off;", "client_body_buffer_size 1m;"))

    assert _of(found) == []
    assert any("waits for a whole body" in text for text in _of(found, level="note"))


def test_a_proxy_that_buffers_responses(behind: Callable[..., list[Finding]]):
    """[STREAM2] A proxy that buffers responses, as nginx does by default, is a note that names the directive."""
    found = behind(GOOD.replace("proxy_buffering off;", ""))

    (note,) = [each for each in found if each.level == "note" and "buffers responses" in each.text]
    assert _of(found) == []
    assert "proxy_buffering off;" in note.remedy


def test_a_proxy_without_the_stream(behind: Callable[..., list[Finding]]):
    """[STREAM3] A proxy that does not forward `/health/stream` is a note: whether it buffers is unknown."""
    found = behind(f"{GOOD} if ($uri = /health/stream) {{ return 404; }}")

    assert _of(found) == []
    assert any("buffers is unknown" in text and "404" in text for text in _of(found, level="note"))


def test_a_proxy_that_is_not_trusted(behind: Callable[..., list[Finding]]):
    """[DOCTOR13] A proxy that is not in ORBITAL_TRUSTED_PROXIES is a problem that names the setting."""
    (problem,) = [each for each in behind(GOOD, trusted="192.0.2.1") if each.level == "problem"]

    assert "is not trusted" in problem.text
    assert "ORBITAL_TRUSTED_PROXIES" in problem.remedy


def test_another_path(behind: Callable[..., list[Finding]]):
    """[DOCTOR14] A proxy that does not forward the path is one problem, and no other check runs."""
    (found,) = behind(GOOD, location="/orbital/")

    assert re.search(r"/api/about answers 40[34] and is not Orbital's", found.text)


def test_no_server_and_no_trust(tmp_path: Path):
    """[DOCTOR15] A proxy without a server, a certificate that is not trusted, and no proxy are each a problem."""
    front = _Nginx(tmp_path, free_port(), GOOD)
    try:
        (dead,) = check_outside(PublicAddress(front.url, front.cafile), chunk_bytes=CHUNK)
        (stranger,) = check_outside(PublicAddress(front.url), chunk_bytes=CHUNK)
    finally:
        front.program.terminate()
    (nothing,) = check_outside(PublicAddress(front.url, front.cafile), chunk_bytes=CHUNK)

    assert "answers 502" in dead.text
    assert "does not reach Orbital" in dead.remedy
    assert "is not trusted" in stranger.text
    assert "does not answer" in nothing.text


@pytest.mark.parametrize(
    "name, ends_h, reason",
    [("127.0.0.1", -1, "certificate has expired"), ("other.example", 24, "IP address mismatch")],
)
def test_a_certificate_that_ended_or_names_another(serve: Serve, tmp_path: Path, name: str, ends_h: float, reason: str):
    """[DOCTOR17] A trusted authority's certificate that has ended, or is another name's, is the one problem."""
    authority = Authority(tmp_path)
    cert = tmp_path / "server.pem"
    authority.issue(cert, cert, name, ends_h=ends_h)
    server = serve(env={"ORBITAL_TLS_CERT": str(cert), "ORBITAL_LOG_FORMAT": "text"}, start=False)
    port = server.launch().wait_for(r"https://[^\s/:]+:(?P<port>\d+)", deadline_s=60)["port"]

    (problem,) = check_outside(PublicAddress(f"https://127.0.0.1:{port}", authority.root), chunk_bytes=CHUNK)

    assert problem.level == "problem"
    assert f"is not trusted: {reason}" in problem.text
    assert "Renew it" in problem.remedy


# Chapter: the command


def test_the_command(serve: Serve):
    """[DOCTOR16] `orbital doctor` prints one line per finding, or JSON; its exit status is 1 if there is a problem."""
    server = serve()
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ORBITAL_")},
        "ORBITAL_DATA_DIR": str(server.data_dir),
        "JWT_SECRET": "x" * 40,
    }

    def ask(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "orbital_relay", "doctor", *args]
        return subprocess.run(command, env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)

    well = ask("--url", server.url)
    (server.data_dir / "orbital.db").chmod(0o644)
    ill = ask("--json")

    assert well.returncode == 0, well.stdout + well.stderr
    assert "PROBLEM" not in well.stdout
    assert "0 problems" in well.stderr
    assert ill.returncode == 1
    found = json.loads(ill.stdout)
    assert {"check", "level", "text", "remedy"} == set(found[0])
    assert [each["check"] for each in found if each["level"] == "problem"] == ["files"]


@pytest.mark.parametrize(
    ("moved", "level", "sentence"),
    [
        ("+300", "problem", r"This machine's clock is (29\d|30\d) s ahead of the Date of http://"),
        ("-300", "problem", r"This machine's clock is (29\d|30\d) s behind the Date of http://"),
        ("+2", "ok", r"This machine's clock agrees with the Date of http://"),
    ],
)
def test_a_machine_whose_clock_is_off(serve: Serve, moved: str, level: str, sentence: str):
    """[DOCTOR18] A clock that differs from the `Date` of the public address is a problem that says by how much."""
    server = serve()
    env = {**os.environ, **moved_clock(FAKETIME=moved, FAKETIME_DONT_FAKE_MONOTONIC="1")}
    command = [sys.executable, "-m", "orbital_relay", "doctor", "--json", "--url", server.url]
    command += ["--data-dir", str(server.data_dir)]

    answer = subprocess.run(command, env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)

    assert answer.stdout, answer.stderr
    found = [each for each in json.loads(answer.stdout) if "the Date of" in each["text"]]
    assert [each["level"] for each in found] == [level]
    assert re.match(sentence, found[0]["text"]), found
    assert level == "ok" or "NTP" in found[0]["remedy"]


def test_two_lines(serve: Serve):
    """[STREAM1] `GET /health/stream` sends two lines a second apart, `POST` reports how long its body took."""
    server = serve()

    def body() -> Iterator[bytes]:
        yield b"x"
        for _ in range(4):
            with httpx.stream("GET", f"{server.url}/health/stream") as pause:
                pause.read()
        yield b"x"

    # A busy client may read both lines at once, but not each time.
    for _ in range(30):
        with httpx.stream("GET", f"{server.url}/health/stream") as answer:
            received = [(line, time.monotonic()) for line in answer.iter_lines()]
        if received[1][1] - received[0][1] > 0.5:
            break
    head = httpx.head(f"{server.url}/health/stream")
    paused, whole, large = (
        httpx.post(f"{server.url}/health/stream", content=content) for content in (body(), b"xx", b"x" * 131_073)
    )

    assert [json.loads(line) for line, _ in received] == [{"line": 1}, {"line": 2}]
    assert received[1][1] - received[0][1] > 0.5
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert (head.status_code, head.content) == (200, b"")
    assert paused.json()["milliseconds"] >= 4000 > whole.json()["milliseconds"]
    assert (large.status_code, large.json()["details"]["limit_bytes"]) == (413, 131_072)


def test_the_client_as_it_is_seen(serve: Serve):
    """[SEEN1] `GET /health/client` returns the address that limits count, and whether a proxy's header counts."""
    direct, trusting = serve(), serve(env={"ORBITAL_TRUSTED_PROXIES": "127.0.0.1"})
    header = {"X-Forwarded-For": "198.51.100.9"}
    seen = [
        httpx.get(f"{server.url}/health/client", headers=headers).json()
        for server, headers in ((direct, {}), (direct, header), (trusting, {}), (trusting, header))
    ]

    assert seen == [
        {"address": "127.0.0.1", "forwarded": False, "trusted": False},
        {"address": "127.0.0.1", "forwarded": True, "trusted": False},
        {"address": "127.0.0.1", "forwarded": False, "trusted": True},
        {"address": "198.51.100.9", "forwarded": True, "trusted": True},
    ]
