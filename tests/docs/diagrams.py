"""
The diagrams of the documents: `python -m tests.docs.diagrams` draws them as SVG, a test holds them current.

Pictures in the repository, not a script in the reader's browser: they show on every host of the repository, in an
editor, on a page without a network, and in the dark.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from orbital_relay.client.protocol.subscription_state import STEPS, Word
from orbital_relay.core.session_states import TRANSITIONS
from tests.support.programs import CHECKOUT

IMAGES = CHECKOUT / "docs" / "images"
COMMAND = "python -m tests.docs.diagrams"

_STYLE = """<style>
.box { fill: #e3efff; stroke: #2f6fd0; } .end { fill: #f4f6f9; stroke: #8b98a9; } .ink { fill: #1b2430; }
.soft { fill: #56616f; font-size: 12px; } .line { stroke: #56616f; fill: none; stroke-width: 1.6; }
.lost { stroke: #b3261e; fill: none; stroke-width: 1.6; stroke-dasharray: 5 4; } .life { stroke: #8b98a9; }
.tip { fill: #56616f; } .paper { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
.box { fill: #14294a; stroke: #6ea3f5; } .end { fill: #1d232b; stroke: #6b7889; } .ink { fill: #e8edf3; }
.soft { fill: #a9b4c1; } .line { stroke: #a9b4c1; } .lost { stroke: #f2b8b5; } .life { stroke: #6b7889; }
.tip { fill: #a9b4c1; } .paper { fill: #12161c; } }
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>"""


@dataclass(frozen=True)
class State:
    """A state: its name, a line about it, and its middle in pixels."""

    name: str
    about: str
    x: int
    y: int


@dataclass(frozen=True)
class Turn:
    """A transition between two states and what causes it; its middle is moved right and down, in pixels."""

    start: str
    end: str
    cause: str
    right: int
    down: int


@dataclass(frozen=True)
class Step:
    """A message from one party to another, or to itself; one that is `lost` does not arrive."""

    start: str
    end: str
    text: str
    lost: bool = False


def _svg(title: str, description: str, width: int, height: int, body: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="14"',
            'font-family="system-ui, sans-serif" role="img" aria-labelledby="title desc">',
            f"<!-- Made by `{COMMAND}`. -->",
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="desc">{escape(description)}</desc>',
            _STYLE,
            f'<rect class="paper" width="{width}" height="{height}"/>',
            *body,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, text: str, kind: str = "ink", anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'


def states(title: str, width: int, height: int, boxes: Sequence[State], turns: Sequence[Turn]) -> str:
    """Draw states as boxes and transitions as arrows."""
    half_x, half_y = 84, 28
    by_name = {each.name: each for each in boxes}
    body = []
    for turn in turns:
        start, end = by_name[turn.start], by_name[turn.end]

        def edge(state: State, to_x: float, to_y: float) -> tuple[float, float]:
            """Return where the way from the middle of a box to a point leaves the box."""
            dx, dy = to_x - state.x, to_y - state.y
            scale = min(half_x / abs(dx) if dx else 9e9, half_y / abs(dy) if dy else 9e9)
            return state.x + dx * scale, state.y + dy * scale

        middle_x, middle_y = (start.x + end.x) / 2 + turn.right, (start.y + end.y) / 2 + turn.down
        # From beside the middle, so that the two ways between two states do not start at one point.
        from_x, from_y = edge(start, middle_x + turn.right, middle_y + turn.down)
        to_x, to_y = edge(end, middle_x + turn.right, middle_y + turn.down)
        curve_x, curve_y = 2 * middle_x - (from_x + to_x) / 2, 2 * middle_y - (from_y + to_y) / 2
        body.append(
            f'<path class="line" marker-end="url(#tip)" '
            f'd="M{from_x:.0f} {from_y:.0f}Q{curve_x:.0f} {curve_y:.0f} {to_x:.0f} {to_y:.0f}"/>'
        )
        lines = turn.cause.split("\n")
        # Beside the curve, on the side to which it bends.
        anchor = "middle" if not turn.right else "start" if turn.right > 0 else "end"
        beside = 0 if not turn.right else 10 if turn.right > 0 else -10
        first = 18 if turn.down > 0 else 4 if turn.right else -8 - 15 * (len(lines) - 1)
        for number, line in enumerate(lines):
            body.append(_text(middle_x + beside, middle_y + first + 15 * number, line, "soft", anchor))
    for each in boxes:
        kind = "end" if not any(turn.start == each.name for turn in turns) else "box"
        body.append(
            f'<rect class="{kind}" x="{each.x - half_x}" y="{each.y - half_y}" width="{2 * half_x}" '
            f'height="{2 * half_y}" rx="10"/>'
        )
        body.append(_text(each.x, each.y - 3, each.name))
        body.append(_text(each.x, each.y + 16, each.about, "soft"))
    described = "; ".join(f"{turn.start} to {turn.end}: {turn.cause}".replace("\n", " ") for turn in turns)
    return _svg(title, described, width, height, body)


def sequence(title: str, parties: Sequence[str], steps: Sequence[Step]) -> str:
    """Draw messages between parties, from top to bottom in time."""
    gap, left, top = 250, 110, 70
    place = {name: left + gap * number for number, name in enumerate(parties)}
    width, height = 2 * left + gap * (len(parties) - 1), top + 44 * len(steps) + 20
    body = []
    for name, x in place.items():
        body.append(f'<line class="life" x1="{x}" y1="48" x2="{x}" y2="{height - 12}"/>')
        body.append(f'<rect class="box" x="{x - 84}" y="12" width="168" height="36" rx="10"/>')
        body.append(_text(x, 35, name))
    for number, step in enumerate(steps):
        y = top + 44 * number + 22
        start, end = place[step.start], place[step.end]
        if start == end:
            near_end = start == max(place.values())
            body.append(_text(start + (-10 if near_end else 10), y, step.text, "soft", "end" if near_end else "start"))
            continue
        reach = start + (end - start) * (0.8 if step.lost else 1)
        kind, tip = ("lost", "") if step.lost else ("line", ' marker-end="url(#tip)"')
        body.append(f'<path class="{kind}"{tip} d="M{start} {y}H{reach:.0f}"/>')
        body.append(_text((start + end) / 2, y - 7, step.text, "soft"))
        if step.lost:
            body.append(_text(reach, y + 5, "×"))
    described = "; ".join(
        f"{step.start}: {step.text}"
        if step.start == step.end
        else f"{step.start} to {step.end}{', lost' if step.lost else ''}: {step.text}"
        for step in steps
    )
    return _svg(title, described, width, height, body)


def group_steps() -> list[tuple[str, str, str]]:
    """Read the table of a group's states out of the JavaScript SDK: from, word, to."""
    source = (CHECKOUT / "clients" / "javascript" / "src" / "subscription-state.js").read_text("utf-8")
    return [
        (start, word, end)
        for start, steps in re.findall(r"^  (\w+): \{(.*)\},$", source, re.MULTILINE)
        for word, end in re.findall(r"(\w+): '(\w+)'", steps)
    ]


_GROUP_BOXES = (
    State("off", "not subscribed", 120, 190),
    State("asked", "waits for the answer", 450, 190),
    State("on", "events arrive", 760, 190),
    State("ended", "the subscriptions end", 605, 350),
)


def group_states() -> str:
    """Draw the table of a group's states; each word of the table needs its sentence here."""
    causes = {
        "ask": "subscribe is sent",
        "confirm": "subscribed names it",
        "defer": "a retryable error names it",
        "refuse": "an error names it",
        "dismiss": "unsubscribed: removed or left",
        "lose": "the connection is lost",
    }
    bends = {
        ("off", "asked"): (0, -34),
        ("asked", "off"): (0, 34),
        ("asked", "on"): (0, -26),
        ("on", "off"): (0, -140),
        ("asked", "ended"): (-40, 0),
        ("on", "ended"): (40, 0),
    }
    steps = [(start, causes[word], end) for start, word, end in group_steps()]
    return _group_states("The states of a group on a connection", 400, _GROUP_BOXES, steps, bends)


def _python_group_states() -> str:
    """Draw the Python SDK's table of a group's states."""
    causes = {
        Word.ASK: "subscribe is sent",
        Word.CONFIRM: "subscribed names it",
        Word.REFUSE: "an error names it",
        Word.DISMISS: "unsubscribed: removed or left",
        Word.LOSE: "the connection is lost",
        Word.BREAK: "the log cannot be used",
    }
    bends = {
        ("off", "asked"): (0, -34),
        ("asked", "off"): (0, 34),
        ("asked", "on"): (0, -26),
        ("on", "off"): (0, -140),
        ("off", "ended"): (-80, 60),
        ("asked", "ended"): (-40, -10),
        ("on", "ended"): (40, 0),
    }
    boxes = [*_GROUP_BOXES[:3], State("ended", "the subscription ends", 605, 390)]
    steps = [(start.value, causes[word], end.value) for (start, word), end in STEPS.items()]
    return _group_states("The states of a group in the Python SDK", 450, boxes, steps, bends)


def _group_states(
    title: str,
    height: int,
    boxes: Sequence[State],
    steps: Sequence[tuple[str, str, str]],
    bends: Mapping[tuple[str, str], tuple[int, int]],
) -> str:
    """Draw a table of a group's states: one arrow for each pair of states, with all causes that lead along it."""
    causes: dict[tuple[str, str], list[str]] = {}
    for start, cause, end in steps:
        if start != end:
            causes.setdefault((start, end), []).append(cause)
    turns = [Turn(start, end, ",\nor ".join(said), *bends[start, end]) for (start, end), said in causes.items()]
    return states(title, 940, height, boxes, turns)


def _session_states() -> str:
    """Draw the server's table of states: one arrow for each pair of states, with all causes that lead along it."""
    boxes = [
        State("open", "frames are read", 150, 90),
        State("expiring", "the client was notified", 670, 90),
        State("ended", "nothing more is done", 410, 330),
    ]
    bends = {("open", "expiring"): (0, -26), ("expiring", "open"): (0, 26), ("open", "ended"): (-20, 0)}
    turns = []
    for start, leads in TRANSITIONS.items():
        for end in leads.values():
            causes = "\n".join(cause.value for cause, to in leads.items() if to is end)
            turn = Turn(start.value, end.value, causes, *bends.get((start.value, end.value), (20, 0)))
            if start is not end and turn not in turns:
                turns.append(turn)
    return states("The states of the server's session", 820, 400, boxes, turns)


def drawings() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each picture."""
    yield (
        "connection-states.svg",
        states(
            "The states of a client's connection",
            820,
            330,
            [
                State("connecting", "again by itself", 130, 90),
                State("open", "frames both ways", 650, 90),
                State("closed", "permanently", 390, 270),
            ],
            [
                Turn("connecting", "open", "auth_success", 0, -26),
                Turn("open", "connecting", "the connection broke or the server restarts (1012):\nback-off", 0, 26),
                Turn("connecting", "closed", "close(), or the token\nis refused by Orbital", -20, 0),
                Turn("open", "closed", "close(), or the session\nwas revoked", 20, 0),
            ],
        ),
    )
    yield "group-states.svg", group_states()
    yield "group-states-python.svg", _python_group_states()
    yield "session-states.svg", _session_states()
    yield (
        "subscribe-and-resume.svg",
        sequence(
            "Subscribing, an absence, and resuming",
            ("client", "server", "log"),
            [
                Step("client", "server", "subscribe, since 4"),
                Step("server", "log", "follow the group, then read after 4"),
                Step("log", "server", "5, 6"),
                Step("server", "client", "subscribed, recovered: true"),
                Step("server", "client", "5, 6"),
                Step("server", "client", "7, as it is posted", lost=True),
                Step("client", "client", "the connection broke; 6 is stored"),
                Step("client", "server", "subscribe, since 6 and its hash"),
                Step("server", "log", "read after 6"),
                Step("log", "server", "7, 8"),
                Step("server", "client", "7, 8: nothing missing, nothing twice"),
            ],
        ),
    )
    yield (
        "current-and-behind.svg",
        states(
            "A listener is current, or behind",
            820,
            200,
            [State("current", "gets events as they come", 150, 100), State("behind", "reads the log", 670, 100)],
            [
                Turn("current", "behind", "its buffer is full (high watermark),\nor a number is missing", 0, -30),
                Turn(
                    "behind", "current", "it has read up to the head, and its buffer\nis below the low watermark", 0, 30
                ),
            ],
        ),
    )
    yield (
        "cluster-repair.svg",
        sequence(
            "A hint that is lost between two servers",
            ("server A", "PostgreSQL", "Redis", "server B"),
            [
                Step("server A", "PostgreSQL", "commit event 7"),
                Step("server A", "Redis", "hint: 7", lost=True),
                Step("server A", "PostgreSQL", "commit event 8"),
                Step("server A", "Redis", "hint: 8"),
                Step("Redis", "server B", "hint: 8"),
                Step("server B", "server B", "expected 7: a gap"),
                Step("server B", "PostgreSQL", "read after 6"),
                Step("PostgreSQL", "server B", "7, 8: delivered in order"),
                Step("server B", "server B", "without any hint: it looks within 10 s"),
            ],
        ),
    )
    yield (
        "chunked-upload.svg",
        sequence(
            "An upload in chunks that is interrupted",
            ("client", "server", "storage"),
            [
                Step("client", "server", "POST chunk 0 of 3"),
                Step("server", "storage", "keep chunk 0"),
                Step("server", "client", "200, received: 1"),
                Step("client", "server", "POST chunk 1", lost=True),
                Step("client", "client", "starts again, an hour later"),
                Step("client", "server", "GET …/upload: what is missing?"),
                Step("server", "client", "chunks 1 and 2"),
                Step("client", "server", "POST chunks 1 and 2, at once"),
                Step("server", "storage", "keep them; the medium is whole"),
                Step("server", "client", "201, and media_uploaded to all members"),
            ],
        ),
    )


def main() -> None:
    """Write every picture that is not current, and name it."""
    for name, text in drawings():
        path = IMAGES / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            sys.stdout.write(f"{path.relative_to(CHECKOUT)}\n")


if __name__ == "__main__":
    main()
