"""What a real server's log holds for an operator: ids of requests, users, addresses, starts and stops, and its file."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from orbital_relay.errors import Unavailable
from orbital_relay.server.edge.current_request import CURRENT
from orbital_relay.server.ops.logging import configure
from tests.server.api import Api
from tests.support.client import PASSWORD, Person
from tests.support.edge import Client
from tests.support.process import until
from tests.support.programs import CHECKOUT, fail2ban_regex, free_port
from tests.support.server import SECRET, WIDE, Server

Serve = Callable[..., Server]
WRONG = {"username": "nobody", "password": PASSWORD}
JSON = {"ORBITAL_LOG_FORMAT": "json"}


def _lines(server: Server, event: str = "") -> list[dict[str, Any]]:
    read = [json.loads(line) for line in server.log if line.startswith("{")]
    return [line for line in read if not event or line["event"] == event]


# Chapter: the id of a request


async def test_every_line_of_a_request_has_its_id(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """[LOGID1] A line that is written while a request is answered has the request's id; a later one has none."""
    log = logging.getLogger("orbital.store")
    groups_of = api.node.store.groups_of
    ann = api.user()

    async def loud(*args: Any, **named: Any) -> Any:
        log.warning("in the middle of a request")
        return await groups_of(*args, **named)

    monkeypatch.setattr(api.node.store, "groups_of", loud)
    path = tmp_path / "log"
    configure(level="info", format="json", file=path)
    try:
        await ann.ask("GET", "/api/groups", headers={"X-Request-Id": "proxy-1"})
        await ann.get("/api/groups")
        log.warning("outside")
    finally:
        configure(level="info")

    first, second, outside = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert first["request_id"] == "proxy-1"
    assert re.fullmatch("[0-9a-f]{16}", second["request_id"])
    assert "request_id" not in outside
    current = CURRENT.get()
    assert current is None or current.request is None


