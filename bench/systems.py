"""What is measured: Orbital, and its peers, each behind the same few questions."""

import json
import os
import re
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from bench import tools
from bench.load import Conn, Load, envelope, request, upgrade
from bench.tools import HERE, Missing, identity

SECRET = "a secret of the bench, known to every server it starts"


@dataclass(frozen=True)
class Layout:
    """Who is where: `groups` groups of `members` listeners, and `posters` users who post to them.

    Poster p posts to group g when both stand at the same place of the longer round: with 64 posters and one group all
    post to it, with 64 posters and 200 groups each group has one.
    """

    groups: int
    members: int
    posters: int = 4
    size: int = 400

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(group, poster) in the order in which events are sent."""
        return [(i % self.groups, i % self.posters) for i in range(max(self.groups, self.posters))]

    def listener(self, group: int, member: int) -> str:
        """The user who listens at that index."""
        return identity("listener", group, member)

    def poster(self, number: int) -> str:
        """The user who posts."""
        return identity("poster", number)

    def event(self, group_id: str) -> dict:
        """A `new_message` of the published form, `size` bytes long."""
        data = {
            "message_id": identity("message"),
            "conversation_id": group_id,
            "encrypted_envelope": "",
            "server_timestamp": 1_700_000_000_000,
        }
        event = {"type": "new_message", "data": data, "server_timestamp": 1_700_000_000_000}
        data["encrypted_envelope"] = envelope(self.size - len(compact(event)))
        return event

    def envelope(self) -> str:
        """The opaque part of such an event."""
        return self.event(identity("group", 0))["data"]["encrypted_envelope"]

    def message(self, group_id: str) -> dict:
        """The body of the POST that makes such an event."""
        return {
            "conversation_id": group_id,
            "encrypted_envelope": self.envelope(),
            "timestamp": 1_700_000_000_000,
        }


@dataclass
class Testbed:
    """Where servers run: the cores, a folder, and the PostgreSQL that those share who need one."""

    server_core: int | None
    load_core: int | None
    steps: int = 0
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="bench-")))
    _postgres: tools.Postgres | None = None

    def postgres(self) -> tools.Postgres:
        """The one PostgreSQL of this run, on the servers' core: its work is the server's."""
        if self._postgres is None:
            self._postgres = tools.Postgres(core=self.server_core, steps=self.steps)
        return self._postgres

    def close(self) -> None:
        """Remove everything."""
        if self._postgres is not None:
            self._postgres.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def compact(value: object) -> str:
    """JSON without spaces, as `JSON.stringify` writes it."""
    return json.dumps(value, separators=(",", ":"))


class System(ABC):
    """One server under load. A subclass says how it is started and spoken to; by default, the published frames."""

    key = ""
    label = ""
    answers = False
    many_marks = False
    opcode = 1
    path = "/ws"
    host = "127.0.0.1"

    def __init__(self) -> None:
        self.process = None
        self.port = 0

    # Life

    def start(self, testbed: Testbed) -> None:
        """Start the server on its core and wait until it listens.

        Raises:
            Missing: If something that it needs is not here.
        """
        self.port = tools.free_port()
        command, env = self.command(testbed)
        self.log = testbed.folder / f"{self.key}.log"
        self._run = lambda: tools.pinned(
            command,
            core=testbed.server_core,
            steps=testbed.steps,
            env={"JWT_SECRET": SECRET, "NODE_ENV": "production", **env},
            log=self.log,
        )
        self._open()

    def _open(self) -> None:
        self.process = self._run()
        try:
            tools.listening(self.port, process=self.process)
        except Missing as missing:
            tools.ended(self.process)
            said = self.log.read_text(errors="replace").strip().splitlines()
            raise Missing(f"{missing}{': ' + said[-1][-200:] if said else ''}") from None

    @abstractmethod
    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        """What to run, and with which environment."""

    def stop(self) -> None:
        """End the server."""
        if self.process is not None:
            tools.ended(self.process)

    def reopen(self) -> None:
        """End the server and start it with the same data, if it is ours."""
        if self.process is not None:
            self.stop()
            self._open()

    def again(self, testbed: Testbed) -> None:
        """Restart, if the server is ours."""
        if self.process is not None:
            self.stop()
            self.start(testbed)

    def cpu_ns(self) -> int | None:
        """CPU time used so far by everything that is the server; None when it is not ours to see."""
        return sum(map(tools.cpu_ns, self.roots())) if self.roots() else None

    def resident_bytes(self) -> int | None:
        """Memory that the server holds."""
        return tools.resident_bytes(self.process.pid) if self.process else None

    def roots(self) -> list[int]:
        """The processes whose trees are the server."""
        return [self.process.pid] if self.process else []

    # Speaking

    @property
    def authority(self) -> str:
        """Host and port as a request names them."""
        return f"{self.host}:{self.port}"

    def group_id(self, group: int) -> str:
        """The group's name there."""
        return identity("group", group)

    def prepare(self, load: Load, layout: Layout) -> None:  # noqa: B027 - most have nobody to make
        """Make users and groups, once for a server and layout."""

    def bearer(self, user: str) -> str:
        """The user's token."""
        return tools.token(SECRET, user)

    def listener(self, layout: Layout, group: int, member: int, *, flags: str = "g", since: int | None = None) -> Conn:
        """One listener's connection."""
        data: dict = {"group_ids": [self.group_id(group)]}
        if since is not None:
            data["since"] = {self.group_id(group): since}
        user = layout.listener(group, member)
        head = upgrade(self.authority, self.path, bearer=self.bearer(user))
        return Conn(group, head, [compact({"type": "subscribe", "data": data})], flags=flags)

    def publishers(self, load: Load, layout: Layout) -> None:
        """Prepare the publishing side: connections and events."""
        load.options(answers=self.answers, many_marks=self.many_marks)
        load.publishers(
            Conn(-1, upgrade(self.authority, self.path, bearer=self.bearer(layout.poster(p))))
            for p in range(layout.posters)
        )
        load.templates(((g, p, self.publication(layout, g)) for g, p in layout.pairs), opcode=self.opcode)

    def publication(self, layout: Layout, group: int) -> str | bytes:
        """The frame that publishes an event."""
        name = self.group_id(group)
        return f'{{"type":"publish","group_id":"{name}","event":{compact(layout.event(name))}}}'


