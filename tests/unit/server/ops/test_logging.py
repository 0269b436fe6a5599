"""Log lines: their form, what they leave out, and that no secret passes, by whichever way it came."""

from __future__ import annotations

import base64
import io
import json
import logging
import warnings

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.server.ops import logging as logs

SECRET = "a secret of these tests, long enough"
TOKEN = jwt.encode({"userId": "u-1", "exp": 2_000_000_000}, SECRET, algorithm="HS256")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _lines(stream) -> list[str]:
    return stream.getvalue().splitlines()


def _json(level="info"):
    stream = io.StringIO()
    logs.configure(level=level, format="json", stream=stream)
    return stream


def test_a_json_line():
    """[LOG1] A JSON line has the time, level, logger, message and extra fields."""
    stream = _json()

    logging.getLogger("orbital.server").info("connection closed", extra={"code": 1000, "user_id": "ünïcode"})

    (line,) = map(json.loads, _lines(stream))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "connection closed",
        "level": "info",
        "logger": "orbital.server",
        "code": 1000,
        "user_id": "ünïcode",
    }


def test_a_text_line():
    """[LOG2] A text line has the same fields, and colours only on a terminal."""
    plain, terminal = io.StringIO(), _Terminal()
    for stream in (plain, terminal):
        logs.configure(level="info", format="text", stream=stream)
        logging.getLogger("orbital.server").info("connection closed after %d s", 7, extra={"code": 1000})

    (line,) = _lines(plain)
    assert "connection closed after 7 s" in line
    assert "orbital.server" in line
    assert "code=1000" in line
    assert "\x1b" not in line
    assert "\x1b[" in terminal.getvalue()


def test_the_format_follows_the_terminal():
    """[LOG3] The default format is text on a terminal, and JSON otherwise."""
    for stream, is_json in ((io.StringIO(), True), (_Terminal(), False)):
        logs.configure(level="info", stream=stream)
        logging.getLogger("orbital.server").info("started")
        assert stream.getvalue().startswith("{") is is_json


def test_lines_go_to_standard_error(capsys):
    """[LOG4] Log lines go to standard error, so that standard output has only the command's output."""
    logs.configure(level="info", format="json")
    logging.getLogger("orbital.server").info("started")

    shown = capsys.readouterr()

    assert shown.out == ""
    assert json.loads(shown.err)["event"] == "started"


def test_levels():
    """[LOG5] Orbital's lines are logged from the configured level on, those of libraries from WARNING on."""
    stream = _json(level="debug")
    for name in ("orbital.relay", "sqlalchemy.engine", "asyncio"):
        for level in ("debug", "info", "warning"):
            getattr(logging.getLogger(name), level)(f"{name} {level}")

    assert [json.loads(line)["event"] for line in _lines(stream)] == [
        "orbital.relay debug",
        "orbital.relay info",
        "orbital.relay warning",
        "sqlalchemy.engine warning",
        "asyncio warning",
    ]

    stream = _json(level="error")
    logging.getLogger("orbital.relay").warning("no")
    logging.getLogger("orbital.relay").error("yes")
    assert [json.loads(line)["event"] for line in _lines(stream)] == ["yes"]


def test_uvicorn_has_our_format_and_no_access_line():
    """[LOG6] Warnings of uvicorn have the same format; its access line, which contains the query, is not logged."""
    stream = _json()

    logging.getLogger("uvicorn.access").info('127.0.0.1 - "GET /ws?token=%s" 101', TOKEN)
    logging.getLogger("uvicorn.access").error('127.0.0.1 - "GET /ws?token=%s" 101', TOKEN)
    logging.getLogger("uvicorn.error").info("Uvicorn running")
    logging.getLogger("uvicorn.error").warning("Invalid request.", extra={"color_message": "\x1b[31mInvalid request."})

    (line,) = map(json.loads, _lines(stream))
    assert (line["logger"], line["event"]) == ("uvicorn.error", "Invalid request.")
    assert "color_message" not in line


def test_configuring_twice_does_not_duplicate():
    """[LOG7] If logging is configured twice, each line is written once, to the later destination."""
    first, second = _json(), _json()

    logging.getLogger("orbital.server").info("once")

    assert _lines(first) == []
    assert len(_lines(second)) == 1


def test_warnings_are_logged():
    """[LOG8] Python warnings are logged as lines, not printed as raw text."""
    stream = _json()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old things", DeprecationWarning, stacklevel=1)

    assert "old things" in json.loads(_lines(stream)[0])["event"]


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_error_has_its_traceback(format):
    """[LOG9] An exception's traceback is in the line, without local variables."""
    stream = io.StringIO()
    logs.configure(level="info", format=format, stream=stream)

    try:
        local = "the value of a local variable".upper()
        raise KeyError(len(local))
    except KeyError:
        logging.getLogger("orbital.server").exception("it broke")

    shown = stream.getvalue()
    assert "it broke" in shown
    assert "Traceback" in shown
    assert "KeyError" in shown
    assert "THE VALUE" not in shown


