"""What systemd gives and is given: sockets that it opened, readiness, reloads, and the watchdog."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from orbital_relay import config
from orbital_relay.server.ops.systemd import Notifier
from tests.conftest import Serve
from tests.support.authority import Authority, serial_of
from tests.support.process import Program
from tests.support.server import SECRET, WIDE


class Manager:
    """The service manager's end of `NOTIFY_SOCKET`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(60)

    def next(self) -> dict[str, str]:
        """Return the next state that is not a sign of life alone."""
        while True:
            state = self.any()
            if state != {"WATCHDOG": "1"}:
                return state

    def any(self) -> dict[str, str]:
        """Return the next state."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def silent(self, wait_s: float) -> bool:
        """Return whether nothing comes within a time, behind what has come already."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(4096)
        except BlockingIOError:
            pass
        self._socket.settimeout(wait_s)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A service manager, at a path or in the abstract namespace."""
    name = f"@orbital-test-{os.getpid()}-{id(request)}" if request.param == "abstract" else str(tmp_path / "notify")
    made = Manager(name)
    yield made
    made.close()


def test_the_states_of_a_service(serve: Serve, manager: Manager, tmp_path: Path):
    """[SYSTEMD1] systemd is notified of readiness with the address, of a reload and its end, and of the stop."""
    authority = Authority(tmp_path)
    cert = tmp_path / "both.pem"
    authority.issue(cert, cert, "localhost")
    server = serve(env={"NOTIFY_SOCKET": manager.address, "ORBITAL_TLS_CERT": str(cert)}, start=False)
    server.launch()
    ready = manager.next()
    server.program.signal(signal.SIGHUP)
    reloading, again = manager.next(), manager.next()
    server.program.signal(signal.SIGTERM)
    stopping = manager.next()

    assert ready["READY"] == "1"
    assert ready["STATUS"].startswith("Serving https://localhost:")
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert again == ready
    assert stopping["STOPPING"] == "1"
    assert server.program.wait() == 0


def test_the_watchdog(serve: Serve, manager: Manager):
    """[SYSTEMD2] A server that serves reports signs of life in time; one that is stuck reports none."""
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "900000"}
    server = serve(env=env, start=False)
    server.launch()
    manager.next()
    beats = [manager.any() for _ in range(4)]
    server.program.freeze()
    silent = manager.silent(2)
    server.program.thaw()

    assert beats == [{"WATCHDOG": "1"}] * 4
    assert silent


def test_what_the_environment_says():
    """[SYSTEMD3] The variables are taken out of the environment; a watchdog of another process is not served."""
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "6000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
    other = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "6000000", "WATCHDOG_PID": "1"}

    assert Notifier.of(config.take_service_variables(environ)).beat_s == 2
    assert environ == {"A": "b"}
    assert Notifier.of(other).beat_s is None
    assert Notifier.of({}).beat_s is None


def test_a_manager_that_is_gone(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    """[SYSTEMD4] A service manager that does not listen is a warning, and ends nothing."""
    Notifier(str(tmp_path / "nobody")).alive()

    assert "systemd could not be notified" in caplog.text


ACTIVATE = """
import os, socket, sys
places, names, command = eval(sys.argv[1]), sys.argv[2], sys.argv[3:]
held = []
for family, place in places:
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(place)
    one.listen()
    held.append(one)
fds = [os.dup(one.fileno()) for one in held]
fds = [os.dup2(fd, fd + 40) for fd in fds]
for number, fd in enumerate(fds):
    os.dup2(fd, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""
"""Does what systemd does for a service with socket units: opens sockets, numbers them from 3, and runs the program."""


def activated(places: Sequence[tuple[int, object]], names: str, folder: Path, *args: str, **env: str) -> Program:
    """Start a server as systemd does for a socket unit."""
    command = [sys.executable, "-m", "orbital_relay", "serve", *args]
    settings = {**os.environ, **WIDE, "JWT_SECRET": SECRET, "ORBITAL_DATA_DIR": str(folder / "data"), **env}
    return Program([sys.executable, "-c", ACTIVATE, repr(list(places)), names, *command], env=settings)


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, each another one."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def test_sockets_of_systemd(tmp_path: Path):
    """[SYSTEMD5] The sockets that systemd opened are served: a port, a Unix socket, and none of the settings."""
    (port,) = free_ports(1)
    path = tmp_path / "orbital.sock"
    places = [(int(socket.AF_INET), ("127.0.0.1", port)), (int(socket.AF_UNIX), str(path))]
    program = activated(places, "orbital.socket:orbital.socket", tmp_path, PORT="1")
    program.wait_for(f'"serving".*http://localhost:{port}')

    by_port = httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as http:
        by_path = http.get("http://orbital/health/ready").status_code

    assert (by_port, by_path) == (200, 200)
    assert program.terminate() == 0
    # systemd made the file, and keeps listening there while the service restarts.
    assert path.exists()


def test_a_redirecting_socket(tmp_path: Path):
    """[SYSTEMD6] A socket with the name `redirect` redirects to HTTPS, and is refused without a certificate."""
    authority = Authority(tmp_path)
    cert = tmp_path / "both.pem"
    serial = authority.issue(cert, cert, "127.0.0.1")
    port, plain = free_ports(2)
    places = [(int(socket.AF_INET), ("127.0.0.1", plain)), (int(socket.AF_INET), ("127.0.0.1", port))]
    program = activated(places, "redirect:https", tmp_path, ORBITAL_TLS_CERT=str(cert))
    program.wait_for(f'"serving".*https://localhost:{port}')

    led = httpx.get(f"http://127.0.0.1:{plain}/docs")
    shown = serial_of("127.0.0.1", port, authority.trust)
    status = program.terminate()
    without = activated(places, "redirect:https", tmp_path)

    assert led.headers["location"] == f"https://127.0.0.1:{port}/docs"
    assert shown == serial
    assert status == 0
    assert without.wait() == 1
    assert "has the name redirect, and ORBITAL_TLS_CERT is not set" in without.text


def test_a_socket_that_others_reach(tmp_path: Path):
    """[SYSTEMD7] Sign-ups follow the address of the socket that systemd opened, and not the setting's."""
    (port,) = free_ports(1)
    program = activated([(int(socket.AF_INET), ("0.0.0.0", port))], "", tmp_path, ORBITAL_SIGNUPS="")
    program.wait_for(f'"serving".*:{port}')

    assert httpx.get(f"http://127.0.0.1:{port}/api/about").json()["signups"] == "invited"
    assert program.terminate() == 0


def test_sockets_for_another_process(tmp_path: Path):
    """[SYSTEMD8] LISTEN_FDS for another process is ignored (sd_listen_fds(3)): the port of the settings is served."""
    env = {**os.environ, "PORT": "0", "ORBITAL_DATA_DIR": str(tmp_path), "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    program = Program([sys.executable, "-m", "orbital_relay", "serve"], env=env)
    program.wait_for('"serving".*http://localhost')

    assert program.terminate() == 0


def test_a_descriptor_that_is_no_socket(tmp_path: Path):
    """[SYSTEMD9] A descriptor that is not a socket is refused with a message."""
    run = (
        "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.dup2(0, 3); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    env = {**os.environ, "LISTEN_FDS": "1", "ORBITAL_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-c", run, sys.executable, "-m", "orbital_relay", "serve"]

    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "The file descriptor 3 of LISTEN_FDS is not a socket" in done.stderr
