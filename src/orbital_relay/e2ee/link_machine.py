"""
The two machines of linking: one on the new device, one on the device that admits it.

Pure tables; `linking.py` does what they say, and docs/reference/encryption.md draws them.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from orbital_relay.e2ee.errors import E2eeError

NewState = Literal["idle", "offered", "received"]
NewInput = Literal["open", "shown", "mail", "foreign", "expired", "confirmed", "declined"]
NewAct = Literal["show", "keep", "forget", "enter"]
OldState = Literal["idle", "sending"]
OldInput = Literal["code", "again", "delivered", "taken", "gone"]
OldAct = Literal["seal", "post", "record", "forget"]


class NewDeviceRow(msgspec.Struct, frozen=True):
    """In `state`, `on` an input the new device `does` something and goes `to` a state."""

    state: NewState
    on: NewInput
    does: NewAct
    to: NewState


class OldDeviceRow(msgspec.Struct, frozen=True):
    """In `state`, `on` an input the older device `does` something and goes `to` a state."""

    state: OldState
    on: OldInput
    does: OldAct
    to: OldState


NEW_DEVICE: Final = (
    NewDeviceRow("idle", "open", "show", "offered"),
    NewDeviceRow("offered", "shown", "show", "offered"),
    NewDeviceRow("offered", "open", "show", "offered"),
    NewDeviceRow("offered", "mail", "keep", "received"),
    NewDeviceRow("offered", "foreign", "forget", "idle"),
    NewDeviceRow("offered", "expired", "forget", "idle"),
    NewDeviceRow("offered", "declined", "forget", "idle"),
    NewDeviceRow("received", "open", "show", "offered"),
    NewDeviceRow("received", "confirmed", "enter", "idle"),
    NewDeviceRow("received", "declined", "forget", "idle"),
)
"""The machine of the device that shows a code."""

OLD_DEVICE: Final = (
    OldDeviceRow("idle", "code", "seal", "sending"),
    OldDeviceRow("sending", "again", "post", "sending"),
    OldDeviceRow("sending", "delivered", "record", "idle"),
    OldDeviceRow("sending", "taken", "forget", "idle"),
    OldDeviceRow("sending", "gone", "forget", "idle"),
)
"""The machine of the device that reads a code."""


def new_device_row(state: NewState, on: NewInput) -> NewDeviceRow:
    """
    Find the new device's row of a state and an input.

    Raises:
        E2eeError: `not_found` when nothing is to be done, as for a confirmation before a message arrived.
    """
    for row in NEW_DEVICE:
        if (row.state, row.on) == (state, on):
            return row
    raise E2eeError("not_found", f"linking is {state} here, and {on} does not fit: begin again with a new code")


NEW_STATES: Final[dict[NewState, str]] = {
    "idle": "No code is shown.",
    "offered": "A mailbox is open, and its code can be shown for ten minutes.",
    "received": "A message was opened; a person compares the numbers on both devices.",
}
NEW_INPUTS: Final[dict[NewInput, str]] = {
    "open": "a person asks for a code, and none can be used",
    "shown": "a person asks for a code again, or the program was restarted, and the code can still be used",
    "mail": "a message that opens with the code, from another device of the same person",
    "foreign": "a message that does not open, or is of another person",
    "expired": "ten minutes are over, or the mailbox is gone",
    "confirmed": "the person says that both numbers are equal",
    "declined": "the person says that they differ, or ends it",
}
NEW_ACTS: Final[dict[NewAct, str]] = {
    "show": ("store keys, secret and mailbox of a new code, or keep those of a code that can be used; show it"),
    "keep": "store the message, show the number",
    "forget": "delete keys, secret and message",
    "enter": "enter every group of the message and delete keys, secret and message, in one transaction",
}
OLD_STATES: Final[dict[OldState, str]] = {
    "idle": "Nothing is linked.",
    "sending": "A message is sealed and stored, and the server has not answered yet.",
}
OLD_INPUTS: Final[dict[OldInput, str]] = {
    "code": "a person confirms a code that this device read",
    "again": "the same code again, or the program was restarted",
    "delivered": "the server answered 204",
    "taken": "the server answered 409: another message is in the mailbox",
    "gone": "the server answered 404: the code has expired",
}
OLD_ACTS: Final[dict[OldAct, str]] = {
    "seal": "seal what the new device needs, store it, put it into the mailbox",
    "post": "put the stored message into the mailbox",
    "record": "enqueue a `link` for each group and delete the message, in one transaction",
    "forget": "delete the message; nothing is linked",
}
