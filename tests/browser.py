"""A real browser, without a window, that does to a page what a person does: the DevTools protocol over two pipes."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess

import pytest

NAMES = "chromium", "chromium-browser", "google-chrome"
OPTIONS = [
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
ARROWS = {"ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"}


def find_browser() -> str:
    """The program; where there is none, the test is left out."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is here to try the page out (Debian and Ubuntu: apt-get install chromium)")
    return found


@contextlib.contextmanager
def open_page(path, profile):
    """A `Page` of this HTML file, in a browser of its own, which keeps what it needs in the folder `profile`."""
    program = find_browser()
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    given = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, answers)]  # not 3 or 4, which bash makes of them
    script = f'exec "$0" "$@" 3<&{given[0]} 4>&{given[1]}'
    command = ["bash", "-c", script, program, *OPTIONS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, pass_fds=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for end in (commands, answers, *given):
        os.close(end)
    try:
        page = Page(to_browser, from_browser, path.resolve().as_uri())
        yield page
        page.send("Browser.close")
        process.wait(timeout=10)
    finally:
        process.kill()
        process.wait()
        os.close(to_browser)
        os.close(from_browser)


class Page:
    """A page that is open. What goes wrong on it is in `errors`, what it asks for in `requests`."""

    def __init__(self, to_browser: int, from_browser: int, url: str):
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._pipes, self._received, self._number, self._session = (to_browser, from_browser), b"", 0, {}
        self._has_loaded = False
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.send(f"{domain}.enable")
        self.look(width=1100)
        self._has_loaded = False
        self.send("Page.navigate", url=url)
        while not self._has_loaded:
            self._hear(self._receive())

    def send(self, method: str, **params):
        """A command of the protocol, and what the browser answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._pipes[0], json.dumps(message).encode() + b"\0")  # a pipe in blocking mode takes all of it
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._hear(answer)

    def _receive(self):
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._pipes[1]], [], [], 60)
            part = os.read(self._pipes[1], 1 << 20) if ready else b""
            assert part, "the browser does not answer" if not ready else "the browser has ended"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)

    def _hear(self, event):
        params = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._has_loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", "an exception"))
            case "Runtime.consoleAPICalled":
                self.errors.append(f"console.{params['type']}: {params['args']}")
            case "Log.entryAdded":
                self.errors.append(params["entry"]["text"])

    def run(self, script: str):
        """The value of an expression, or of the promise that it gives; an exception fails the test."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def call(self, function: str, *arguments):
        """What a function of the page's scripts, or one written here, gives for plain values."""
        return self.run(f"({function})(...{json.dumps(arguments)})")

    def text(self, selector: str) -> str:
        """What stands there, once the next frames are drawn."""
        frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        return self.run(f"{frame}.then(() => document.querySelector({json.dumps(selector)}).innerText)")

    def click(self, selector: str):
        """Clicks as a script does, wherever the element is."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def pull(self, slider: str, value: float):
        """Sets a slider, by its id, and says so as a hand does."""
        self.call(
            """(id, value) => { const slider = document.getElementById(id);
               slider.value = value; slider.dispatchEvent(new Event("input")); }""",
            slider,
            value,
        )

    def drag(self, selector: str, places):
        """Presses the mouse at the first of these places, from 0 to 1 on the element, and moves it over the others."""
        script = """(selector) => { const element = document.querySelector(selector);
            element.scrollIntoView({ block: "center", behavior: "instant" });
            return element.getBoundingClientRect().toJSON(); }"""
        left, top, width, height = map(self.call(script, selector).get, ("x", "y", "width", "height"))
        points = [{"x": left + width * x, "y": top + height * y, "button": "left"} for x, y in places]
        self.send("Input.dispatchMouseEvent", type="mousePressed", clickCount=1, **points[0])
        for point in points[1:]:
            self.send("Input.dispatchMouseEvent", type="mouseMoved", buttons=1, **point)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", clickCount=1, **points[-1])

    def press(self, *keys: str):
        """Keys, one after the other, on what has the focus."""
        for key in keys:
            for kind in ("keyDown", "keyUp"):
                text = {"text": key} if key not in ARROWS and len(key) == 1 and kind == "keyDown" else {}
                self.send("Input.dispatchKeyEvent", type=kind, key=key, **text)

    def choose_files(self, selector: str, *paths):
        """Chooses files as in the browser's dialogue."""
        found = self.send("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.send("DOM.setFileInputFiles", files=[str(path) for path in paths], objectId=found["result"]["objectId"])

    def look(self, *, width: int, height: int = 900, dark: bool = False):
        """The window's size and the colours that its owner prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[colours])

    def screenshot(self, path):
        """The whole page as a PNG."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
