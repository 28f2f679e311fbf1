"""A headless Chromium, driven as a person would: the mouse moved, keys pressed, the page looked at."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 120.0  # that a page may take on a busy machine
SETTINGS = (
    "--headless=new",
    "--no-sandbox",  # root has none
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)


def find_browser():
    """The path of a browser, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def until(condition, what):
    """Wait for a true answer, and return it."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"waited {SECONDS:.0f} s in vain: {what}")


class Browser:
    """One page of one browser, by the Chrome DevTools Protocol."""

    def __init__(self, profile, size=(1280, 800)):
        self.sent, self.profile = 0, Path(profile)
        self.process = subprocess.Popen(
            [
                find_browser(),
                *SETTINGS,
                f"--user-data-dir={profile}",
                f"--window-size={size[0]},{size[1]}",
                "--remote-debugging-port=0",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = until(lambda: _port(self.profile), "the browser has started")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            page = next(p for p in json.load(answer) if p["type"] == "page")
        self.socket = connect(page["webSocketDebuggerUrl"], max_size=None, open_timeout=SECONDS)
        self.call("Page.enable")

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=SECONDS)

    def call(self, method, **settings):
        """What the browser answers to a command of the protocol."""
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": settings}))
        while True:
            answer = json.loads(self.socket.recv(timeout=SECONDS))
            if answer.get("id") == self.sent:  # else an event
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.until_true("document.readyState === 'complete'")

    def run(self, script):
        """The value of a script's last expression, JSON at most."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition, what):
        """Wait for a true answer, and return it; where it does not come, keep what is seen."""
        try:
            return until(condition, what)
        except AssertionError:
            (self.profile / "last.png").write_bytes(self.screenshot())
            raise AssertionError(f"in vain: {what}; see {self.profile}/last.png") from None

    def until_true(self, script):
        """Wait until a script is true."""
        self.until(lambda: self.run(script), script)

    def place(self, element):
        """The middle (x, y) [px] of the element that a script returns, scrolled into view."""
        return self.run(
            f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )

    def click(self, element):
        x, y = self.place(element)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y)

    def mouse(self, kind, x, y):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def press(self, key, code):
        """Press a key by its name and its Windows code."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self):
        """The page as it is seen, as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


def _port(profile):
    """Where the browser listens; it writes that into its profile."""
    file = profile / "DevToolsActivePort"
    return int(file.read_text().split()[0]) if file.is_file() and file.read_text() else None
