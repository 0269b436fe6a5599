"""The page *For your family*, followed from its first line to its last in an empty folder."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.docs import reading
from tests.support import programs
from tests.support.authority import Authority
from tests.support.client import Group, Person
from tests.support.machine import Machine
from tests.support.programs import CHECKOUT, free_port

PAGE = CHECKOUT / "docs" / "how-to" / "for-your-family.md"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """An empty machine."""
    programs.caddy()
    made = Machine(tmp_path / "machine")
    yield made
    made.close()


class Household:
    """A family whose server is behind Caddy, with a certificate of the tests' authority."""

    def __init__(self, machine: Machine, authority: Authority) -> None:
        self.machine = machine
        self.port, self.https, self.plain = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.https}"
        self.trust = authority.trust
        folder = authority.folder
        authority.issue(folder / "cert.pem", folder / "key.pem", "127.0.0.1", "localhost")
        self._site = f"https://127.0.0.1:{self.https} {{\n\ttls {folder}/cert.pem {folder}/key.pem\n"
        self._blocks = reading.examples(PAGE)

    def follow(self, name: str) -> str:
        """Type a block of the page; ports and certificate are those that a test may have."""
        block = self._blocks[name].replace("3000", str(self.port))
        if name == "family-settings":
            # Caddy would ask a public authority for the certificate, and listen on 80 and 443.
            lines = block.replace("systemctl restart caddy", "")
            said = self.machine.type(lines)
            file = self.machine.path("/etc/caddy/Caddyfile")
            text = file.read_text()
            assert "\norbital.example.org {\n" in text
            text = text.replace("orbital.example.org {\n", self._site)
            text = re.sub(r"^\{\n", f"{{\n\tadmin off\n\thttp_port {self.plain}\n", text, count=1, flags=re.MULTILINE)
            file.write_text(text.replace("127.0.0.1:3000", f"127.0.0.1:{self.port}"))
            return said + self.machine.type("systemctl restart caddy")
        return self.machine.type(block)

    async def version(self) -> str:
        """Return the version that serves, through Caddy, once it answers."""
        async with asyncio.timeout(60):
            while True:
                try:
                    async with httpx.AsyncClient(verify=self.trust, trust_env=False) as http:
                        answer = await http.get(f"{self.url}/api/about")
                    if answer.status_code == 200:
                        return str(answer.json()["version"])
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)  # Caddy announces nothing that could be awaited


@pytest.fixture
def household(machine: Machine, tmp_path: Path) -> Household:
    """A household in an empty machine."""
    return Household(machine, Authority(tmp_path))


async def talk(home: Household, people: list[Person], group: Group) -> int:
    """Have each post something that all receive by their sockets; return the last number."""
    listening = [await one.listen(group, url=home.url, ssl=home.trust) for one in people]
    seq = 0
    for one in people:
        seq = (await one.say(group))["seq"]
        for each in listening:
            await each.until_seq(group, seq)
    for each in listening:
        await each.close()
    return seq


@pytest.mark.usefixtures("machine")
async def test_the_page_word_by_word(household: Household):
    """[FAMILY1] Word by word the page leads to a family that talks, a backup, a restore, an update and back."""
    home = household

    async def follow(name: str) -> str:
        return await asyncio.to_thread(home.follow, name)

    await follow("family-install")
    await follow("family-settings")
    assert await home.version() == "0.1.0"
    await follow("family-command")
    link = (await follow("family-invite")).strip().splitlines()[0]
    assert link.startswith("https://orbital.example.org/#invitation=")

    ada = await Person.sign_up(home.url, "ada", tls=home.trust, invitation=link.partition("=")[2])
    group = await ada.make_group()
    ben, eve = [
        await Person.sign_up(home.url, name, tls=home.trust, invitation=group.invite_code) for name in ("ben", "eve")
    ]
    for one in (ben, eve):
        await one.join(group)
    family = [ada, ben, eve]
    kept = await talk(home, family, group)
    with pytest.raises(AssertionError, match="403"):
        await Person.sign_up(home.url, "mallory", tls=home.trust)

    assert ".backup" in await follow("family-backup")
    lost = await talk(home, family, group)
    await follow("family-restore")
    await home.version()
    events = await ada.events(group)
    assert kept < lost
    assert max(event["seq"] for event in events) == kept

    await follow("family-update")
    assert await home.version() == "0.2.0"
    await talk(home, family, group)
    await follow("family-rollback")
    assert await home.version() == "0.1.0"
    await talk(home, family, group)
    for one in family:
        await one.close()