class Posted:
    """For a system that takes events as POSTs: on keep-alive connections, one at a time on each, each answered."""

    def publishers(self, load: Load, layout: Layout) -> None:
        load.options(answers=True, many_marks=False)
        load.https(64)
        load.templates(((g, -1, self.post(layout, g, p)) for g, p in layout.pairs), opcode=0)

    def post(self, layout: Layout, group: int, poster: int) -> str:
        """The request that publishes an event."""
        body = compact(layout.message(self.group_id(group)))
        bearer = self.bearer(layout.poster(poster))
        return request("POST", self.authority, "/v1/messages", body, bearer=bearer)


# Orbital


class Orbital(System):
    """`orbital serve` with everything on; events are `post_message` frames, each answered once it is on the disk."""

    key, label = "orbital", "Orbital, frames"
    answers = True
    database = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.ids: dict[int, str] = {}
        self.prepared: set[tuple[int, int, int]] = set()
        self.url: str | None = None

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        self.prepared.clear()
        data = Path(tempfile.mkdtemp(prefix=f"{self.key}-", dir=testbed.folder))
        env = {
            "PORT": str(self.port),
            "ORBITAL_HOST": "127.0.0.1",
            "ORBITAL_DATA_DIR": str(data),
            "ORBITAL_LOG_LEVEL": "warning",
            "ORBITAL_CONNECT_LIMIT": "1000000",
            "ORBITAL_CONNECT_CEILING": "1000000",
            "ORBITAL_REQUEST_LIMIT": "100000000",
            "ORBITAL_FRAME_RATE": "1000000",
            "ORBITAL_SIGNUP_LIMIT": "1000000",
            "ORBITAL_LOGIN_LIMIT": "1000000",
            "ORBITAL_JOIN_LIMIT": "1000000",
            "ORBITAL_USER_GROUPS": "1000000",
            "ORBITAL_GROUP_MEMBERS": "1000000",
        }
        if self.database == "postgres":
            env["DATABASE_URL"] = testbed.postgres().url(f"{self.key}-{self.port}")
            self._postgres = testbed.postgres()
        else:
            env["DATABASE_URL"] = f"sqlite:///{data / 'orbital.db'}"
        return [sys.executable, "-m", "orbital_relay", "serve"], env

    def roots(self) -> list[int]:
        return super().roots() + ([self._postgres.process.pid] if self.database == "postgres" and self.process else [])

    def group_id(self, group: int) -> str:
        return self.ids[group]

    def prepare(self, load: Load, layout: Layout, *, progress=None) -> None:
        shape = (layout.groups, layout.members, layout.posters)
        if shape in self.prepared:
            return
        # A layout has groups of its own: members of an earlier, larger one would be a different load.
        self.ids, self.codes = {}, {}
        owners = dict(reversed(layout.pairs))
        body = compact({"encrypted_name": "bmFtZQ==", "encrypted_group_key": "a2V5"})
        order = sorted(owners)
        made = load.batch(
            (
                request("POST", self.authority, "/api/groups", body, bearer=self.bearer(layout.poster(owners[g])))
                for g in order
            ),
            keep=True,
            progress=progress,
        )
        for g, (_status, text) in zip(order, made, strict=True):
            answer = json.loads(text)
            self.ids[g], self.codes[g] = answer["group_id"], answer["invite_code"]
        joining = [(g, layout.poster(p)) for g, p in layout.pairs if p != owners[g]]
        joining += [(g, layout.listener(g, m)) for m in range(layout.members) for g in range(layout.groups)]
        load.batch((self._join(g, user) for g, user in joining), progress=progress)
        self.prepared = {shape}

    def _join(self, group: int, user: str) -> str:
        body = compact({"invite_code": self.codes[group], "encrypted_group_key": "a2V5"})
        return request("POST", self.authority, "/api/groups/join", body, bearer=self.bearer(user))

    def heads(self, load: Load, layout: Layout) -> dict[int, int]:
        """The last number of each group now."""
        asked = load.batch(
            (
                request("GET", self.authority, "/api/groups", bearer=self.bearer(layout.poster(p)))
                for p in range(layout.posters)
            ),
            keep=True,
        )
        seqs = {group["group_id"]: group["last_seq"] for _, text in asked for group in json.loads(text)["groups"]}
        return {number: seqs[name] for number, name in self.ids.items()}

    def publication(self, layout: Layout, group: int) -> str:
        return compact({"type": "post_message", "data": layout.message(self.group_id(group))})


