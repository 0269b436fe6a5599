"""A browser's console: what is pasted there is run as the console runs it, over the DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.support.process import Program


class Console:
    """
    The console of one page.

    `lines` holds what the page wrote with `console.log`, and the errors that nobody caught.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())
        self.lines: list[str] = []

    async def _read(self) -> None:
        async for text in self._socket:
            said = json.loads(text)
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            elif said["method"] == "Runtime.consoleAPICalled":
                self.lines.append(" ".join(str(arg.get("value", "")) for arg in said["params"]["args"]))
            elif said["method"] == "Runtime.exceptionThrown":
                self.lines.append("error: " + json.dumps(said["params"]["exceptionDetails"].get("exception", {})))

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something; return its answer."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        answer = await asyncio.wait_for(self._waiting[number], 60)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def paste(self, code: str) -> Any:
        """Run a block as the console does, with `await` and declarations that last; return its value."""
        answer = await self.ask(
            "Runtime.evaluate", expression=code, replMode=True, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, code: str, *, deadline_s: float = 120) -> Any:
        """Return the first value of `code` that is true."""
        async with asyncio.timeout(deadline_s):
            while not (value := await self.paste(code)):
                await asyncio.sleep(0.05)  # a page has no way to call us
        return value

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._reader.cancel()
        await self._socket.close()


@asynccontextmanager
async def open_page(chromium: str, url: str, profile: Path) -> AsyncIterator[Console]:
    """Open a page in a browser of its own, and its console."""
    browser = Program(
        [
            chromium,
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "--no-first-run",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "about:blank",
        ]
    )
    try:
        found = await asyncio.to_thread(
            browser.wait_for, r"DevTools listening on ws://(?P<place>[^/]+)/", deadline_s=60
        )
        async with httpx.AsyncClient(trust_env=False) as http:
            pages = (await http.get(f"http://{found['place']}/json/list")).json()
        [place] = [page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"][:1]
        async with connect(place, max_size=None, proxy=None) as socket, Console(socket) as console:
            await console.ask("Page.enable")
            await console.ask("Runtime.enable")
            await console.ask("Page.navigate", url=url)
            await console.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")
            yield console
    finally:
        browser.kill()
