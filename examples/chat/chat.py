"""
A family chat in a terminal, encrypted there.

    .venv/bin/python examples/chat/chat.py new ada                  make a group, and print an invitation
    .venv/bin/python examples/chat/chat.py join ben INVITATION      enter it

Type a line to say it; Ctrl-D leaves the chat. The tutorial, docs/tutorial/first-chat.md, goes through it line by line.
"""

import asyncio
import base64
import os
import secrets
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orbital_relay.client import Api, ClientError, MemberJoined, NewMessage, Orbital, connect

URL = os.environ.get("ORBITAL_URL", "http://localhost:3000")


def seal(key: bytes, text: str, about: str) -> bytes:
    """Encrypt a text; it can be read only with the key, and only as a text of the group that it is about."""
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(key).encrypt(nonce, text.encode(), about.encode())


def unseal(key: bytes, sealed: str, about: str) -> str:
    """Decrypt what came as base64."""
    raw = base64.b64decode(sealed)
    try:
        return AESGCM(key).decrypt(raw[:12], raw[12:], about.encode()).decode()
    except InvalidTag:
        return "(sealed with another key)"


def say(text: str) -> None:
    """Print a line with control characters escaped: a text of others could clear the terminal or forge lines."""
    print("".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text), flush=True)


def base64_of(sealed: bytes) -> str:
    """Write bytes as the server takes them."""
    return base64.b64encode(sealed).decode()


def copy_of_key(key: bytes) -> str:
    """Fill the place that the server has for a member's sealed copy of the key; here the invitation carries the key."""
    return base64_of(seal(key, "the key is in the invitation", "key"))


async def enter(orbital: Orbital, invitation: str | None) -> tuple[str, bytes]:
    """Make a group or join one; return its id and key."""
    if invitation is None:
        key = AESGCM.generate_key(bit_length=256)
        group = await orbital.api.create_group(base64_of(seal(key, "Family", "name")), copy_of_key(key))
        say(f"Invite with: {group.invite_code}.{base64.urlsafe_b64encode(key).decode()}")
        return group.group_id, key
    code, _, key_text = invitation.partition(".")
    key = base64.urlsafe_b64decode(key_text)
    joined = await orbital.api.join_group(code, copy_of_key(key))
    return joined.group_id, key


async def listen(orbital: Orbital, group_id: str, key: bytes) -> None:
    """Print what is said, from the group's first event on."""
    names = {}
    async for event in orbital.subscribe(group_id, since=0):
        match event:
            case MemberJoined(data=member):
                names[member.user_id] = member.username
                say(f"* {member.username} is here")
            case NewMessage(data=message):
                who = names.get(message.sender_id, "somebody")
                say(f"{who}: {unseal(key, message.encrypted_envelope, group_id)}")


async def speak(orbital: Orbital, group_id: str, key: bytes) -> None:
    """Send each line that is typed."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        await orbital.send(group_id, seal(key, line.strip(), group_id))


async def main(name: str, invitation: str | None = None) -> None:
    """Sign up, enter, listen and speak."""
    async with Api(URL) as api:
        account = await api.signup(f"{name}_{secrets.token_hex(2)}", "Correct-Horse-7-" + secrets.token_hex(8), {})
    async with connect(URL, token=account.token) as orbital:
        group_id, key = await enter(orbital, invitation)
        listening = asyncio.create_task(listen(orbital, group_id, key))
        await speak(orbital, group_id, key)
        listening.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[2:]))
    except ClientError as exc:
        say(str(exc))
        sys.exit(1)
