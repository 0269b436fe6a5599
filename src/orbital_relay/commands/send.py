"""`orbital send`: post a message or a reply from the command line."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import BinaryIO
from uuid import uuid4

import click
import msgspec

from orbital_relay.client import Api, responses
from orbital_relay.client.api.bodies import encoded, reply_body, reply_path
from orbital_relay.client.clocks import now_ms
from orbital_relay.client.errors import NotConnected
from orbital_relay.client.outbox import Outbox
from orbital_relay.commands.client_options import run, server_options
from orbital_relay.commands.terminal import say, say_json


@click.command(
    epilog="""\b
Examples:
  encrypt < note.txt | orbital send GROUP
  orbital send --file envelope.bin GROUP
  orbital send --base64 --reply-to THREAD GROUP < body.b64
"""
)
@click.argument("group_id", metavar="GROUP")
@server_options
@click.option("--file", type=click.File("rb"), help="Send this file instead of standard input.")
@click.option("--base64", "is_base64", is_flag=True, help="The input is already base64.")
@click.option("--reply-to", metavar="THREAD", help="Reply in this thread instead of posting a message.")
@click.option("--key", metavar="KEY", help="Idempotency key: repeated runs with the same key post once.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds to retry while the server cannot be reached.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as JSON.")
def send(
    group_id: str,
    url: str,
    token: str,
    file: BinaryIO | None,
    reply_to: str | None,
    key: str | None,
    timeout_s: float,
    *,
    is_base64: bool,
    as_json: bool,
) -> None:
    """
    Post encrypted bytes to a group.

    The bytes are sent as they are: encrypt them first. The command retries until the server has stored them, and they
    are stored once.
    """
    if file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("There is nothing to send: give --file, or pipe the encrypted bytes in.")
    content = (file or sys.stdin.buffer).read()
    if not content.strip():
        raise click.UsageError("There is nothing to send: the input is empty.")
    try:
        encrypted = "".join(content.decode("ascii").split()) if is_base64 else encoded(content)
    except UnicodeDecodeError:
        raise click.UsageError("The input is not base64; leave --base64 out to send it as bytes.") from None

    used_key = str(uuid4()) if key is None else key

    async def work() -> None:
        async with Api(url, token=token) as api:
            outbox = Outbox(api, random=random.random, report=lambda _: None)
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await _post(outbox, group_id, encrypted, reply_to, used_key)
            except TimeoutError:
                raise NotConnected(
                    f"The server at {api.address.http} did not accept it in {timeout_s:g} s; it may be stored or not. "
                    f"Run it again with --key {used_key}, and it is stored only once."
                ) from None
            finally:
                await outbox.close()
        if as_json:
            say_json(msgspec.json.encode(answer).decode())
        else:
            what = answer.message_id if isinstance(answer, responses.MessageSent) else answer.reply_id
            say(f"Sent as {what}, number {answer.seq} of the group.")

    run(work())


async def _post(
    outbox: Outbox, group_id: str, encrypted: str, thread_id: str | None, key: str
) -> responses.MessageSent | responses.ReplyCreated:
    if thread_id is not None:
        body = reply_body(encrypted, None)
        return await outbox.post(group_id, reply_path(thread_id), body, responses.ReplyCreated, key=key)
    message = {"conversation_id": group_id, "encrypted_envelope": encrypted, "timestamp": now_ms()}
    return await outbox.post(group_id, "/v1/messages", message, responses.MessageSent, key=key)
