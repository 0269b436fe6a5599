"""Descriptions of the states, inputs and actions of the two machines, for documents and readers of the tables."""

from __future__ import annotations

from typing import Final

from orbital_relay.e2ee.receiver import ReceiverAct, ReceiverInput, ReceiverState
from orbital_relay.e2ee.sender import SenderAct, SenderInput, SenderState

SENDER_STATES: Final[dict[SenderState, str]] = {
    "none": "There is no chain.",
    "made": "A chain exists; nobody was given it.",
    "giving": "A `new_keys` is sealed and stored, and not accepted yet.",
    "ready": "Every device of the view was given the chain.",
}
SENDER_INPUTS: Final[dict[SenderInput, str]] = {
    "draft": "there is something to send",
    "missing": "a device of the view was not given the chain",
    "complete": "every device of the view was given the chain",
    "accepted": "the server answered the `new_keys` with 2xx",
    "pending": "a `new_keys` is stored from before, its answer unknown",
    "epoch_changed": "the server answered 409 `EPOCH_CHANGED`",
    "moved": "the epoch is newer, and the devices are the same",
    "lost": "a device that was given the chain, or may have been, left, was revoked, or has another identity",
    "rotate": (
        "the chain is older than the policy allows, has sent 1,000 messages, is an old copy, or a person "
        "asked for new keys"
    ),
}
SENDER_ACTS: Final[dict[SenderAct, str]] = {
    "make": "make a distribution id and a chain",
    "give": (
        "claim keys, seal the chain at its present iteration for the missing devices, store the `new_keys`, "
        "post it with `if_epoch`"
    ),
    "repost": "post the stored `new_keys` again, under the same idempotency key",
    "record": "write who was given the chain",
    "catch_up": "discard a stored `new_keys`, process the log up to the epoch of the answer",
    "seal": "seal the oldest draft, store row and ratchet together, post it with `if_epoch`",
    "drop": "forget the chain",
    "follow": "take the newer epoch",
}
RECEIVER_STATES: Final[dict[ReceiverState, str]] = {
    "unknown": "The distribution was never given to this device.",
    "known": "The distribution is pinned to one device and one group; it can be read from its first iteration given.",
}
RECEIVER_INPUTS: Final[dict[ReceiverInput, str]] = {
    "content": "content of the pinned author and group, or of an unknown distribution",
    "before_first": "content older than the first iteration given",
    "other_author": "content whose author, as the server says, is not the pinned one",
    "other_group": "content in another group than the pinned one",
    "far_ahead": "content more than 2,000 iterations ahead",
    "duplicate": "content whose iteration was read already",
    "keys": "keys for this device, from a device of the roster",
    "keys_again": "keys of the pinned device for this distribution again",
    "keys_stolen": "keys of another device for this distribution",
    "keys_stranger": "keys from a device outside the roster",
    "keys_identity": "keys signed by another identity than the roster has",
    "history_trusted": "a chain of another device, given by a verified person, the inviter, or an own device",
    "history_untrusted": "a chain of another device, given by anyone else",
    "request_entitled": (
        "a request for an own chain by a device that was given it, or was in the roster when it was made"
    ),
    "request_later": "a request for an own chain by a device that came into the roster later",
    "request_foreign": "a request by a device outside the roster",
}
RECEIVER_ACTS: Final[dict[ReceiverAct, str]] = {
    "wait": "keep the event in `waiting`; ask for the key once caught up",
    "read": "decrypt; check kind, group and context; write the item",
    "pin": "pin the distribution to device and group, learn the chain, try `waiting`, oldest first",
    "ignore": "nothing changes",
    "hold": "keep it unopened until the roster has that device with that identity",
    "warn": "write the warning; the content is not shown",
    "drop": "nothing is shown; the warning is written",
    "read_past": (
        "read `waiting` with a scratch chain; mark the items with the giver, unless the owner’s signature proves them"
    ),
    "answer": "give the chain as it was given then, or from its beginning",
}
