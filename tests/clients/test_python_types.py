"""The types that the installed wheel carries, and the memory of an upload."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from tests.support.client import Person
from tests.support.programs import CHECKOUT
from tests.support.server import Server

PROGRAM = """
import asyncio

from orbital_relay.client import CaughtUp, NewThread, NewThreadData, Orbital, Portal, Reset, connect


async def main() -> None:
    async with connect("http://localhost:3000", token="t") as orbital:
        reveal_type(orbital)
        async for event in orbital.subscribe("g", since=0):
            reveal_type(event.seq)
            reveal_type(event.type)
            match event:
                case NewThread(data=data):
                    reveal_type(data)
                    title: NewThreadData = data
                    print(title.encrypted_title)
                case Reset() | CaughtUp():
                    pass
        reveal_type(await orbital.api.groups())
        reveal_type((await orbital.api.events("g")).events[0].hash)
    with Portal("http://localhost:3000", token="t") as portal:
        reveal_type(portal.run(lambda inner: inner.api.groups()))


def of(orbital: Orbital) -> str | None:
    return orbital.user_id


asyncio.run(main())
"""


def test_the_wheel_is_typed(tmp_path: Path) -> None:
    """[PYTYPED1] `mypy --strict` of a program against the installed wheel finds every type and no Any."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    [installed] = (tmp_path / "venv").glob("lib/python*/site-packages")
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(installed)
    for name in ("click", "httpx", "msgspec", "websockets", "anyio", "httpcore", "certifi", "idna"):
        (installed / name).symlink_to(Path(sysconfig.get_path("purelib")) / name)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", tmp_path / "venv" / "bin" / "python",
         "--cache-dir", tmp_path / "cache", program],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "MYPYPATH": ""},
    )  # fmt: skip

    assert checked.returncode == 0, checked.stdout
    revealed = [line.split('"')[1] for line in checked.stdout.splitlines() if "Revealed type" in line]
    assert len(revealed) == 7
    assert not [each for each in revealed if "Any" in each]
    assert revealed[3].endswith("NewThread")
    assert revealed[4].endswith("Group]")


UPLOAD = """
import asyncio, resource, sys
from orbital_relay.client import Api
from orbital_relay.client.media import upload

async def main(url, token, thread, path):
    async with Api(url, token=token) as api:
        about = {"encrypted_metadata": "bWV0YQ==", "encryption_iv": "aXY="}
        await upload(api, thread, b"x", **about)  # what is loaded once is loaded now
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await upload(api, thread, path, **about)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_memory_of_an_upload(shared: Server, tmp_path: Path) -> None:
    """[PYMEM1] An upload of 100 MB uses at most 15 MiB more memory than an upload of one byte."""
    import asyncio

    anna = await Person.sign_up(shared.url)
    thread = (await anna.open_thread(await anna.make_group()))["thread_id"]
    path = tmp_path / "film"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    command = [sys.executable, "-c", UPLOAD, shared.url, anna.token, thread, str(path)]

    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    print(f"{int(done.stdout) / 1024:.1f} MiB")
    assert int(done.stdout) < 15 * 1024
    await anna.close()
