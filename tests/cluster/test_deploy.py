"""The files in deploy/, run or parsed as far as a test can."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import yaml

from orbital_relay.config import OPTIONS, load
from tests.support.client import Person, Socket
from tests.support.fronts import DEPLOY, Front
from tests.support.process import Program, eventually
from tests.support.programs import CHECKOUT, missing
from tests.support.server import Server
from tests.support.tokens import token


@pytest.fixture
def servers(cluster_of: Callable[..., list[Server]]) -> list[Server]:
    """Two servers behind a trusted proxy."""
    return cluster_of(2, ORBITAL_TRUSTED_PROXIES="127.0.0.1", ORBITAL_CLOSE_PACE="100")


@pytest.fixture
async def front(tmp_path: Path, servers: list[Server]) -> AsyncIterator[Front]:
    """The nginx of deploy/nginx.conf before them."""
    made = Front("deploy/nginx.conf", tmp_path, [server.port for server in servers])
    await made.start()
    yield made
    made.program.terminate()


async def test_through_nginx(front: Front, servers: list[Server]):
    """[DEPLOY4] WSS by header, subprotocol, query and ticket: a user reaches one server, also with newer tokens."""
    wss = front.url.replace("https", "wss")
    ways: Counter[str] = Counter()
    homes = []
    everything = []
    for number in range(16):
        user_id = str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))
        where = []
        for life in (3600, 7200):
            bearer = token(user_id, f"person_{number}", lives_s=life)
            everything.append(bearer)
            async with httpx.AsyncClient(
                base_url=front.url, verify=front.tls, headers={"Authorization": f"Bearer {bearer}"}
            ) as http:
                ticket = (await http.post("/api/ws-ticket")).json()["ticket"]
            everything.append(ticket)
            for way, url, options in (
                ("header", "/ws", {"additional_headers": {"Authorization": f"Bearer {bearer}"}}),
                ("subprotocol", "/v1/websocket", {"subprotocols": ["orbital.v1", f"bearer.{bearer}"]}),
                ("query", f"/ws?token={bearer}", {}),
                ("ticket", f"/ws?ticket={ticket}", {}),
            ):
                seen = [len(server.log) for server in servers]
                async with await Socket.open(wss + url, ssl=front.tls, **options) as socket:
                    assert socket.frames[0]["data"]["user_id"] == user_id
                    session = socket.frames[0]["data"]["session_id"]

                def here(seen: list[int] = seen, session: str = session) -> list[int]:
                    return [
                        index
                        for index, server in enumerate(servers)
                        if any(session in line for line in server.log[seen[index] :])
                    ]

                await eventually(here, what="a server's log has the session")
                where += here()
                ways[way] += 1
        assert len(set(where)) == 1, f"{user_id} was at {where}"
        homes.append(where[0])

    assert set(homes) == {0, 1}, "users are spread over the servers"
    assert ways == dict.fromkeys(("header", "subprotocol", "query", "ticket"), 32)

    # The failures above and below are logged, without a token.
    servers[homes[0]].kill()
    with pytest.raises(Exception):  # noqa: B017 - whatever the client makes of a connection that ends
        async with httpx.AsyncClient(base_url=front.url, verify=front.tls) as http:
            (await http.get(f"/ws?token={everything[0]}")).raise_for_status()
    front.program.terminate()
    logged = front.logged
    assert "GET /ws 101" in logged
    assert "token=" not in logged
    for secret in everything:
        assert secret not in logged
        assert secret.rpartition(".")[2] not in logged


async def test_one_of_two_stops(front: Front, servers: list[Server]):
    """[DEPLOY5] A server gets SIGTERM: its clients get 1012, reconnect to the other server, and miss nothing."""
    ann = await Person.sign_up(servers[0].url)
    group = await ann.make_group()
    wss = front.url.replace("https", "wss")
    people = [ann]
    for number in range(15):
        user_id = str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))
        people.append(Person(servers[0].url, user_id=user_id, username="", token=token(user_id)))
        await people[-1].join(group)
    sockets = [await one.listen(group, url=wss, ssl=front.tls) for one in people]

    async def post() -> int:
        """Post through nginx, again while a server is going."""
        headers = {"Authorization": f"Bearer {ann.token}", "Idempotency-Key": "k"}
        async with httpx.AsyncClient(base_url=front.url, verify=front.tls, headers=headers) as http:
            answers = []

            async def posted() -> bool:
                body = {"conversation_id": group.id, "encrypted_envelope": "aGk=", "timestamp": 0}
                answers.append(await http.post("/v1/messages", json=body))
                assert answers[-1].status_code in {200, 502, 503}
                return answers[-1].status_code == 200

            await eventually(posted, what="nginx finds a server")
            return answers[-1].json()["seq"]

    stopping = asyncio.create_task(asyncio.to_thread(servers[1].terminate))
    seq = await post()
    assert await stopping == 0

    moved = 0
    for index, (one, socket) in enumerate(zip(people, sockets, strict=True)):
        try:
            await socket.until_seq(group, seq, deadline_s=60)
        except AssertionError:
            assert await socket.until_closed() == 1012
            moved += 1
            last = max(socket.seqs(group), default=len(people))
            again = sockets[index] = await one.listen(group, since={group.id: last}, url=wss, ssl=front.tls)
            assert again.frames[-1]["data"]["groups"][group.id]["recovered"] is True
            if last < seq:
                await again.until_seq(group, seq)
    assert 0 < moved < len(people)
    for socket, one in zip(sockets, people, strict=True):
        await socket.close()
        await one.close()


# Chapter: files that are read


def _settings_named(text: str) -> set[str]:
    return set(re.findall(r"\b(ORBITAL_[A-Z_]+|DATABASE_URL|REDIS_URL|JWT_SECRET|PORT)\b", text))


@pytest.mark.parametrize(
    "name",
    [
        *("compose.yaml", "compose.home.yaml", "Dockerfile", "env.example", "systemd/orbital@.service"),
        "kubernetes/orbital.yaml",
    ],
)
def test_settings_exist(name: str):
    """[DEPLOY6] Every setting that a deployment file names exists."""
    named = _settings_named((DEPLOY / name).read_text())

    assert named
    assert named <= {option.env for option in OPTIONS}


def context_of_the_image(to: Path) -> None:
    """Copy what .dockerignore lets through, as `docker build` does."""
    named = [line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in named:
        source, target = CHECKOUT / name, to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        junk = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(source, target, ignore=junk) if source.is_dir() else shutil.copy(source, target)


def instructions() -> list[list[str]]:
    """Return the instructions of the Dockerfile as name and rest, in two stages as one list."""
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    return [line.split(None, 1) for line in lines if line and not line.startswith("#")]


def test_the_image_has_what_it_needs(tmp_path: Path):
    """[DEPLOY7] The files that .dockerignore admits build the same package as the checkout; the rest is excluded."""
    assert "*" in (CHECKOUT / ".dockerignore").read_text().splitlines(), "what is not named stays out"
    context, wheels = tmp_path / "context", tmp_path / "wheels"
    context_of_the_image(context)

    contents = []
    for folder in (CHECKOUT, context):
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels / folder.name]
        built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        (wheel,) = (wheels / folder.name).iterdir()
        contents.append(set(zipfile.ZipFile(wheel).namelist()))

    assert contents[0] == contents[1]
    assert "orbital_relay/_web/index.html" in contents[1]


def test_the_image_is_built(tmp_path: Path):
    """[DEPLOY2] The Dockerfile's steps, run in a clean folder, create an environment that serves but cannot build."""
    src, opt, context = tmp_path / "src", tmp_path / "opt", tmp_path / "context"
    src.mkdir()
    opt.mkdir()
    context_of_the_image(context)
    made = instructions()
    stage = made[: [name for name, _ in made].index("FROM", 1)]
    places = {
        "/opt/": f"{opt}/",
        "run python -m": f"run {sys.executable} -m",
        "&& python -m": f"&& {sys.executable} -m",
    }

    for name, rest in stage:
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                if (context / source).is_dir():
                    shutil.copytree(context / source, src / target, dirs_exist_ok=True)
                else:
                    (src / target).mkdir(exist_ok=True)
                    shutil.copy(context / source, src / target)
        elif name == "RUN":
            command = f"run {rest}"
            for printed, meant in places.items():
                command = command.replace(printed, meant)
            command = command.removeprefix("run ").replace(" --no-cache-dir", "")
            env = {**os.environ, "PIP_NO_COMPILE": "1"}
            done = subprocess.run(["sh", "-euc", command], cwd=src, env=env, capture_output=True, text=True)
            if "No matching distribution" in done.stderr or "onnection" in done.stderr:
                missing("a package index", remedy="connect to the network")
            assert done.returncode == 0, done.stderr

    python = opt / "orbital" / "bin" / "python"
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "list", "--format=json"], capture_output=True, text=True
    )
    installed = {each["name"].lower() for each in json.loads(listed.stdout)}
    assert {"orbital-relay", "uvicorn", "asyncpg", "redis", "obstore"} <= installed
    assert not {"hatchling", "editables", "pip", "setuptools", "trove-classifiers"} & installed
    # The image runs its command and its health check.
    program = Program(
        [opt / "orbital" / "bin" / "orbital", "serve"],
        env={"PATH": str(opt / "orbital" / "bin"), "ORBITAL_DATA_DIR": str(tmp_path / "data"), "PORT": "0"},
        cwd=tmp_path,
    )
    try:
        port = int(program.wait_for(r"http://[^:]+:(\d+)", deadline_s=60)[1])
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/sdk/orbital.js").status_code == 200
        (check,) = (json.loads(rest.partition(" CMD ")[2]) for name, rest in made if name == "HEALTHCHECK")
        checked = [opt / "orbital" / "bin" / check[0], *check[1:]]
        env = {"PORT": str(port), "ORBITAL_HOST": "0.0.0.0"}
        assert subprocess.run(checked, env=env, cwd=tmp_path, capture_output=True).returncode == 0
    finally:
        assert program.terminate() == 0