class OrbitalPost(Posted, Orbital):
    """The same, events as POST /v1/messages."""

    key, label = "orbital-post", "Orbital, POST"


class OrbitalPostEpoch(OrbitalPost):
    """The same, each post for the group's present epoch, as clients that encrypt end to end send it."""

    key, label = "orbital-post-epoch", "Orbital, POST with if_epoch"

    def publishers(self, load: Load, layout: Layout) -> None:
        self.epochs = self.heads(load, layout)
        super().publishers(load, layout)

    def post(self, layout: Layout, group: int, poster: int) -> str:
        body = {**layout.message(self.group_id(group)), "if_epoch": self.epochs[group]}
        bearer = self.bearer(layout.poster(poster))
        return request("POST", self.authority, "/v1/messages", compact(body), bearer=bearer)


class OrbitalReply(OrbitalPost):
    """Replies, as POST /api/threads/{id}/replies: one thread in each group; the event's text is the reply's body."""

    key, label = "orbital-reply", "Orbital, POST of replies"

    def publishers(self, load: Load, layout: Layout) -> None:
        order = list(dict(layout.pairs).items())
        made = load.batch(
            (
                request(
                    "POST",
                    self.authority,
                    "/api/threads",
                    compact(
                        {"group_id": self.group_id(g), "encrypted_title": "dGl0bGU=", "encrypted_body": "Ym9keQ=="}
                    ),
                    bearer=self.bearer(layout.poster(p)),
                )
                for g, p in order
            ),
            keep=True,
        )
        self.threads = {g: json.loads(text)["thread_id"] for (g, _), (_, text) in zip(order, made, strict=True)}
        super().publishers(load, layout)

    def post(self, layout: Layout, group: int, poster: int) -> str:
        body = compact({"encrypted_body": layout.envelope()})
        bearer = self.bearer(layout.poster(poster))
        return request("POST", self.authority, f"/api/threads/{self.threads[group]}/replies", body, bearer=bearer)