async def test_a_503_names_its_line(api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """[LOGID2] A 503 has the request id in its body, and a log line has the same id, the route and the reason."""
    ann = api.user()

    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("The database cannot be reached.")

    monkeypatch.setattr(api.node.store, "groups_of", away)
    answers = [await ann.get("/api/groups") for _ in range(25)]

    assert {answer.status_code for answer in answers} == {503}
    lines = [each for each in caplog.records if each.message == "request not served"]
    assert lines[0].request_id == answers[0].json()["details"]["request_id"]
    assert (lines[0].path, lines[0].status) == ("/api/groups", 503)
    # Bounded to 20 a second; the burst may span two of them.
    assert 20 <= len(lines) <= 25


@pytest.mark.parametrize("given", ["proxy-9", None])
async def test_a_refused_handshake_has_an_id(api: Api, given: str | None):
    """[LOGID3] A 503 to a handshake has the request id in its body: the proxy's, or a new one."""
    from orbital_relay.server.edge.handshake import Handshake, Refuse

    api.node.lifecycle.draining = True
    headers = {} if given is None else {"x-request-id": given}
    refused = api.node.handshakes.decide(Handshake("GET", "/ws", {}, headers, ("127.0.0.1", 1)))

    assert isinstance(refused, Refuse)
    assert refused.status == 503
    found = json.loads(refused.body)["details"]["request_id"]
    assert found == given if given else re.fullmatch("[0-9a-f]{16}", found)


def test_a_request_that_cannot_be_read_has_an_id(serve: Serve):
    """[LOGID4] A 5xx of the HTTP parser has a request id in its body, too."""
    server = serve()
    with Client(server.port) as client:
        client.send(b"POST /api/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n")
        status, _, body = client.answer()

    assert status == 501
    assert re.fullmatch("[0-9a-f]{16}", json.loads(body)["details"]["request_id"])


async def test_a_closed_connection_names_its_user(serve: Serve):
    """[LOGID5] `connection closed` has the user's id, the session and the close code."""
    server = serve(env=JSON)
    ann = await Person.sign_up(server.url)
    group = await ann.make_group()
    socket = await ann.listen(group)
    await socket.close()
    server.program.wait_for("connection closed")
    await ann.close()

    (line,) = _lines(server, "connection closed")
    (opened,) = _lines(server, "connection opened")
    assert (line["user_id"], line["session_id"], line["code"]) == (ann.user_id, opened["session_id"], 1000)


# Chapter: addresses


def test_addresses_can_be_left_out(serve: Serve):
    """[LOGADDR1] With ORBITAL_LOG_ADDRESSES=off no line has the address of a client; the lines are written."""
    server = serve(env={**JSON, "ORBITAL_LOG_ADDRESSES": "off", "ORBITAL_LOGIN_LIMIT": "1"})
    with httpx.Client(base_url=server.url) as http:
        assert [http.post("/api/login", json=WRONG).status_code for _ in range(2)] == [401, 429]
    server.terminate()

    assert len(_lines(server, "login refused")) == 1
    assert len(_lines(server, "limit reached")) == 1
    assert not [line for line in _lines(server) if "address" in line]


def test_an_untrusted_header_is_one_warning(serve: Serve):
    """[LOGADDR2] `X-Forwarded-For` of an address that is no trusted proxy is one warning, and never counts."""
    server = serve(env=JSON)
    with httpx.Client(base_url=server.url, headers={"X-Forwarded-For": "198.51.100.9"}) as http:
        for _ in range(3):
            http.post("/api/login", json=WRONG)
    server.terminate()

    (line,) = [line for line in _lines(server) if "ORBITAL_TRUSTED_PROXIES" in line["event"]]
    assert (line["level"], line["address"]) == ("warning", "127.0.0.1")
    assert {line["address"] for line in _lines(server, "login refused")} == {"127.0.0.1"}


def test_a_trusted_header_is_no_warning(serve: Serve):
    """[LOGADDR3] `X-Forwarded-For` of a trusted proxy is not warned of."""
    server = serve(env={**JSON, "ORBITAL_TRUSTED_PROXIES": "127.0.0.1"})
    httpx.post(f"{server.url}/api/login", json=WRONG, headers={"X-Forwarded-For": "198.51.100.9"})
    server.terminate()

    assert not [line for line in _lines(server) if "ORBITAL_TRUSTED_PROXIES" in line["event"]]


@pytest.mark.parametrize("format", ["json", "text"])
def test_fail2ban_reads_the_log(serve: Serve, tmp_path: Path, format: str):
    """[FAILBAN1] The fail2ban filter finds the address of each refused login, sign-up and limit, in each format."""
    tester = fail2ban_regex()
    env = {"ORBITAL_TRUSTED_PROXIES": "127.0.0.1", "ORBITAL_LOGIN_LIMIT": "1", "ORBITAL_SIGNUPS": "closed"}
    env["ORBITAL_LOG_FORMAT"] = format
    server = serve(env=env)
    # Names that try to be another address, or a line that does not count.
    evil = {"username": 'x", "address": "203.0.113.1', "password": PASSWORD}
    sly = {"username": "x address=203.0.113.1 code=disabled ", "password": PASSWORD}
    signup = {"username": "mallory", "password": PASSWORD, "public_key": {}}
    for address, path, body in (
        ("198.51.100.1", "/api/login", WRONG),
        ("198.51.100.2", "/api/login", evil),
        ("198.51.100.2", "/api/login", evil),
        ("198.51.100.3", "/api/login", sly),
        ("2001:db8::3", "/api/signup", signup),
    ):
        httpx.post(f"{server.url}{path}", json=body, headers={"X-Forwarded-For": address})
    server.terminate()
    written = tmp_path / "orbital.log"
    written.write_text("\n".join(server.log) + "\n", "utf-8")

    done = subprocess.run(
        [tester, "--out", "ip", written, CHECKOUT / "deploy/fail2ban/filter.d/orbital.conf"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    found = sorted(done.stdout.split())
    assert found == ["198.51.100.1", "198.51.100.2", "198.51.100.2", "198.51.100.3", "2001:db8::3"], written.read_text()


@pytest.mark.parametrize("format", ["json", "text"])
def test_fail2ban_ignores_a_disabled_account(tmp_path: Path, format: Literal["json", "text"]):
    """[FAILBAN2] The filter counts neither a disabled account nor a name that is taken: people do that."""
    tester, path = fail2ban_regex(), tmp_path / "log"
    log = logging.getLogger("orbital.limits")
    configure(level="info", format=format, file=path)
    try:
        for event, code in (
            ("login refused", "disabled"),
            ("signup refused", "USERNAME_TAKEN"),
            ("signup refused", "SIGNUPS_CLOSED"),
        ):
            log.warning(event, extra={"address": "198.51.100.1", "code": code, "username": "ada"})
    finally:
        configure(level="info")

    filter_file = CHECKOUT / "deploy/fail2ban/filter.d/orbital.conf"
    done = subprocess.run([tester, "--out", "ip", path, filter_file], capture_output=True, text=True, timeout=60)

    assert done.stdout.split() == ["198.51.100.1"], path.read_text()


# Chapter: starts, stops and signals


def test_starts_and_stops_are_lines(tmp_path: Path):
    """[LOGRUN1] With JSON lines the standard output is empty, and every line of a run, start and stop too, is JSON."""
    port = free_port()
    # Variables of the tests' own are no settings, and the server would say so.
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORBITAL_")}
    env |= {**WIDE, **JSON, "JWT_SECRET": SECRET, "PORT": str(port), "ORBITAL_DATA_DIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "orbital_relay", "serve", "--trusted-proxies", "0.0.0.0/0"],
        env=env,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:

        def serves() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=60).status_code == 200
            except httpx.TransportError:
                return False

        until(serves, what="a server", deadline_s=60)
        process.terminate()
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (0, "")
    lines = {line["event"]: line for line in map(json.loads, err.splitlines())}
    first = "the first to sign up becomes the administrator, also a stranger"  # behind a proxy anybody may be
    assert list(lines) == [first, "serving", "a setting is probably not meant", "draining", "stopped"]
    assert lines["serving"]["url"] == f"http://localhost:{port}"
    assert {"version", "database", "workers", "timestamp"} <= set(lines["serving"])
    assert "trusts every address" in lines["a setting is probably not meant"]["reason"]
    assert lines["stopped"]["status"] == 0


def test_a_rotated_log_file_is_opened_again(serve: Serve, tmp_path: Path):
    """[LOGFILE1] SIGHUP makes the server write to a new file after a rotation; only its owner can read the file."""
    path = tmp_path / "orbital.log"
    env = {"ORBITAL_LOG_FILE": str(path), "ORBITAL_LOG_FORMAT": "text"}
    server = serve(env=env)
    assert "serving" in path.read_text("utf-8")
    path.rename(tmp_path / "orbital.log.1")
    server.program.signal(signal.SIGHUP)
    until(path.exists, what="a new log file")
    assert httpx.get(f"{server.url}/health/live").status_code == 200
    server.terminate()

    assert "stopped" in path.read_text("utf-8")
    assert "stopped" not in (tmp_path / "orbital.log.1").read_text("utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_file_that_cannot_be_opened_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """[LOGFILE2] If the log file cannot be opened again, the old one is written on, and has a line about it."""
    from orbital_relay.server.ops.logging import reopen

    folder = tmp_path / "logs"
    folder.mkdir()
    configure(level="info", format="json", file=folder / "log")
    try:
        folder.rename(tmp_path / "moved")
        assert reopen()
        logging.getLogger("orbital.test").warning("afterwards")
    finally:
        configure(level="info")

    failed, after = [json.loads(line) for line in (tmp_path / "moved" / "log").read_text("utf-8").splitlines()]
    assert failed["event"] == "the log file cannot be opened again; the old one is written on"
    assert failed["reason"] == "No such file or directory"
    assert after["event"] == "afterwards"
    assert not reopen()


def test_a_log_file_that_cannot_be_opened(serve: Serve, tmp_path: Path):
    """[LOGFILE3] A log file that cannot be opened at the start is a sentence and status 1."""
    server = serve(env={"ORBITAL_LOG_FILE": str(tmp_path / "none" / "log")}, start=False)

    assert server.launch().wait() == 1
    assert "Error: The log file" in server.program.text
    assert "No such file or directory" in server.program.text


async def test_tasks_can_be_dumped(serve: Serve):
    """[TASKS1] SIGUSR1 logs each task with the line at which it waits, at any log level, and ends no task."""
    server = serve(env={**JSON, "ORBITAL_LOG_LEVEL": "info"})
    ann = await Person.sign_up(server.url)
    group = await ann.make_group()
    socket = await ann.listen(group)
    server.program.signal(signal.SIGUSR1)
    server.program.wait_for('"task": "prune"')

    posted = await ann.say(group)
    await socket.until_seq(group, posted["seq"])
    await ann.close()
    server.terminate()
    (summary,) = _lines(server, "tasks")
    tasks = {line["task"]: line for line in _lines(server, "task")}
    assert summary["count"] == len(tasks)
    assert re.search(r"periodic\.py:\d+ repeat", tasks["prune"]["waits_at"])
