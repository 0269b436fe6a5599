"""What of other people's text reaches a terminal."""

from __future__ import annotations

import json
import unicodedata

import pytest

from orbital_relay.client.events import MemberJoined
from orbital_relay.commands.client_options import run
from orbital_relay.commands.tail import _line
from orbital_relay.commands.terminal import shown, shown_json
from orbital_relay.wire import MemberJoined as Data

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\nforged \u202eline\u2028\x7f\x00"


def test_no_control_character_is_printed() -> None:
    """[PYTERM1] Control characters and bidirectional marks are printed as escapes; names stay readable."""
    text = shown(EVIL)

    assert all(unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp"} for char in text)
    assert text.startswith("\\x1b]0;owned\\x07")
    every = "".join(chr(number) for number in range(0x110000))
    assert all(unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"} for char in shown(every))
    for name in ("Zoë", "李雷", "anna_1", "می\u200cخواهم", "👨\u200d👩\u200d👧"):
        assert shown(name) == name


def test_json_values_are_unchanged() -> None:
    """[PYTERM2] On a terminal a line of JSON has escapes in their place, and parses to the same value."""
    value = {"name": EVIL.replace("\u0000", "") + "\U000e0001"}
    text = shown_json(json.dumps(value, ensure_ascii=False))

    assert json.loads(text) == value
    assert text.isprintable()


def test_tail_escapes_the_names_of_other_users() -> None:
    """[PYTERM3] `tail` prints one line for a name with control characters, and the name sets no terminal title."""
    data = Data(group_id="g", user_id="u", username=EVIL, joined_at="")
    event = MemberJoined(group_id="g", seq=1, server_timestamp=0, prev=None, hash="", frame=b"", data=data)

    assert shown(_line(event)).isprintable()


def test_errors_of_servers(capsys: pytest.CaptureFixture[str]) -> None:
    """[PYTERM4] The text of a server error is escaped, too."""
    import click

    from orbital_relay.client.errors import Unreachable

    async def failing() -> None:
        raise Unreachable(EVIL)

    with pytest.raises(click.ClickException) as caught:
        run(failing())
    assert caught.value.message.isprintable()