# Chapter: secrets


def _ways(token: str):
    """Each way by which a secret could get into a line."""
    log = logging.getLogger("orbital.server")

    def failing() -> None:
        try:
            raise ValueError(f"cannot read {token}")
        except ValueError:
            log.exception("it broke")

    return {
        "message": lambda: log.warning("GET /ws?token=" + token + " failed"),  # noqa: G003 - the way that is tried
        "argument": lambda: log.warning("GET /ws?token=%s", token),
        "bare argument": lambda: log.warning("%s", token),
        "query": lambda: log.warning("x", extra={"path": f"/ws?x=1&token={token}&y=2"}),
        "extra": lambda: log.warning("x", extra={"token": token}),
        "header": lambda: log.warning("x", extra={"headers": {"authorization": f"Bearer {token}"}}),
        "bytes": lambda: log.warning("x", extra={"head": f"Authorization: Bearer {token}\r\n".encode()}),
        "subprotocol": lambda: log.warning("x", extra={"protocols": f"orbital.v1, bearer.{token}"}),
        "list": lambda: log.warning("x", extra={"all": [("sec-websocket-protocol", f"bearer.{token}")]}),
        "json": lambda: log.warning('{"type":"authenticate","data":{"token":"%s"}}', token),
        "dictionary": lambda: log.warning("%r", {"token": token}),
        "exception": failing,
        "library": lambda: logging.getLogger("uvicorn.error").error("bad request: /ws?token=%s", token),
        "object": lambda: log.warning("x", extra={"object": type("Odd", (), {"__repr__": lambda _: f"<{token}>"})()}),
    }


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("way", list(_ways("")))
def test_no_token_is_logged(way, format):
    """[LOG10] A JWT and its signature never appear in a log line, in any form; the line itself is logged."""
    stream = io.StringIO()
    logs.configure(level="debug", format=format, stream=stream)

    _ways(TOKEN)[way]()

    shown = stream.getvalue()
    assert shown.strip()
    for part in TOKEN.split("."):
        assert part not in shown
    assert "***" in shown


@given(st.binary(min_size=32, max_size=64), st.sampled_from(["ticket=", "token=", "Bearer ", "bearer.", '"ticket": "']))
def test_no_ticket_is_logged(random, before):
    """[LOG11] A ticket, which has no recognizable form, is redacted by the text that precedes it."""
    ticket = base64.urlsafe_b64encode(random).rstrip(b"=").decode()

    assert ticket not in logs.without_secrets(f"GET /ws?{before}{ticket} HTTP/1.1")


@pytest.mark.parametrize(
    "text, shown",
    [
        (f"cut off: {TOKEN[:30]}", "cut off: ***"),
        ("postgresql://u:hush@db:5432/x failed", "postgresql://***@db:5432/x failed"),
        ("redis://:hush@cache", "redis://***@cache"),
        ("password='hush hush' given", "password=*** hush' given"),
        ("access_token=hush&x=1", "access_token=***&x=1"),
    ],
)
def test_other_secrets(text, shown):
    """[LOG12] Parts of tokens, and passwords in addresses, are redacted, and the rest is kept."""
    assert logs.without_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "connection closed",
        "orbital_relay.server.edge.connection",
        "prometheus_client.exposition.generate_latest",
        "The token has expired; log in again.",
        "a token: what it is",
        "http://localhost:3000/api/groups?limit=5",
        "token_expiring at 12",
        "x == y, token==None",
        "0b1c2d3e-0000-4000-8000-000000000000",
        "someone@example.org",
        "Bearer of news",
    ],
)
def test_other_text_is_not_redacted(text):
    """[LOG13] Ordinary words, names and ids are not redacted."""
    assert logs.without_secrets(text) == text


@pytest.mark.parametrize("format", ["text", "json"])
def test_client_input_adds_no_line(format):
    """[LOG14] Newlines and terminal codes in client input cause neither a second line nor colours."""
    stream = io.StringIO()
    logs.configure(level="info", format=format, stream=stream)

    logging.getLogger("orbital.server").info(
        "bad frame: %s", "\n2026-01-01 [error] forged", extra={"from": "\x1b[2J\r\u2028x", "more": ["\n\x1b[31m"]}
    )

    (line,) = _lines(stream)
    assert "\x1b" not in line
    assert "forged" in line
