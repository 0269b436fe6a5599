"""A finding of `orbital doctor`."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "note", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """
    One sentence about one thing.

    Attributes:
        check: What was looked at: `settings`, `files`, `database`, `redis`, `clock`, `limits` or `outside`.
        level: `ok`, `note` for what works and may not be meant, `problem` for what does not work or is unsafe.
        text: The sentence.
        remedy: What to do; empty for `ok`.
    """

    check: str
    level: Level
    text: str
    remedy: str = ""
