"""
Logging: text for people or JSON for programs, by structlog; redaction of secrets.

Rooms write with `logging.getLogger("orbital.…")`, a short sentence and `extra=`; nothing but this file knows the form.
No room writes a token. Should one, or a library, ever do: `redact` is the last defence, over every word of a line.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TextIO

from orbital_relay.errors import SettingsInvalid
from orbital_relay.server.edge.current_request import current_id
from orbital_relay.server.ops.plain_structlog import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

log = logging.getLogger("orbital.server")

LogLevel = Literal["debug", "info", "warning", "error"]

HIDDEN: Final = "***"
"""Replaces a secret in the log."""

_SECRET_KEYS: Final = ("access_token", "token", "ticket", "password", "secret", "jwt_secret", "authorization")
_NAMES: Final = "|".join(_SECRET_KEYS)
_PATTERNS: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # RFC 7519: header, payload, signature. The shortest header, {"alg":"HS256"}, has 20 characters, and no
        # signature fewer than 43; three parts so long are no module's name.
        (r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{20,}", HIDDEN),
        # Of a token that was cut off, header and the beginning of its claims: base64 of `{"` each.
        (r"\beyJ[A-Za-z0-9_-]{10,}(?:\.eyJ[A-Za-z0-9_-]*)?", HIDDEN),
        # RFC 6750 §2.1, and the subprotocol of a browser.
        (r"(?i)\b(bearer[ .])\s*[A-Za-z0-9_.~+/=-]{8,}", rf"\g<1>{HIDDEN}"),
        # An address' query, a cookie, a keyword argument.
        (rf"""(?i)\b({_NAMES})=(?!=)["']?[^\s"'&,;)}}\]]+""", rf"\g<1>={HIDDEN}"),
        # JSON, or the repr of a dictionary.
        (rf"""(?i)(["'](?:{_NAMES})["']\s*:\s*["'])[^"']+""", rf"\g<1>{HIDDEN}"),
        # RFC 3986 §3.2.1: user and password of a database's address.
        (r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@'\"]*@", rf"\g<1>{HIDDEN}@"),
    )
)
# None of them can be in a text without one of these: most texts are ids and plain words.
_PERHAPS: Final = re.compile(r"[.=:@]|eyJ|(?i:bearer)")
# What would move a terminal's cursor, or make one line look like two.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028\u2029]")


def without_secrets(text: str) -> str:
    """Return a text with everything hidden that looks like a token, a ticket or a password."""
    if _PERHAPS.search(text) is None:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:  # noqa: ARG001 - structlog's signature
    """Hide what must not be in a line, and what would break one; the last step before it is written."""
    for key, value in event.items():
        if key == "exception":
            event[key] = _CONTROL.sub("?", without_secrets(str(value)))
        elif key.lower() in _SECRET_KEYS:
            event[key] = HIDDEN
        elif isinstance(value, str):
            event[key] = _one_line(value)
        elif not isinstance(value, (int, float, type(None))):
            # A list, a dictionary, somebody's object: what would be written of it is its repr.
            shown = repr(value)
            if (safe := _one_line(shown)) != shown:
                event[key] = safe
    return event


def _one_line(text: str) -> str:
    return _CONTROL.sub("?", without_secrets(text).replace("\n", "\\n"))


def is_text(format: Literal["text", "json"] | None, stream: TextIO | None = None) -> bool:
    """Return whether lines are for people: by whether the stream is a terminal if no format is given."""
    return format == "text" or (format is None and (stream or sys.stderr).isatty())


class LogFile(logging.StreamHandler[TextIO]):
    """
    A log file that can be renamed while it is written: `reopen` makes a new one under its name.

    Each line is one write to the end of the file, so several processes can share it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(self._open())

    def _open(self) -> TextIO:
        # For its owner alone: lines have addresses and names.
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace")

    def reopen(self) -> None:
        """
        Write to the file that has the name now; make it if there is none.

        Raises:
            OSError: If it cannot be opened; the old file is written on.
        """
        old = self.setStream(self._open())
        if old is not None:
            old.close()

    def close(self) -> None:
        """Close the file."""
        super().close()
        self.stream.close()


def reopen() -> bool:
    """
    Open the log file again, after a rotation renamed it; a failure is logged, and the old file is written on.

    Returns:
        Whether lines go to a file.
    """
    found = False
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            found = True
            try:
                handler.reopen()
            except OSError as exc:
                log.error(  # noqa: TRY400 - the operator's file, not an internal bug
                    "the log file cannot be opened again; the old one is written on",
                    extra={"path": str(handler.path), "reason": exc.strerror},
                )
            else:
                log.info("the log file was opened again", extra={"path": str(handler.path)})
    return found


def configure(
    *,
    level: LogLevel,
    format: Literal["text", "json"] | None = None,
    stream: TextIO | None = None,
    file: Path | None = None,
    addresses: bool = True,
) -> None:
    """
    Send every line of this process to one place, in one form; calling it again changes both.

    Args:
        level: The least serious of our own lines that is written; of libraries, warnings and worse are.
        format: For people or programs; by whether the stream is a terminal when left out.
        stream: Where to; standard error when left out.
        file: A file that gets the lines in place of the stream.
        addresses: Whether lines have the addresses of clients.

    Raises:
        SettingsInvalid: If the file cannot be opened.
    """
    stream = stream or sys.stderr
    terminal = file is None and stream.isatty()
    text = is_text(format, stream) if file is None else format == "text"
    try:
        handler = logging.StreamHandler(stream) if file is None else LogFile(file)
    except OSError as exc:
        raise SettingsInvalid(f"The log file {file} cannot be opened: {exc.strerror}.") from exc
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_common(addresses=addresses),
            processors=_written(as_text=text, colors=terminal),
            pass_foreign_args=False,
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("orbital").setLevel(level.upper())
    logging.captureWarnings(capture=True)
    _route_uvicorn(level)


def _common(*, addresses: bool) -> Sequence[Processor]:
    return (
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _without_leftovers,
        _with_request_id,
        *(() if addresses else (_without_address,)),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    )


def _without_leftovers(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:  # noqa: ARG001 - structlog's
    """Drop what other formatters left on a record, and uvicorn's sentences with colours."""
    event.pop("message", None)
    event.pop("asctime", None)
    event.pop("color_message", None)
    return event


def _with_request_id(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:  # noqa: ARG001 - structlog's
    """Add the id of the request that is being answered, unless the line names one."""
    if "request_id" not in event and (found := current_id()) is not None:
        event["request_id"] = found
    return event


def _without_address(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:  # noqa: ARG001 - structlog's
    """Drop the address of a client (ORBITAL_LOG_ADDRESSES=off)."""
    event.pop("address", None)
    return event


def _written(*, as_text: bool, colors: bool) -> Sequence[Processor]:
    form: Processor = (
        structlog.dev.ConsoleRenderer(colors=colors)
        if as_text
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    return (
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        # As text, before `redact` looks: a renderer of its own would show local variables.
        structlog.processors.format_exc_info,
        redact,
        form,
    )


def _route_uvicorn(level: LogLevel) -> None:
    """Route uvicorn's log through ours; drop its line for each request, which contains the query."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access"):
        log = logging.getLogger(name)
        log.handlers.clear()
        log.propagate = True
    logging.getLogger("uvicorn.access").propagate = False
    logging.getLogger("uvicorn.access").disabled = True
    # At `info` it logs in six lines what ours log in one.
    logging.getLogger("uvicorn").setLevel(logging.INFO if level == "debug" else logging.WARNING)
