"""The files of the web page and the JavaScript SDK: content security policy, ETag, caching, gzip."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

import orbital_relay
from orbital_relay.server.http.endpoint import Reply

_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".jpg": b"image/jpeg",
    ".webp": b"image/webp",
    ".ico": b"image/x-icon",
    ".woff2": b"font/woff2",
    ".txt": b"text/plain; charset=utf-8",
    ".ts": b"text/plain; charset=utf-8",
    ".webmanifest": b"application/manifest+json",
}
"""What is served at all, and as what. The machine's own table of types may say something else for `.js`."""

PAGE_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    b"font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; frame-src 'self'; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'self'"
)
"""
For pages of ours: nothing from elsewhere, no inline script. `'self'` covers the WebSocket of the same address, and lets
the demonstration show two members side by side.
"""

_PACKED: Final = frozenset({b"text/html", b"text/javascript", b"text/css", b"image/svg+xml"})
"""What is worth packing: text. It shrinks to a third."""

_COMMENTED: Final = frozenset({".js", ".mjs", ".css"})
"""What is served without its comments."""

_WHOLE_LINES: Final = re.compile(rb"^[ \t]*(?:/\*(?:[^*]|\*(?!/))*\*/[ \t]*$|//[^\n]*$)", re.MULTILINE)
"""A comment that begins a line and ends one."""

_DEVELOPMENT: Final = frozenset({"node_modules", "test", "types", "scripts"})
"""What a checkout has beside a page, and a wheel has not."""

EDITION_HEADER: Final = b"x-orbital-page"
"""Names the edition of page and SDK that a file belongs to. The answer of a proxy or portal has no such header."""

# Names carry no hash, so a browser asks each time, and the ETag makes the answer short.
_CACHE: Final = b"no-cache"


class _File(msgspec.Struct, frozen=True):
    """A file as it was read; packed once, if it is of a kind for it."""

    content_type: bytes
    etag: bytes
    content: bytes
    packed: bytes | None
    policy: bytes


def folder(packaged: str, checkout: str) -> Path | None:
    """
    Find a folder that the wheel carries inside the package, or a checkout beside it.

    Args:
        packaged: Its name in the package.
        checkout: Its path from the checkout's root.
    """
    package = Path(orbital_relay.__file__).parent
    for candidate in (package / packaged, package.parent.parent / checkout):
        if candidate.is_dir():
            return candidate.resolve()
    return None


class Files:
    """
    A folder whose files are served. It never leaves its folder, and lists nothing.

    Everything is read once, when the server starts: an upgrade that replaces the files below a running server would
    otherwise mix the new page with the old API.

    Args:
        root: The folder; None serves nothing.
        shared: Whether pages of other sites may load the files, also with a plain script element.
    """

    def __init__(self, root: Path | None, *, shared: bool = False) -> None:
        self._files = {} if root is None else dict(_read(root, root))
        self._headers: list[tuple[bytes, bytes]] = (
            [(b"cross-origin-resource-policy", b"cross-origin")] if shared else []
        )

    @property
    def edition(self) -> bytes:
        """The mark of all files together: another one when any of them is another."""
        marks = b" ".join(b"%b %b" % (name.encode(), file.etag) for name, file in sorted(self._files.items()))
        return hashlib.sha256(marks).hexdigest()[:16].encode()

    def reply(
        self, name: str, *, if_none_match: str | None, accept_encoding: str | None = None, edition: bytes | None = None
    ) -> Reply | None:
        """
        Answer with a file, or 304 when the client has it; None when there is no such file.

        Args:
            name: Its path in the folder.
            if_none_match: The client's header.
            accept_encoding: The client's header.
            edition: What to name as the edition that the file belongs to.
        """
        file = self._files.get(name)
        if file is None:
            return None
        content_type = file.content_type
        headers = list(self._headers)
        if edition is not None:
            headers.append((EDITION_HEADER, edition))
        content, etag = file.content, file.etag
        if file.packed is not None:
            headers.append((b"vary", b"accept-encoding"))
            if _takes_gzip(accept_encoding):
                # RFC 9110 §8.8.3: another representation has another tag.
                content, etag = file.packed, etag[:-1] + b'-gz"'
                headers.append((b"content-encoding", b"gzip"))
        headers.append((b"etag", etag))
        if content_type.startswith(b"text/html"):
            headers.append((b"content-security-policy", file.policy))
        if if_none_match is not None and _matches(if_none_match, etag.decode()):
            return Reply(304, headers=headers, cache=_CACHE, exposed=False)
        return Reply(200, content, headers=headers, content_type=content_type, cache=_CACHE, exposed=False)


def _read(root: Path, below: Path) -> Iterator[tuple[str, _File]]:
    """Read what is served of a folder: files of known kinds, none that is hidden, none outside of `root`."""
    for path in sorted(below.iterdir()):
        if path.name.startswith(".") or path.name in _DEVELOPMENT:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _read(root, path)
        content_type = _TYPES.get(path.suffix.lower())
        if content_type is None or not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
            continue
        content = path.read_bytes()
        if path.suffix.lower() in _COMMENTED:
            content = without_comments(content)
        # 96 bits of the hash suffice: a tag is compared with the few other versions of the same file.
        etag = b'"%b"' % base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:12])
        packed = gzip.compress(content, mtime=0) if content_type.partition(b";")[0] in _PACKED else None
        yield path.relative_to(root).as_posix(), _File(content_type, etag, content, packed, _policy(content))


def _policy(content: bytes) -> bytes:
    """Return the policy of a page: its import map may be in it, allowed by its hash (CSP3 §8.3)."""
    hashes = [
        b" 'sha256-%b'" % base64.b64encode(hashlib.sha256(each).digest())
        for each in re.findall(rb'<script type="importmap">(.*?)</script>', content, re.DOTALL)
    ]
    return PAGE_POLICY.replace(b"script-src 'self'", b"script-src 'self'" + b"".join(hashes))


def without_comments(source: bytes) -> bytes:
    """
    Return a script or a style sheet without the comments that fill whole lines.

    They are two fifths of what a phone would load. Line feeds stay, so that an error names the source's line.
    A comment behind code stays too: to tell it from a string takes a parser.

    Args:
        source: A file of ours, in UTF-8; no template literal in it has a line that begins like a comment.
    """
    return _WHOLE_LINES.sub(lambda comment: b"\n" * comment[0].count(b"\n"), source)


def _takes_gzip(accept_encoding: str | None) -> bool:
    """Return whether a client accepts gzip (RFC 9110 §12.5.3); one that says nothing gets the file as it is."""
    for each in (accept_encoding or "").lower().split(","):
        coding, *parameters = (part.strip() for part in each.split(";"))
        if coding == "gzip":
            return not any(re.fullmatch(r"q=0(\.0{0,3})?", parameter) for parameter in parameters)
    return False


def _matches(if_none_match: str, etag: str) -> bool:
    """Compare weakly, as RFC 9110 §13.1.2 asks."""
    return if_none_match.strip() == "*" or etag in {
        each.strip().removeprefix("W/") for each in if_none_match.split(",")
    }
