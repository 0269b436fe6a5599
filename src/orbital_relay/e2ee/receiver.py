"""
The receiver's machine: one for each distribution (one sender's chain).

It is a pure state machine; `contents.py`, `keys.py` and `requests.py` do what it says.

The table is data: docs/reference/encryption.md draws it, and a test holds that every pair of a state and an input that
can come up has its row.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from orbital_relay.e2ee.chain import MAX_AHEAD

REQUEST_MS: Final = (3_000, 60_000, 3_600_000, 86_400_000)
"""When a missing key is asked for, in milliseconds after the device has caught up; then asking stops."""

ReceiverState = Literal["unknown", "known"]
ReceiverInput = Literal[
    "content",
    "before_first",
    "other_author",
    "other_group",
    "far_ahead",
    "duplicate",
    "keys",
    "keys_again",
    "keys_stolen",
    "keys_stranger",
    "keys_identity",
    "history_trusted",
    "history_untrusted",
    "request_entitled",
    "request_later",
    "request_foreign",
]
ReceiverAct = Literal["wait", "read", "pin", "ignore", "hold", "warn", "drop", "read_past", "answer"]
ReceiverWarning = Literal[
    "wrong_sender",
    "misplaced",
    "too_far_ahead",
    "repeated",
    "stolen_distribution",
    "unknown_device",
    "identity_differs",
    "untrusted_history",
    "foreign_request",
]


class ReceiverRow(msgspec.Struct, frozen=True):
    """In `state`, `on` an input the machine `does` something, goes `to` a state, and may write a warning."""

    state: ReceiverState
    on: ReceiverInput
    does: ReceiverAct
    to: ReceiverState
    warning: ReceiverWarning | None = None


RECEIVER: Final[tuple[ReceiverRow, ...]] = (
    ReceiverRow("unknown", "content", "wait", "unknown"),
    ReceiverRow("unknown", "keys", "pin", "known"),
    ReceiverRow("unknown", "keys_stranger", "hold", "unknown", "unknown_device"),
    ReceiverRow("unknown", "keys_identity", "hold", "unknown", "identity_differs"),
    ReceiverRow("unknown", "history_trusted", "read_past", "unknown"),
    ReceiverRow("unknown", "history_untrusted", "warn", "unknown", "untrusted_history"),
    ReceiverRow("unknown", "request_foreign", "warn", "unknown", "foreign_request"),
    ReceiverRow("known", "content", "read", "known"),
    ReceiverRow("known", "before_first", "wait", "known"),
    ReceiverRow("known", "other_author", "warn", "known", "wrong_sender"),
    ReceiverRow("known", "other_group", "warn", "known", "misplaced"),
    ReceiverRow("known", "far_ahead", "warn", "known", "too_far_ahead"),
    ReceiverRow("known", "duplicate", "drop", "known", "repeated"),
    ReceiverRow("known", "keys_again", "ignore", "known"),
    ReceiverRow("known", "keys_stolen", "warn", "known", "stolen_distribution"),
    ReceiverRow("known", "keys_stranger", "hold", "known", "unknown_device"),
    ReceiverRow("known", "keys_identity", "hold", "known", "identity_differs"),
    ReceiverRow("known", "history_trusted", "read_past", "known"),
    ReceiverRow("known", "history_untrusted", "warn", "known", "untrusted_history"),
    ReceiverRow("known", "request_entitled", "answer", "known"),
    ReceiverRow("known", "request_later", "ignore", "known"),
    ReceiverRow("known", "request_foreign", "warn", "known", "foreign_request"),
)


def receiver_row(state: ReceiverState, on: ReceiverInput) -> ReceiverRow:
    """Return the row of a state and an input; the functions below name no input without one."""
    for row in RECEIVER:
        if row.state == state and row.on == on:
            return row
    raise AssertionError(f"the receiver's machine has no row for {on} in {state}")


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is known of a distribution.

    Attributes:
        group: The group to which it belongs.
        user: Of the device that owns it.
        device: Of the device that owns it.
        first: The first iteration given.
        last: One above the newest iteration read.
    """

    group: str
    user: str
    device: int
    first: int = 0
    last: int = 0


def on_content(pinned: Pin | None, *, author: str, group: str, iteration: int) -> ReceiverRow:
    """Name the input that content is, before anything is decrypted."""
    if pinned is None:
        return receiver_row("unknown", "content")
    if pinned.group != group:
        return receiver_row("known", "other_group")
    if pinned.user != author:
        return receiver_row("known", "other_author")
    if iteration < pinned.first:
        return receiver_row("known", "before_first")
    return receiver_row("known", "far_ahead" if iteration - pinned.last > MAX_AHEAD else "content")


def on_keys(pinned: Pin | None, *, user: str, device: int, group: str) -> ReceiverRow:
    """Name the input that opened keys are; user and device are of the signature or session that they came by."""
    if pinned is None:
        return receiver_row("unknown", "keys")
    owned = (pinned.user, pinned.device, pinned.group) == (user, device, group)
    return receiver_row("known", "keys_again" if owned else "keys_stolen")


def on_keys_of_nobody(pinned: Pin | None, *, known_device: bool) -> ReceiverRow:
    """Name the input that keys are whose device, or whose identity, the roster does not have."""
    return receiver_row("unknown" if pinned is None else "known", "keys_identity" if known_device else "keys_stranger")


def on_request(*, in_roster: bool, given: bool, since: int, made_epoch: int) -> ReceiverRow:
    """
    Name the input that a request for an own chain is.

    Args:
        in_roster: Whether the device that asks is in the roster.
        given: Whether it was given the chain, with the identity that the roster has.
        since: The number of the record that admitted it.
        made_epoch: The epoch for which the chain was made.
    """
    if not in_roster:
        return receiver_row("known", "request_foreign")
    return receiver_row("known", "request_entitled" if given or since <= made_epoch else "request_later")


def on_history(*, known: bool, trusted: bool) -> ReceiverRow:
    """
    Name the input that a shared chain of another device is.

    Args:
        known: Whether the distribution is pinned already.
        trusted: Whether its giver is verified, the inviter, or an own device.
    """
    return receiver_row("known" if known else "unknown", "history_trusted" if trusted else "history_untrusted")


def request_due(asked: int, since_ms: int) -> int | None:
    """
    Return when the next request for a missing key is due.

    Args:
        asked: Requests made so far.
        since_ms: When the device had caught up and the key was missing.

    Returns:
        Milliseconds since the epoch; None when asking has ended.
    """
    return since_ms + REQUEST_MS[asked] if asked < len(REQUEST_MS) else None