class OrbitalEdge(Orbital):
    """The edge alone: events handed to the relay inside the process, sealed and chained but not stored."""

    key, label = "orbital-edge", "Orbital, the edge alone"
    answers = False

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        _, env = super().command(testbed)
        self.control_port = tools.free_port()
        return [sys.executable, str(HERE / "peers/orbital_edge.py"), str(self.control_port)], env

    def publishers(self, load: Load, layout: Layout) -> None:
        load.options(answers=False, many_marks=False)
        load.control(self.control_port)
        load.publishers(Conn(-1, "-", flags="r") for _ in range(layout.posters))
        load.templates(((g, p, f"{self.group_id(g)}\t{layout.envelope()}\n") for g, p in layout.pairs), opcode=0)


class OrbitalPostgres(Orbital):
    """Orbital on PostgreSQL, frames."""

    key, label, database = "orbital-pg", "Orbital on PostgreSQL, frames", "postgres"


class OrbitalPostPostgres(OrbitalPost):
    """Orbital on PostgreSQL, POST."""

    key, label, database = "orbital-post-pg", "Orbital on PostgreSQL, POST", "postgres"


class OrbitalPostEpochPostgres(OrbitalPostEpoch):
    """Orbital on PostgreSQL, POST with `if_epoch`."""

    key, label, database = "orbital-post-epoch-pg", "Orbital on PostgreSQL, POST with if_epoch", "postgres"


def elsewhere(url: str, secret: str, kind: type[Orbital]) -> Orbital:
    """Orbital as somebody else runs it: measured from outside, without its CPU time and memory.

    Raises:
        Missing: If the address cannot be used, or nothing listens there.
    """
    found = re.fullmatch(r"(?:http|ws)://([^/:\s]+)(?::(\d{1,5}))?/?", url)
    if found is None:
        raise Missing(f"{url!r} is not http://host:port; the load side speaks no TLS, so point it behind the proxy")
    host, port = found[1], int(found[2] or 80)
    tools.listening(port, host=host, within_s=5)

    class Elsewhere(kind):
        label = f"{kind.label} at {url}"

        def start(self, testbed: Testbed) -> None:
            self.host, self.port = host, port

        def bearer(self, user: str) -> str:
            return tools.token(secret, user)

    return Elsewhere()


# Peers


class FloorOne(System):
    """A C server with one send for each delivery."""

    key, label, way = "c-one", "C, one send a delivery", "one"

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        return [str(tools.compiled("floor")), str(self.port), self.way], {}


class FloorJoined(FloorOne):
    """A C server that joins the frames of one turn of its loop."""

    key, label, way = "c-joined", "C, a tick's frames joined", "joined"


class NodeMap(System):
    """Node `ws`, listeners in a Map by group, the text made once."""

    key, label, script, args = "node-map", "Node ws, Map", "node_ws.mjs", ("map",)

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        return [tools.node(), str(tools.CACHE / "node" / self.script), str(self.port), *self.args], {}


class NodeSearch(NodeMap):
    """Node `ws` as the published sample broadcasts."""

    key, label, args = "node-search", "Node ws, as published", ("search",)


class SocketIo(NodeMap):
    """Socket.IO, rooms."""

    key, label, script, args = "socketio", "Socket.IO", "node_socketio.mjs", ()
    path = "/socket.io/?EIO=4&transport=websocket"

    def listener(self, layout: Layout, group: int, member: int, *, flags: str = "g", since: int | None = None) -> Conn:
        return Conn(
            group,
            upgrade(self.authority, self.path),
            ["40", "42" + compact(["subscribe", [self.group_id(group)]])],
            flags=flags,
        )

    def publishers(self, load: Load, layout: Layout) -> None:
        load.options(answers=False, many_marks=False)
        load.publishers(Conn(-1, upgrade(self.authority, self.path), ["40"]) for _ in range(layout.posters))
        load.templates(((g, p, self.publication(layout, g)) for g, p in layout.pairs), opcode=1)

    def publication(self, layout: Layout, group: int) -> str:
        name = self.group_id(group)
        return "42" + compact(["publish", name, layout.event(name)])


