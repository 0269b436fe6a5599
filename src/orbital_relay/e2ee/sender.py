"""
The sender's machine: when a chain is made, distributed and replaced (rotation). A pure state machine.

The table is data: docs/reference/encryption.md draws it, and a test holds that every pair of a state and an input that
can come up has its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

MAX_MESSAGES: Final = 1000
"""A chain is replaced after so many messages: far below what readers skip or libsignal bounds."""
MAX_DELIVERIES: Final = 128
"""Devices that one `new_keys` serves: 128 deliveries of 1,381 bytes are 177 kB, below the limit of 256 KiB."""
DAY_MS: Final = 86_400_000

SenderState = Literal["none", "made", "giving", "ready"]
SenderInput = Literal["draft", "missing", "complete", "accepted", "pending", "epoch_changed", "moved", "lost", "rotate"]
SenderAct = Literal["make", "give", "repost", "record", "catch_up", "seal", "drop", "follow"]


class SenderRow(msgspec.Struct, frozen=True):
    """In `state`, `on` an input the machine `does` something, and goes `to` a state."""

    state: SenderState
    on: SenderInput
    does: SenderAct
    to: SenderState


SENDER: Final[tuple[SenderRow, ...]] = (
    SenderRow("none", "draft", "make", "made"),
    SenderRow("made", "missing", "give", "giving"),
    SenderRow("made", "complete", "follow", "ready"),
    SenderRow("made", "moved", "follow", "made"),
    SenderRow("made", "lost", "drop", "none"),
    SenderRow("made", "rotate", "drop", "none"),
    SenderRow("giving", "pending", "repost", "giving"),
    SenderRow("giving", "accepted", "record", "ready"),
    SenderRow("giving", "epoch_changed", "catch_up", "made"),
    SenderRow("giving", "moved", "catch_up", "made"),
    SenderRow("giving", "lost", "drop", "none"),
    SenderRow("giving", "rotate", "drop", "none"),
    SenderRow("ready", "draft", "seal", "ready"),
    SenderRow("ready", "missing", "give", "giving"),
    SenderRow("ready", "moved", "follow", "ready"),
    SenderRow("ready", "epoch_changed", "catch_up", "ready"),
    SenderRow("ready", "lost", "drop", "none"),
    SenderRow("ready", "rotate", "drop", "none"),
)


def sender_row(state: SenderState, on: SenderInput) -> SenderRow:
    """Return the row of a state and an input; `next_input` names no input without one."""
    for row in SENDER:
        if row.state == state and row.on == on:
            return row
    raise AssertionError(f"the sender's machine has no row for {on} in {state}")


class ViewDevice(msgspec.Struct, frozen=True):
    """A device as the roster has it; `identity` is hexadecimal."""

    user: str
    device: int
    identity: str
    suites: int


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """
    A device that was given a chain, or was tried.

    Attributes:
        user: Its user.
        device: Its number.
        identity: Hexadecimal: with which it was given the chain.
        skdm: What it was given; None when it was refused.
        maybe: Posted, and the answer is not known.
        refused: Why it was given nothing.
    """

    user: str
    device: int
    identity: str
    skdm: bytes | None = None
    maybe: bool = False
    refused: str | None = None

    def fits(self, device: ViewDevice) -> bool:
        """Return whether it is this device with this identity."""
        return (self.user, self.device, self.identity) == (device.user, device.device, device.identity)


class SenderView(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the log says, as far as this device has processed it.

    Attributes:
        epoch: Number of the group's last change of members, devices or records.
        devices: The roster's devices whose people are members, without this one.
        rotation_days: After which a chain is replaced.
    """

    epoch: int
    devices: Sequence[ViewDevice]
    rotation_days: int


class SenderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the device has stored.

    Attributes:
        state: The machine's.
        epoch: The epoch that the chain was last given for.
        count: Messages sealed with the chain.
        made_at: Milliseconds since the epoch.
        given: Devices that were given the chain.
        drafts: Whether there is something to send.
    """

    state: SenderState
    epoch: int
    count: int
    made_at: int
    given: Sequence[Given]
    drafts: bool


def missing_devices(view: SenderView, given: Sequence[Given]) -> list[ViewDevice]:
    """Return the devices that were not given the chain yet."""
    return [device for device in view.devices if not any(one.fits(device) and not one.maybe for one in given)]


def next_input(facts: SenderFacts, view: SenderView, now_ms: int) -> SenderInput | None:
    """
    Decide what the machine's next input is.

    Keys go before content: a draft counts only once every device of the view was given the chain for the view's epoch.

    Returns:
        None when there is nothing to do.
    """
    if facts.state == "none":
        return "draft" if facts.drafts else None
    if any(not any(one.fits(device) for device in view.devices) for one in facts.given):
        return "lost"
    # A clock that went back does not keep a chain alive: the count bounds it.
    if facts.count >= MAX_MESSAGES or now_ms - facts.made_at >= view.rotation_days * DAY_MS:
        return "rotate"
    if facts.state == "giving":
        return "pending" if facts.epoch == view.epoch else "moved"
    if not facts.drafts:
        return None
    if facts.epoch != view.epoch:
        return "moved"
    if missing_devices(view, facts.given):
        return "missing"
    return "complete" if facts.state == "made" else "draft"
