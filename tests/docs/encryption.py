"""The state machines and fields of end-to-end encryption, drawn as docs/reference/encryption.md draws them."""

from collections.abc import Mapping, Sequence

from orbital_relay.e2ee import link_machine, words
from orbital_relay.e2ee.formats.link import LINK_BODY, LINK_GROUP, LINK_MESSAGE
from orbital_relay.e2ee.formats.protobuf import MAX_SAFE, U32, Field, Schema
from orbital_relay.e2ee.formats.schemas import ANNOTATION_BODIES, DRAWN, RECORD_BODIES
from orbital_relay.e2ee.receiver import RECEIVER, ReceiverRow
from orbital_relay.e2ee.sender import SENDER, SenderRow

LINKS = {"LINK_MESSAGE": LINK_MESSAGE, "LINK_BODY": LINK_BODY, "LINK_GROUP": LINK_GROUP}


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _machine(
    rows: Sequence[SenderRow | ReceiverRow | link_machine.NewDeviceRow | link_machine.OldDeviceRow],
    states: Mapping[str, str],
    inputs: Mapping[str, str],
    acts: Mapping[str, str],
) -> str:
    listed = "\n".join(f"- `{name}`: {what}" for name, what in states.items())
    heads, cells = ["state", "on", "does", "to"], []
    for row in rows:
        one = [f"`{row.state}`", inputs[row.on], acts[row.does], f"`{row.to}`"]
        if isinstance(row, ReceiverRow):
            one.append(f"`{row.warning}`" if row.warning else "")
        cells.append(one)
    if isinstance(rows[0], ReceiverRow):
        heads.append("warning")
    return f"{listed}\n\n{_table(heads, cells)}"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _type_of(field: Field) -> str:
    if field.type == "message":
        name = next(name for name, schema in {**DRAWN, **LINKS}.items() if schema is field.schema)
        plain = f"message {name}"
    elif field.type == "bytes":
        plain = "bytes" if field.length is None else f"{field.length} bytes"
    else:
        shown = {U32: "", MAX_SAFE: " ≤ 2^53 − 1"}
        plain = f"number{shown.get(field.max, f' ≤ {field.max}')}"
    return f"repeated {plain}" if field.repeated else plain


def _fields(name: str, schema: Schema) -> str:
    rows = [
        [str(number), f"`{_camel(field.name)}`", _type_of(field), "yes" if field.required else ""]
        for number, field in schema.items()
    ]
    return f"**{name}**\n\n{_table(['field', 'name', 'type', 'required'], rows)}"


def _annotations() -> list[tuple[int, str, Schema]]:
    return [(number, kind, schema) for number, (kind, schema) in enumerate(ANNOTATION_BODIES.items(), 1)]


def drawn() -> dict[str, str]:
    """Return what stands between each pair of marks."""
    return {
        "sender": _machine(SENDER, words.SENDER_STATES, words.SENDER_INPUTS, words.SENDER_ACTS),
        "receiver": _machine(RECEIVER, words.RECEIVER_STATES, words.RECEIVER_INPUTS, words.RECEIVER_ACTS),
        "fields": "\n\n".join(_fields(name, schema) for name, schema in DRAWN.items()),
        "records": "\n\n".join(_fields(f"Body of {kind}", schema) for kind, schema in RECORD_BODIES.items()),
        "new device": _machine(
            link_machine.NEW_DEVICE, link_machine.NEW_STATES, link_machine.NEW_INPUTS, link_machine.NEW_ACTS
        ),
        "older device": _machine(
            link_machine.OLD_DEVICE, link_machine.OLD_STATES, link_machine.OLD_INPUTS, link_machine.OLD_ACTS
        ),
        "link fields": "\n\n".join(_fields(name, schema) for name, schema in LINKS.items()),
        "annotations": "\n\n".join(
            _fields(f"Field {number}: {kind}", schema) for number, kind, schema in _annotations()
        ),
    }