class Express(Posted, NodeMap):
    """The published design whole: Express, pg, ws; POST /v1/messages answered once its row is committed."""

    key, label, script, args = "express", "Express + pg + ws", "node_express.mjs", ()

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        command, _ = super().command(testbed)
        self._postgres = testbed.postgres()
        self._url = self._postgres.url(f"express-{self.port}")
        return command, {"DATABASE_URL": self._url}

    def roots(self) -> list[int]:
        return [*super().roots(), self._postgres.process.pid] if self.process else []

    def prepare(self, load: Load, layout: Layout, *, progress=None) -> None:
        import asyncio

        import asyncpg

        async def fill() -> None:
            connection = await asyncpg.connect(self._url)
            rows = {(self.group_id(g), layout.poster(p)) for g, p in layout.pairs}
            rows |= {
                (self.group_id(g), layout.listener(g, m)) for g in range(layout.groups) for m in range(layout.members)
            }
            await connection.executemany("INSERT INTO members VALUES ($1, $2) ON CONFLICT DO NOTHING", rows)
            await connection.close()

        asyncio.run(fill())


class PythonPeer(System):
    """A peer in Python, in its own environment."""

    script = ""

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        return [tools.python(), str(HERE / "peers" / self.script), str(self.port)], {}


class Socketify(PythonPeer):
    """uWebSockets through socketify."""

    key, label, script = "uws", "uWebSockets (socketify)", "py_socketify.py"


class Websockets(PythonPeer):
    """The `websockets` package."""

    key, label, script = "websockets", "websockets broadcast()", "py_websockets.py"


class Starlette(PythonPeer):
    """Starlette on uvicorn."""

    key, label, script = "starlette", "Starlette on uvicorn", "py_starlette.py"


class Nats(System):
    """NATS over WebSocket; its frames may hold several messages, and all of them are counted."""

    key, label = "nats", "NATS over WebSocket"
    opcode, many_marks, path = 2, True, "/"

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        program = shutil.which("nats-server")
        if program is None:
            raise Missing("it needs nats-server (apt-get install nats-server)")
        config = testbed.folder / "nats.conf"
        config.write_text(
            f"host: 127.0.0.1\nport: {tools.free_port()}\nmax_pending: 256MB\n"
            f"websocket {{ host: 127.0.0.1, port: {self.port}, no_tls: true }}\n"
        )
        return [program, "-c", str(config)], {"GOMAXPROCS": "1"}

    def listener(self, layout: Layout, group: int, member: int, *, flags: str = "g", since: int | None = None) -> Conn:
        hello = f'CONNECT {{"verbose":false,"pedantic":false}}\r\nSUB {self.group_id(group)} 1\r\nPING\r\n'
        return Conn(group, upgrade(self.authority, self.path), [hello], flags=flags + "b")

    def publishers(self, load: Load, layout: Layout) -> None:
        load.options(answers=False, many_marks=True)
        hello = 'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n'
        load.publishers(
            Conn(-1, upgrade(self.authority, self.path), [hello], flags="gb") for _ in range(layout.posters)
        )
        load.templates(((g, p, self.publication(layout, g)) for g, p in layout.pairs), opcode=2)

    def publication(self, layout: Layout, group: int) -> str:
        name = self.group_id(group)
        event = compact(layout.event(name))
        return f"PUB {name} {len(event)}\r\n{event}\r\n"


