"""Subscription states at the server, as a table."""

from __future__ import annotations

from enum import Enum
from typing import Final


class SubscriptionState(Enum):
    """What the server knows of our interest in a group, on this connection."""

    OFF = "off"
    ASKED = "asked"
    ON = "on"
    ENDED = "ended"


class Word(Enum):
    """What may happen to the subscription."""

    ASK = "we send `subscribe`"
    CONFIRM = "`subscribed` names it"
    REFUSE = "`error` names it"
    DISMISS = "`unsubscribed` names it, unasked"
    LOSE = "the connection is lost"
    BREAK = "the log cannot be read, or is not the one it was"


STEPS: Final[dict[tuple[SubscriptionState, Word], SubscriptionState]] = {
    (SubscriptionState.OFF, Word.ASK): SubscriptionState.ASKED,
    (SubscriptionState.ASKED, Word.CONFIRM): SubscriptionState.ON,
    (SubscriptionState.ON, Word.CONFIRM): SubscriptionState.ON,
    (SubscriptionState.ASKED, Word.REFUSE): SubscriptionState.ENDED,
    (SubscriptionState.ASKED, Word.DISMISS): SubscriptionState.ENDED,
    (SubscriptionState.ON, Word.DISMISS): SubscriptionState.ENDED,
    (SubscriptionState.OFF, Word.LOSE): SubscriptionState.OFF,
    (SubscriptionState.ASKED, Word.LOSE): SubscriptionState.OFF,
    (SubscriptionState.ON, Word.LOSE): SubscriptionState.OFF,
    (SubscriptionState.OFF, Word.BREAK): SubscriptionState.ENDED,
    (SubscriptionState.ASKED, Word.BREAK): SubscriptionState.ENDED,
    (SubscriptionState.ON, Word.BREAK): SubscriptionState.ENDED,
}
"""Every step that there is. A word without a row is ignored: it is late, or a lie."""
