"""Static routes: the API description, the web page, the JavaScript SDK."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from html import escape
from typing import Final

import msgspec

from orbital_relay import __version__
from orbital_relay.errors import NotFound
from orbital_relay.server.edge.request_head import ENCODED_SLASH
from orbital_relay.server.http.application import missing
from orbital_relay.server.http.docs import asyncapi, page
from orbital_relay.server.http.docs.openapi import describe
from orbital_relay.server.http.endpoint import Answer, Call, Endpoint, Reply, endpoint
from orbital_relay.server.http.static.files import Files, folder

_TAG: Final = "Running it"
_HTML: Final = b"text/html; charset=utf-8"

_WELCOME: Final = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Orbital</title><style>{page.STYLE}</style>
</head><body><main><h1>Orbital {escape(__version__)}</h1>
<p>This is an Orbital server: it relays end-to-end encrypted events to small groups, over HTTP and WebSocket.
It carries no web page.</p>
<ul><li><a href="docs">The HTTP API, to read</a></li><li><a href="openapi.json">The same for programs</a></li>
<li>WebSocket: <code>/ws</code>, <a href="asyncapi.json">described for programs</a></li>
<li><a href="health/ready">Is it ready?</a></li></ul></main></body></html>
""".encode()


class Site:
    """The endpoints that serve documents. The description is of all endpoints, these among them."""

    def __init__(self, *, web: Files | None = None, sdk: Files | None = None) -> None:
        self._web = web or Files(folder("_web", "web"))
        self._sdk = sdk or Files(folder("_sdk", "clients/javascript/src"), shared=True)
        # A page that is kept on a device is of one edition, whole: a new file beside an old one may not fit to it.
        self._edition = self._web.edition[:8] + self._sdk.edition[:8]
        self._described: Sequence[Endpoint] = ()
        self._public_url = "/"

        @endpoint("GET", "/openapi.json", tag=_TAG, answers=[Answer(200, "An OpenAPI 3.1 document.", dict)], auth=False)
        async def show_openapi(call: Call) -> Reply:  # noqa: ARG001 - every handler gets the call
            """Describe this API for programs."""
            return Reply(200, self.openapi, cache=b"no-cache")

        @endpoint(
            "GET", "/asyncapi.json", tag=_TAG, answers=[Answer(200, "An AsyncAPI 3.0 document.", dict)], auth=False
        )
        async def show_asyncapi(call: Call) -> Reply:  # noqa: ARG001 - every handler gets the call
            """Describe the WebSocket and its frames for programs."""
            return Reply(200, self.asyncapi, cache=b"no-cache")

        @endpoint(
            "GET", "/docs", tag=_TAG, answers=[Answer(200, "A page to read.", media_type="text/html")], auth=False
        )
        async def show_docs(call: Call) -> Reply:  # noqa: ARG001 - every handler gets the call
            """Show this API as a page for people; it loads nothing from other hosts."""
            policy = page.POLICY.encode()
            return Reply(
                200, self.docs, content_type=_HTML, cache=b"no-cache", headers=[(b"content-security-policy", policy)]
            )

        @endpoint("GET", "/", tag=_TAG, answers=[Answer(200, "The web page.", media_type="text/html")], auth=False)
        async def show_web_page(call: Call) -> Reply:
            """Serve the web page."""
            reply = self._file(self._web, "index.html", call)
            if reply is not None:
                return reply
            policy = page.POLICY.encode()
            return Reply(200, _WELCOME, content_type=_HTML, headers=[(b"content-security-policy", policy)])

        @endpoint(
            "GET",
            "/sdk/{file}",
            tag=_TAG,
            answers=[Answer(200, "A module.", media_type="text/javascript", headers={"ETag": "Of this version."})],
            errors=[NotFound],
            auth=False,
            spans=["file"],
        )
        async def sdk_file(call: Call) -> Reply:
            """Serve the JavaScript SDK; `/sdk/orbital.js` is its entry."""
            name = call.text("file")
            name = "index.js" if name == "orbital.js" else name
            reply = self._file(self._sdk, name, call)
            if reply is None:
                raise missing()
            return reply

        @endpoint(
            "GET",
            "/{file}",
            tag=_TAG,
            answers=[Answer(200, "A file.", media_type="text/html")],
            auth=False,
            always=True,
        )
        async def web_file(call: Call) -> Reply:
            """Serve a file of the web page."""
            path: str = call.scope["path"]
            reply = None if ENCODED_SLASH in path else self._file(self._web, path.lstrip("/"), call)
            if reply is None:
                raise missing()
            return reply

        self.endpoints: tuple[Endpoint, ...] = (show_openapi, show_asyncapi, show_docs, show_web_page, sdk_file)
        self.fallback: Endpoint = web_file

    def _file(self, files: Files, name: str, call: Call) -> Reply | None:
        """Answer a request with a file, marked with the edition that it belongs to."""
        return files.reply(
            name,
            if_none_match=call.header(b"if-none-match"),
            accept_encoding=call.header(b"accept-encoding"),
            edition=self._edition,
        )

    def describe(self, endpoints: Sequence[Endpoint], *, public_url: str | None = None) -> None:
        """
        Take what there is to describe. It is written when somebody first asks: a start need not wait for it.

        Args:
            endpoints: All of them.
            public_url: Where clients reach the server; None names the host that serves the document.
        """
        self._described = endpoints
        self._public_url = public_url or "/"

    @cached_property
    def openapi(self) -> bytes:
        """The OpenAPI document."""
        return msgspec.json.encode(describe(self._described, server=self._public_url))

    @cached_property
    def asyncapi(self) -> bytes:
        """The AsyncAPI document."""
        return msgspec.json.encode(asyncapi.describe())

    @cached_property
    def docs(self) -> bytes:
        """The page to read."""
        return page.render(describe(self._described)).encode()
