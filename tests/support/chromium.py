"""Chromium without a window, steered by its own protocol over a socket: no more than the dashboard's test needs."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.aio import until

BINARY: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "about:blank",
)


class Tab:
    """One page; `console` has each line that it wrote, and each thing that the browser said of it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.console: list[str] = []
        self.asked: list[str] = []

    async def listen(self) -> None:
        """Take what the browser says, until the socket is closed."""
        async for message in self._socket:
            said = message.json()
            if (future := self._answers.pop(said.get("id", 0), None)) is not None and not future.done():
                future.set_result(said)
            params = said.get("params", {})
            match said.get("method"):
                case "Runtime.consoleAPICalled":
                    self.console.append(str([arg.get("value") for arg in params["args"]]))
                case "Runtime.exceptionThrown":
                    self.console.append(str(params["exceptionDetails"]))
                case "Log.entryAdded":
                    self.console.append(params["entry"]["text"])
                case "Network.requestWillBeSent":
                    self.asked.append(params["request"]["url"])

    async def call(self, method: str, **params: Any) -> Any:
        """Have the browser do something, and return its answer."""
        number = next(self._numbers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        said = await asyncio.wait_for(answer, 20)
        assert "error" not in said, (method, said)
        return said["result"]

    async def run(self, script: str) -> Any:
        """Evaluate an expression in the page, and return its value."""
        params = {"expression": script, "returnByValue": True, "awaitPromise": True}
        said = await self.call("Runtime.evaluate", **params)
        assert "exceptionDetails" not in said, (script, said)
        return said["result"].get("value")

    async def until(self, script: str, limit_s: float = 40) -> Any:
        """Wait until an expression is true in the page, and return its value."""
        value: Any = None

        async def is_true() -> bool:
            nonlocal value
            value = await self.run(script)
            return bool(value)

        try:
            await until(is_true, script, limit_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; the page says: {await self.run('document.body.innerText')}") from error
        return value

    async def size(self, width: int, height: int, scale: float = 1) -> None:
        """Make the page as large as a screen."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    async def scheme(self, scheme: str) -> None:
        """Prefer `dark` or `light`."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **_CODES.get(key, {}))

    async def write(self, text: str) -> None:
        """Put a text where the focus is, as a person would who types it."""
        await self.call("Input.insertText", text=text)

    async def picture(self, kind: str, **options: Any) -> bytes:
        """Return what the page looks like, as a file of this kind: png, webp."""
        shot = await self.call("Page.captureScreenshot", format=kind, **options)
        return base64.b64decode(shot["data"])


_CODES: Final[Mapping[str, Mapping[str, Any]]] = {
    "Tab": {"windowsVirtualKeyCode": 9},
    "Escape": {"windowsVirtualKeyCode": 27},
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
    "ArrowRight": {"windowsVirtualKeyCode": 39},
}


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Tab]:
    """Start Chromium with a new profile in this folder, and give its first page."""
    assert BINARY is not None
    process = await asyncio.create_subprocess_exec(
        BINARY,
        *_FLAGS,
        f"--user-data-dir={folder}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port = await _port(folder / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                pages = [target for target in await answer.json() if target["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                listening = asyncio.create_task(tab.listen())
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await tab.call(f"{domain}.enable")
                yield tab
                listening.cancel()
    finally:
        process.terminate()
        await process.wait()


async def _port(file: Path) -> int:
    def said() -> str:
        return file.read_text() if file.exists() else ""

    async def is_there() -> bool:
        return bool(said().strip())

    await until(is_there, "Chromium says its port")
    return int(said().split()[0])