def test_the_image_runs_as_a_number():
    """[DEPLOY9] The image runs as a numeric user that is not root and owns the data folder."""
    users = [rest for name, rest in instructions() if name == "USER"]
    added = next(rest for name, rest in instructions() if name == "RUN" and rest.startswith("useradd"))

    assert users == ["10001"]
    assert "--uid 10001" in added
    assert "--create-home --home-dir /var/lib/orbital" in added


def test_the_home_deployment_is_complete():
    """[DEPLOY3] compose.home.yaml has one server that only Caddy reaches, at the address in the Caddyfile."""
    document = yaml.safe_load((DEPLOY / "compose.home.yaml").read_text())
    services = document["services"]

    assert set(services) == {"orbital", "caddy"}
    assert "ports" not in services["orbital"]
    assert services["orbital"]["network_mode"] == "service:caddy"
    settings = load({}, services["orbital"]["environment"])
    assert f"reverse_proxy {settings.host}:{settings.port}\n" in (DEPLOY / "Caddyfile").read_text()
    assert [str(network) for network in settings.trusted_proxies] == ["127.0.0.1/32"]
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in document["volumes"] or (DEPLOY / source).exists()


def test_compose_is_complete():
    """[DEPLOY8] compose.yaml has two servers that share a database, a Redis and a folder, and valid settings."""
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = document["services"]

    assert set(services) == {"orbital-1", "orbital-2", "postgres", "redis", "nginx"}
    (one,), (two,) = (services[name].pop("networks").values() for name in ("orbital-1", "orbital-2"))
    assert services["orbital-1"] == services["orbital-2"]
    # nginx resolves names once: an address that Docker assigned would change with an upgrade.
    (pool,) = document["networks"]["orbital"]["ipam"]["config"]
    addresses = [ipaddress.ip_address(each["ipv4_address"]) for each in (one, two)]
    assert addresses[0] != addresses[1]
    for address in addresses:
        assert address in ipaddress.ip_network(pool["subnet"])
        assert address not in ipaddress.ip_network(pool["ip_range"])
    environment = {
        name: re.sub(r"\$\{[^}]*\}", "x" * 32, value) for name, value in services["orbital-1"]["environment"].items()
    }
    settings = load({}, environment)
    assert settings.database_url is not None
    assert settings.redis_url is not None
    assert settings.close_pace > 0
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in document["volumes"] or source == "./tls" or (DEPLOY / source).exists()
