"""Errors of the encryption layer: one class, with a code for programs and a sentence for people."""

from __future__ import annotations

from typing import Literal

Code = Literal[
    "malformed",
    "unsupported",
    "bad_key",
    "bad_signature",
    "cannot_open",
    "unknown_chain",
    "repeated",
    "too_far_ahead",
    "epoch_changed",
    "conflict",
    "out_of_order",
    "not_found",
    "stopped",
    "locked",
]


class E2eeError(Exception):
    """
    An error of the encryption layer. No message carries a key or a plaintext.

    Attributes:
        code: What is wrong.

            - `malformed`: bytes are not in the format that their place asks for.
            - `unsupported`: a version or suite that this client does not have.
            - `bad_key`: a public key of another type, not canonical, of low order, or of another device.
            - `bad_signature`: a signature that does not verify, or whose S is ℓ or more.
            - `cannot_open`: an authenticated ciphertext that does not open.
            - `unknown_chain`, `repeated`, `too_far_ahead`: a sender-key message whose chain is unknown, whose
              iteration was used, or that is more than 2,000 ahead.
            - `epoch_changed`: the group changed before a post reached it; `details["epoch"]` is the number to
              catch up to.
            - `conflict`: the server holds another body under the same idempotency key; or the group is known already.
            - `out_of_order`: an event that is not the group's next one; `details["expected"]` is the next number.
            - `not_found`: a named thing does not exist here.
            - `stopped`: sending in this group waits for a person's decision.
            - `locked`: the store does not open with this key, or another process has it.
        details: Numbers and names that belong to the code.
    """

    def __init__(self, code: Code, message: str, **details: object) -> None:
        super().__init__(message)
        self.code: Code = code
        self.details = details
