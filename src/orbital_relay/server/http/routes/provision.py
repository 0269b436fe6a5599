"""Mailboxes by which a new device is linked."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from orbital_relay.api.keys import Mail, MailBody, Mailbox
from orbital_relay.errors import Conflict, NotFound
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.services import provision

_TAG: Final = "Keys"

_BODY_BYTES: Final = 96 * 1024
"""A message at its limit in base64, and some slack."""


class MailQuery(msgspec.Struct):
    """How long to wait."""

    wait: Annotated[
        int, msgspec.Meta(ge=0, le=25, description="Seconds to wait for the message before the response is 204.")
    ] = 25


@endpoint(
    "POST",
    "/v1/provision",
    tag=_TAG,
    answers=[Answer(201, "The mailbox was created.", Mailbox)],
    auth=False,
    limited=True,
)
async def open_mailbox(call: Call) -> Reply:
    """
    Open a mailbox, for a new device that has no token yet.

    The name is the only credential: show it to the older device as a code. The mailbox expires after 10 minutes.
    """
    await call.server.limits.provision(call.address)
    return Reply.json(await provision.open_mailbox(call.server.keys), status=201)


@endpoint(
    "PUT",
    "/v1/provision/{mailbox}",
    tag=_TAG,
    answers=[Answer(204, "The message is in it.")],
    errors=[NotFound, Conflict],
    body_limit=_BODY_BYTES,
)
async def fill_mailbox(call: Call, body: MailBody) -> Reply:
    """Put the message into a mailbox; a mailbox holds one, and a retry with the same message is accepted."""
    await provision.fill(call.server.keys, call.text("mailbox"), body)
    return Reply(204)


@endpoint(
    "GET",
    "/v1/provision/{mailbox}",
    tag=_TAG,
    answers=[Answer(200, "The message.", Mail), Answer(204, "No message arrived in time: repeat the request.")],
    errors=[NotFound],
    auth=False,
    limited=True,
)
async def read_mailbox(call: Call, query: MailQuery) -> Reply:
    """Wait for the message of a mailbox."""
    await call.server.limits.mailbox(call.address)
    found = await provision.read(call.server.keys, call.text("mailbox"), wait_s=query.wait)
    return Reply(204) if found is None else Reply.json(found)


ENDPOINTS: Final = (open_mailbox, fill_mailbox, read_mailbox)
