"""
A bot that reads and writes end-to-end encrypted messages: it repeats what others say in a group.

    pip install 'orbital-relay[e2ee]'
    ORBITAL_TOKEN=… ORBITAL_KEY=… .venv/bin/python examples/python/secret_echo.py http://localhost:3000 GROUP INVITE

ORBITAL_KEY is 64 hexadecimal digits from the system's keychain (`openssl rand -hex 32` makes one). INVITE is the part
of an invite link after the `#`; it is needed the first time. Everything that the bot knows is in the encrypted file
`secret-echo.db`. The bot's user is a member of the group on the server.
"""

import asyncio
import os
import sys

from orbital_relay.client import connect
from orbital_relay.e2ee import CipherClient, SqlcipherStore


def say(text: str) -> None:
    """Print a line with control characters escaped: a text of others could clear the terminal or forge lines."""
    print("".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text), flush=True)


async def main(url: str, group_id: str, invite: str | None = None) -> None:
    """Repeat until it is stopped, or until the bot is removed from the group."""
    key, token = bytes.fromhex(os.environ["ORBITAL_KEY"]), os.environ["ORBITAL_TOKEN"]
    async with (
        SqlcipherStore("secret-echo.db", key) as store,
        connect(url, token=token) as orbital,
        CipherClient(orbital, store) as client,
        client.group(group_id, invite=invite) as group,
    ):
        say("ready")
        async for message in group.messages():
            if message.text:  # a file or an annotation has none
                await group.send(f"You said: {message.text}", answering=message)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
