"""
Two people, one group: sign up, invite, listen, write, answer.

    .venv/bin/python examples/python/family.py http://localhost:3000

Orbital carries ciphertext only. `lock` and `unlock` stand for your encryption; they are not one.
"""

import asyncio
import base64
import secrets
import sys

from orbital_relay.client import Api, NewMessage, NewReply, NewThread, connect


def lock(text: str) -> bytes:
    """Stand in for encryption."""
    return text.encode()[::-1]


def unlock(sealed: str) -> str:
    """Stand in for decryption; what comes over the wire is base64."""
    return base64.b64decode(sealed)[::-1].decode()


def say(text: str) -> None:
    """Print a line with control characters escaped: a text of others could clear the terminal or forge lines."""
    print("".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text), flush=True)


async def sign_up(url: str, name: str) -> str:
    """Make an account with a name of its own, and give its token."""
    async with Api(url) as api:
        account = await api.signup(f"{name}_{secrets.token_hex(4)}", "Correct-Horse-7-Battery", {"kty": "OKP"})
        return account.token


async def main(url: str) -> None:
    """Tell the whole story."""
    ada, ben = await sign_up(url, "ada"), await sign_up(url, "ben")

    async with connect(url, token=ada) as at_adas, connect(url, token=ben) as at_bens:
        group = await at_adas.api.create_group(base64.b64encode(lock("Family")).decode(), "a2V5")
        await at_bens.api.join_group(group.invite_code, "a2V5")

        thread = await at_adas.open_thread(group.group_id, lock("Sunday"), lock("Who cooks?"))
        await at_adas.send(group.group_id, lock("See the new thread."))

        # Ben comes later: he reads from the start, and then what happens.
        async for event in at_bens.subscribe(group.group_id, since=0):
            match event:
                case NewThread(data=data):
                    say(f"{event.seq}: {data.author_username.split('_')[0]} asks: {unlock(data.encrypted_body)}")
                    await at_bens.reply(thread.thread_id, lock("I do."))
                case NewMessage(data=data):
                    say(f"{event.seq}: a message: {unlock(data.encrypted_envelope)}")
                case NewReply(data=data):
                    say(f"{event.seq}: {data.author_username.split('_')[0]} answers: {unlock(data.encrypted_body)}")
                    break


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:3000"))