class Mosquitto(System):
    """MQTT 3.1.1 over WebSocket, quality of service 0."""

    key, label = "mosquitto", "Mosquitto (MQTT over WebSocket)"
    opcode, many_marks, path = 2, True, "/mqtt"

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None:
            raise Missing("it needs mosquitto (apt-get install mosquitto)")
        config = testbed.folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port}\nprotocol websockets\nsocket_domain ipv4\nallow_anonymous true\n"
            "max_queued_messages 0\nset_tcp_nodelay true\nuser root\n"
        )
        return [program, "-c", str(config)], {}

    @staticmethod
    def packet(kind: int, rest: bytes) -> bytes:
        """An MQTT control packet: kind, the length in sevens, the rest (MQTT 3.1.1 §2.2)."""
        size, length = bytearray(), len(rest)
        while True:
            size.append(length % 128 | (128 if length > 127 else 0))
            length //= 128
            if not length:
                return bytes([kind]) + bytes(size) + rest

    @staticmethod
    def text(value: str) -> bytes:
        """A string with its length before it."""
        return len(value).to_bytes(2, "big") + value.encode()

    def hello(self, name: str) -> bytes:
        """CONNECT with a clean session and no keep-alive."""
        return self.packet(0x10, self.text("MQTT") + b"\x04\x02\x00\x00" + self.text(name))

    def listener(self, layout: Layout, group: int, member: int, *, flags: str = "", since: int | None = None) -> Conn:
        head = upgrade(self.authority, self.path, more="Sec-WebSocket-Protocol: mqtt\r\n")
        subscribe = self.packet(0x82, b"\x00\x01" + self.text(self.group_id(group)) + b"\x00")
        return Conn(
            group, head, [self.hello(layout.listener(group, member)), subscribe], flags=flags.replace("g", "") + "b"
        )

    def publishers(self, load: Load, layout: Layout) -> None:
        load.options(answers=False, many_marks=True)
        head = upgrade(self.authority, self.path, more="Sec-WebSocket-Protocol: mqtt\r\n")
        load.publishers(Conn(-1, head, [self.hello(layout.poster(p))], flags="b") for p in range(layout.posters))
        load.templates(((g, p, self.publication(layout, g)) for g, p in layout.pairs), opcode=2)

    def publication(self, layout: Layout, group: int) -> bytes:
        name = self.group_id(group)
        return self.packet(0x30, self.text(name) + compact(layout.event(name)).encode())


TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
"""nginx makes a folder for each, and by default not where we may."""


class Nchan(Posted, System):
    """nginx with Nchan; events are POSTs, answered when it has queued them."""

    key, label = "nchan", "Nchan (nginx)"

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        module = next(
            (
                p
                for p in (
                    Path("/usr/lib/nginx/modules/ngx_nchan_module.so"),
                    Path("/usr/share/nginx/modules/ngx_nchan_module.so"),
                )
                if p.exists()
            ),
            None,
        )
        if program is None or module is None:
            raise Missing("it needs nginx with Nchan (apt-get install nginx libnginx-mod-nchan)")
        config = testbed.folder / "nginx.conf"
        config.write_text(
            f"load_module {module};\ndaemon off;\nmaster_process off;\nworker_processes 1;\n"
            f"pid {testbed.folder}/nginx.pid;\nerror_log stderr crit;\nevents {{ worker_connections 19000; }}\n"
            "http { access_log off; keepalive_requests 100000000; nchan_shared_memory_size 256M;\n"
            + "".join(f"{kind}_temp_path {testbed.folder}/{kind};\n" for kind in TEMPORARY)
            + f"server {{ listen 127.0.0.1:{self.port} backlog=4096;\n"
            "location ~ ^/sub/([-0-9a-f]+)$ { nchan_subscriber websocket; nchan_channel_id $1;\n"
            "nchan_subscriber_first_message newest; }\n"
            "location ~ ^/pub/([-0-9a-f]+)$ { nchan_publisher; nchan_channel_id $1;\n"
            "nchan_message_buffer_length 100; } } }\n"
        )
        return [program, "-c", str(config), "-p", str(testbed.folder)], {}

    def listener(self, layout: Layout, group: int, member: int, *, flags: str = "g", since: int | None = None) -> Conn:
        return Conn(
            group, upgrade(self.authority, f"/sub/{self.group_id(group)}"), [], flags=flags.replace("g", "") + "o"
        )

    def post(self, layout: Layout, group: int, poster: int) -> str:
        name = self.group_id(group)
        return request("POST", self.authority, f"/pub/{name}", compact(layout.event(name)))


SYSTEMS: dict[str, type[System]] = {
    kind.key: kind
    for kind in (
        Orbital,
        OrbitalPost,
        OrbitalPostEpoch,
        OrbitalReply,
        OrbitalEdge,
        OrbitalPostgres,
        OrbitalPostPostgres,
        OrbitalPostEpochPostgres,
        NodeMap,
        NodeSearch,
        SocketIo,
        Express,
        Socketify,
        Websockets,
        Starlette,
        FloorOne,
        FloorJoined,
        Nats,
        Mosquitto,
        Nchan,
    )
}
