"""What the server knows of our interest in a group, as a table of states."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Standing(Enum):
    """What the server knows of our interest in a group, on this connection."""

    OFF = "off"
    ASKED = "asked"
    ON = "on"
    ENDED = "ended"


class Word(Enum):
    """What may happen to the standing."""

    ASK = "we send `subscribe`"
    CONFIRM = "`subscribed` names it"
    REFUSE = "`error` names it"
    DISMISS = "`unsubscribed` names it, unasked"
    LOSE = "the connection is lost"
    BREAK = "the log cannot be read, or is not the one it was"


STEPS: Final[dict[tuple[Standing, Word], Standing]] = {
    (Standing.OFF, Word.ASK): Standing.ASKED,
    (Standing.ASKED, Word.CONFIRM): Standing.ON,
    (Standing.ON, Word.CONFIRM): Standing.ON,
    (Standing.ASKED, Word.REFUSE): Standing.ENDED,
    (Standing.ASKED, Word.DISMISS): Standing.ENDED,
    (Standing.ON, Word.DISMISS): Standing.ENDED,
    (Standing.OFF, Word.LOSE): Standing.OFF,
    (Standing.ASKED, Word.LOSE): Standing.OFF,
    (Standing.ON, Word.LOSE): Standing.OFF,
    (Standing.OFF, Word.BREAK): Standing.ENDED,
    (Standing.ASKED, Word.BREAK): Standing.ENDED,
    (Standing.ON, Word.BREAK): Standing.ENDED,
}
"""Every step that there is. A word without a row is ignored: it is late, or a lie."""
