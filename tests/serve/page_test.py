#!/usr/bin/env python3
"""The web page in headless Chromium: chat, stop, settings, machine picture, phone width, keyboard, names for screen readers. page_test.py SERVE_FAKE [SCREENSHOT.png]
Talks to Chromium's DevTools over a small WebSocket of its own; skipped, and says so, without Chromium."""
import base64
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from served import Server  # noqa: E402


class Page:
    def __init__(self, folder):
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if not chromium:
            print("skipped: no chromium; apt-get install chromium")
            sys.exit(77)
        self.process = subprocess.Popen([chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
                                        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        port_file = pathlib.Path(folder) / "DevToolsActivePort"
        until = time.time() + 60
        while not (port_file.exists() and port_file.read_text().count("\n")) and time.time() < until:
            time.sleep(0.1)
        self.port = int(port_file.read_text().splitlines()[0])
        target = next(t for t in json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/json")) if t["type"] == "page")
        path = target["webSocketDebuggerUrl"].split(str(self.port), 1)[1]
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self.rest += self.socket.recv(4096)
        self.rest = self.rest.split(b"\r\n\r\n", 1)[1]
        self.number = 0
        self.errors = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")

    def take(self, count):
        while len(self.rest) < count:
            chunk = self.socket.recv(1 << 16)
            if not chunk:
                raise RuntimeError("Chromium closed the connection")
            self.rest += chunk
        data, self.rest = self.rest[:count], self.rest[count:]
        return data

    def receive(self):
        message = b""
        while True:
            first, second = self.take(2)
            length = second & 127
            if length == 126:
                length = struct.unpack(">H", self.take(2))[0]
            elif length == 127:
                length = struct.unpack(">Q", self.take(8))[0]
            message += self.take(length)
            if first & 128:
                return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        data = json.dumps({"id": self.number, "method": method, "params": params}).encode()
        mask = os.urandom(4)
        size = struct.pack(">B", 128 | len(data)) if len(data) < 126 else struct.pack(">BH", 254, len(data)) if len(data) < 65536 else struct.pack(">BQ", 255, len(data))
        self.socket.sendall(b"\x81" + size + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(data)))
        while True:
            answer = self.receive()
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(answer["params"]["exceptionDetails"].get("exception", {}).get("description", "exception"))
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.errors.append(answer["params"]["entry"]["text"])
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def js(self, code):
        result = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def until(self, code, seconds=15):
        end = time.time() + seconds
        while time.time() < end:
            if self.js(code):
                return
            time.sleep(0.05)
        raise AssertionError(f"not true within {seconds} s: {code}; the page says: {self.js('document.body.innerText')[:600]}")

    def key(self, name, code, text=""):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **({"text": text} if text and kind == "keyDown" else {}))

    def say(self, text):
        self.call("Input.insertText", text=text)
        self.key("Enter", 13, "\r")

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def shot(self, path):
        pathlib.Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        self.process.kill()
        self.process.wait()


LAST = "[...document.querySelectorAll('.turn.assistant')].at(-1)"


def chat(page):
    page.until("document.activeElement.id === 'say'")
    page.say("SAY:<b>Hello</b> wörld \U0001F600|")
    page.until(f"{LAST}?.querySelector('span').textContent === '<b>Hello</b> wörld \U0001F600'")
    page.until(f"{LAST}.querySelector('small').textContent.includes('tokens/s')")
    assert page.js("document.querySelectorAll('.turn b').length") == 0, "text is never HTML"
    page.say("SAY:second answer|")
    page.until(f"{LAST}.querySelector('span').textContent === 'second answer'")
    assert page.js("messages.length") == 4


def stop_and_faults(page, server):
    page.say("NEVER")
    page.until("!document.getElementById('stop').disabled")
    page.key("Escape", 27)
    page.until(f"{LAST}.querySelector('small').textContent === 'stopped'")
    end = time.time() + 3
    while server.metrics()["tandem_requests_running"] and time.time() < end:
        time.sleep(0.05)
    assert server.metrics()["tandem_requests_running"] == 0, "stop ends the request on the server"
    page.js("messages = []")
    page.say("FAULT")
    page.until(f"{LAST}.classList.contains('fault') && {LAST}.textContent.includes('fake:1')")
    page.js("document.getElementById('fresh').click()")
    assert page.js("messages.length") == 0 and page.js("document.querySelectorAll('.turn').length") == 0


def settings(page, server):
    page.js("document.querySelector('#settings').open = true; for (const [k, v] of [['system', 'be brief'], ['max_tokens', 4], ['seed', 7]]) { document.getElementById(k).value = v; document.getElementById(k).dispatchEvent(new Event('change')); }")
    page.js("document.getElementById('say').focus()")
    page.say("SAY:abcdefgh|")
    page.until(f"{LAST}?.querySelector('span').textContent === 'abcd'")
    sent = json.loads(page.js("body()"))
    assert sent["messages"][0] == {"role": "system", "content": "be brief"} and sent["seed"] == 7 and sent["max_tokens"] == 4
    page.call("Page.reload")
    page.until("document.readyState === 'complete' && document.getElementById('seed').value === '7'")


def machine(page):
    page.until("document.querySelectorAll('#house rect').length >= 2 && document.getElementById('house').textContent.includes('fake:1')")
    page.until("document.getElementById('health').textContent === 'ok'")
    page.until("document.querySelectorAll('#slots i').length === 64")
    assert page.js("document.getElementById('kv-text').textContent.includes('of 4096 tokens')")


def phone(page):
    page.size(390, 780)
    time.sleep(0.3)
    assert page.js("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out at a phone's width"
    assert page.js("getComputedStyle(document.getElementById('machine')).display") == "none"
    page.js("document.getElementById('see-machine').click()")
    assert page.js("getComputedStyle(document.getElementById('machine')).display") != "none" and page.js("document.documentElement.scrollWidth <= innerWidth")
    page.js("document.getElementById('see-chat').click()")
    page.size(1280, 800)


def keyboard_and_names(page):
    page.js("document.body.focus(); document.activeElement.blur()")
    seen = []
    for _ in range(12):
        page.key("Tab", 9)
        seen.append(page.js("document.activeElement.id || document.activeElement.className || document.activeElement.tagName"))
    assert {"log", "say", "send", "fresh"} <= set(seen), seen
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    nameless = [n["role"]["value"] for n in nodes if not n.get("ignored") and n["role"]["value"] in ("button", "textbox", "spinbutton", "image", "link") and not n.get("name", {}).get("value")]
    assert not nameless, nameless


def main():
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Server([sys.argv[1], "fake"]) as server:
        page = Page(folder)
        try:
            page.size(1280, 800)
            page.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
            page.until("document.readyState === 'complete' && typeof body === 'function'")
            for name, run in (("chat", lambda: chat(page)), ("stop_and_faults", lambda: stop_and_faults(page, server)), ("settings", lambda: settings(page, server)), ("machine", lambda: machine(page)),
                              ("phone", lambda: phone(page)), ("keyboard_and_names", lambda: keyboard_and_names(page))):
                run()
                print("ok  ", name, flush=True)
            unexpected = [e for e in page.errors if "503" not in e]
            assert not unexpected, unexpected
            if len(sys.argv) > 2:
                page.shot(sys.argv[2])
        finally:
            page.close()


if __name__ == "__main__":
    main()
