"""
The sample configurations of proxies, run by the real programs as they are printed.

Only what names another machine is replaced: the servers' addresses, ports, certificates, and where logs go.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import pwd
import re
import ssl
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.docs import reading
from tests.support import programs
from tests.support.process import Program, eventually
from tests.support.programs import CHECKOUT, free_port

DEPLOY = CHECKOUT / "deploy"
PAGE = CHECKOUT / "docs" / "how-to" / "behind-a-proxy.md"


def certificate(folder: Path) -> ssl.SSLContext:
    """Write orbital.crt, orbital.key and orbital.pem (both) for 127.0.0.1; return a context that trusts them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "orbital.crt").write_bytes(public)
    (folder / "orbital.key").write_bytes(private)
    (folder / "orbital.pem").write_bytes(public + private)
    return ssl.create_default_context(cafile=folder / "orbital.crt")


class Front:
    """
    One proxy in front of servers, with TLS on a port of its own and plain HTTP on another.

    Args:
        kind: Which sample; a key of `KINDS`.
        folder: An empty folder, for the configuration, the certificate and the logs.
        ports: The servers' ports at 127.0.0.1.
    """

    def __init__(self, kind: str, folder: Path, ports: Sequence[int]) -> None:
        self.folder = folder
        self.port, self.plain_port = free_port(), free_port()
        self.tls = certificate(folder)
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.program = KINDS[kind](self, list(ports))

    @property
    def url(self) -> str:
        """The address that clients use."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def logged(self) -> str:
        """Everything that the program wrote so far, to files or to its output."""
        return self.program.text + "".join(path.read_text(errors="replace") for path in self.logs.iterdir())

    async def start(self) -> None:
        """Wait until it passes requests on."""
        async with httpx.AsyncClient(verify=self.tls, trust_env=False) as http:

            async def answers() -> bool:
                try:
                    return (await http.get(f"{self.url}/health/live")).status_code == 200
                except httpx.TransportError:
                    assert self.program.alive, self.program.text
                    return False

            await eventually(answers, what="the proxy answers")


def _replaced(text: str, changes: dict[str, str]) -> str:
    """Replace each pattern, which has to be there: a sample that changed must not be tried as something else."""
    for pattern, by in changes.items():
        text, count = re.subn(pattern, lambda _, by=by: by, text, flags=re.MULTILINE)  # type: ignore[misc]
        assert count, f"the sample has no {pattern}"
    return text


def _nginx(front: Front, text: str) -> Program:
    """Run a whole nginx configuration where the tests' user may write, with no more files than it may open."""
    folder = front.folder
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    text = _replaced(
        text,
        {
            r"^http \{\n": f"http {{\n{places}",
            r"listen 443 ssl;": f"listen 127.0.0.1:{front.port} ssl;",
            r"listen \[::\]:443 ssl;": f"listen [::1]:{front.port} ssl;",
            r"listen 80;": f"listen 127.0.0.1:{front.plain_port};",
            r"listen \[::\]:80;": f"listen [::1]:{front.plain_port};",
            r"/var/log/nginx/": f"{front.logs}/",
        },
    )
    (folder / "orbital-headers.conf").write_text((DEPLOY / "orbital-headers.conf").read_text())
    config = folder / "nginx.conf"
    config.write_text(f"daemon off;\n{text}")
    binary = programs.nginx()
    checked = subprocess.run(
        [binary, "-t", "-c", config, "-p", folder, "-e", "stderr"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr, checked.stderr
    return Program([binary, "-c", config, "-p", folder, "-e", front.logs / "early.log"])


def nginx_cluster(front: Front, ports: list[int]) -> Program:
    """deploy/nginx.conf."""
    text = (DEPLOY / "nginx.conf").read_text()
    changes = {
        r"worker_rlimit_nofile 200000;\n": "",
        r"worker_connections 65536;": "worker_connections 1024;",
        r"/etc/nginx/tls/": f"{front.folder}/",
        r"/run/orbital-nginx.pid": str(front.folder / "pid"),
    }
    for number in (1, 2):
        changes[f"orbital-{number}:3000"] = f"127.0.0.1:{ports[(number - 1) % len(ports)]}"
    return _nginx(front, _replaced(text, changes))


def nginx_page(front: Front, ports: list[int]) -> Program:
    """The nginx of the how-to page, in the http block that Debian has around conf.d."""
    site = _replaced(
        reading.examples(PAGE)["nginx"],
        {
            r"127\.0\.0\.1:3000": f"127.0.0.1:{ports[0]}",
            r"/etc/letsencrypt/live/orbital.example.org/fullchain.pem": str(front.folder / "orbital.crt"),
            r"/etc/letsencrypt/live/orbital.example.org/privkey.pem": str(front.folder / "orbital.key"),
        },
    )
    around = f"pid {front.folder}/pid;\nerror_log /var/log/nginx/error.log;\nevents {{}}\n"
    return _nginx(front, f"{around}http {{\naccess_log /var/log/nginx/access.log;\n{site}}}\n")


def caddy(front: Front, ports: list[int]) -> Program:
    """deploy/Caddyfile, with a certificate of ours instead of one from the internet."""
    folder = front.folder
    text = _replaced(
        (DEPLOY / "Caddyfile").read_text(),
        {
            r"^\{\n": f"{{\n\tadmin off\n\thttp_port {front.plain_port}\n\thttps_port {front.port}\n",
            r"^orbital\.example\.org \{\n": f"127.0.0.1 {{\n\ttls {folder}/orbital.crt {folder}/orbital.key\n",
            r"127\.0\.0\.1:3000": f"127.0.0.1:{ports[0]}",
        },
    )
    config = folder / "Caddyfile"
    config.write_text(text)
    env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return Program([programs.caddy(), "run", "--config", config, "--adapter", "caddyfile"], env=env)


def haproxy(front: Front, ports: list[int]) -> Program:
    """deploy/haproxy.cfg, its log on the output."""
    servers = "".join(f"    server orbital-{number} 127.0.0.1:{port} check\n" for number, port in enumerate(ports, 1))
    text = _replaced(
        (DEPLOY / "haproxy.cfg").read_text(),
        {
            r"log /dev/log local0": "log stdout format raw local0",
            r"maxconn 100000": "maxconn 200",
            r"bind :80 v4v6": f"bind 127.0.0.1:{front.plain_port}",
            r"bind :443 v4v6": f"bind 127.0.0.1:{front.port}",
            r"/etc/haproxy/orbital.pem": str(front.folder / "orbital.pem"),
            r"^ +server orbital-1 .*\n": servers,
        },
    )
    config = front.folder / "haproxy.cfg"
    config.write_text(text)
    binary = programs.haproxy()
    checked = subprocess.run([binary, "-c", "-f", config], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr, checked.stderr
    return Program([binary, "-db", "-f", config])


def apache(front: Front, ports: list[int]) -> Program:
    """deploy/apache.conf, with the modules that it asks for and what Debian loads by default."""
    binary = programs.apache()
    folder = front.folder
    site = _replaced(
        (DEPLOY / "apache.conf").read_text(),
        {
            r"\*:80>": f"127.0.0.1:{front.plain_port}>",
            r"\*:443>": f"127.0.0.1:{front.port}>",
            r"127\.0\.0\.1:3000": f"127.0.0.1:{ports[0]}",
            r"/etc/letsencrypt/live/orbital.example.org/fullchain.pem": str(folder / "orbital.crt"),
            r"/etc/letsencrypt/live/orbital.example.org/privkey.pem": str(folder / "orbital.key"),
            r"/var/log/apache2/": f"{front.logs}/",
        },
    )
    places = ("/usr/lib/apache2/modules", "/usr/libexec/apache2", "/usr/lib64/httpd/modules")
    modules = next(path for path in map(Path, places) if path.is_dir())
    loaded = "".join(
        f"LoadModule {name}_module {modules}/mod_{name}.so\n"
        for name in ("mpm_event", "authz_core", "alias", "reqtimeout", "ssl", "headers", "proxy", "proxy_http")
        if (modules / f"mod_{name}.so").exists()
    )
    who = pwd.getpwnam("www-data" if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
    user = f"User {who.pw_name}\nGroup #{who.pw_gid}\n"
    config = folder / "apache.conf"
    config.write_text(
        f"ServerRoot {folder}\nServerName localhost\nPidFile {folder}/pid\nDefaultRuntimeDir {folder}\n"
        f"Listen 127.0.0.1:{front.port}\nListen 127.0.0.1:{front.plain_port}\n"
        f"ErrorLog {front.logs}/error.log\n{loaded}{user}{site}"
    )
    checked = subprocess.run([binary, "-t", "-f", config], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    return Program([binary, "-D", "FOREGROUND", "-f", config])


KINDS: dict[str, Callable[[Front, list[int]], Program]] = {
    "deploy/nginx.conf": nginx_cluster,
    "behind-a-proxy.md": nginx_page,
    "deploy/Caddyfile": caddy,
    "deploy/haproxy.cfg": haproxy,
    "deploy/apache.conf": apache,
}
"""Every sample that the project prints."""
