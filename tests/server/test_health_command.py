"""`orbital health`, and what the command line reports where a part is missing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.process import Program
from tests.support.programs import CHECKOUT, free_port
from tests.support.redis import Redis
from tests.support.server import Server


def ask(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `orbital health` with these settings and no others."""
    given = {"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:1", **env}
    return subprocess.run(
        [sys.executable, "-m", "orbital_relay", "health", *args], env=given, cwd="/", capture_output=True, text=True
    )


def test_alive_and_not(server: Server):
    """[PROBE1] Status 0 while the process answers, 1 with a sentence otherwise; no proxy is used."""
    alive = ask(PORT=str(server.port))
    server.terminate()
    gone = ask(PORT=str(server.port))

    assert (alive.returncode, alive.stderr) == (0, "")
    assert "alive" in alive.stdout
    assert gone.returncode == 1
    assert gone.stderr.startswith(f"Error: No answer from 127.0.0.1, port {server.port}: ")


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.2", "localhost", "::", "::1"])
def test_each_listening_address(serve: Serve, host: str):
    """[PROBE2] The settings that a server listens with also find it: all addresses, one, a name, IPv6."""
    if ":" in host and not socket.has_ipv6:
        pytest.skip("there is no IPv6 here")
    port = free_port()
    server = serve(env={"ORBITAL_HOST": host}, start=False)
    server.port = port
    server.launch().wait_for("serving")

    done = ask(PORT=str(port), ORBITAL_HOST=host)

    assert done.returncode == 0, done.stderr


def test_without_redis_a_server_is_alive(serve: Serve, postgres_url: str, redis_server: Redis):
    """[PROBE3] While Redis is unreachable the server is alive."""
    server = serve(env={"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url})

    redis_server.kill()

    assert ask(PORT=str(server.port)).returncode == 0


def test_a_server_that_hangs_is_not_alive(server: Server):
    """[PROBE4] A suspended process does not block the check."""
    server.program.signal(signal.SIGSTOP)
    try:
        done = ask(PORT=str(server.port))
    finally:
        server.program.thaw()

    assert done.returncode == 1
    assert "timed out" in done.stderr


@pytest.fixture(scope="module")
def sdk_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that finds what the SDK needs and nothing of the server's extras."""
    folder = tmp_path_factory.mktemp("sdk")
    venv.create(folder, with_pip=False)
    packages = next((folder / "lib").glob("python3*/site-packages"))
    here = Path(next(path for path in sys.path if path.endswith("site-packages")))
    needed = "click httpx msgspec rich websockets httpcore h11 anyio idna certifi sniffio typing_extensions pygments"
    for name in (*needed.split(), "markdown_it", "mdurl"):
        for found in (here / name, here / f"{name}.py"):
            if found.exists():
                (packages / found.name).symlink_to(found)
    (packages / "orbital_relay").symlink_to(CHECKOUT / "src" / "orbital_relay")
    return folder / "bin" / "python"


@pytest.mark.parametrize("command", [["serve"], ["check"], ["media", "gc"], ["user", "add", "ada"]], ids=" ".join)
def test_without_the_extra_server(sdk_alone: Path, command: list[str], tmp_path: Path):
    """[PARTS1] A command that needs the extra `server` says how to install it, at import or at first use."""
    env = {"PATH": os.environ["PATH"], "ORBITAL_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sdk_alone, "-m", "orbital_relay", *command], env=env, capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith("is not installed: pip install 'orbital-relay[server]'\n")


def test_commands_without_the_extra(sdk_alone: Path):
    """[PARTS2] Help, version and the clients' commands load without the extra."""
    for arguments in (["--help"], ["--version"], ["tail", "--help"], ["media", "put", "--help"], ["health", "--help"]):
        done = subprocess.run([sdk_alone, "-m", "orbital_relay", *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), arguments


def test_windows_is_refused_at_once():
    """[PARTS3] `orbital serve` on Windows reports that it is not supported there, before it changes anything."""
    script = "import sys; from orbital_relay.commands.serve import serve; sys.platform = 'win32'; serve([])"
    program = Program([sys.executable, "-c", script])

    assert program.wait() == 1
    assert program.text == "Error: The server does not run on Windows; it does on Linux, on macOS, and in WSL."
