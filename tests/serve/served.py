"""A server as a child process, and plain HTTP to it: what every serve test stands on. Standard library only."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time


class Server:
    def __init__(self, command, *options, env=None, ready=True):
        self.process = subprocess.Popen([*command, "--port", "0", *options], stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self.log = []
        self.port = None
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"https?://\S+:(\d+)\s*$", line)
            if found:
                self.port = int(found.group(1))
                break
        if self.port is None:
            raise RuntimeError("the server did not start: " + "".join(self.log))
        self.drain = __import__("threading").Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.drain.start()
        if ready:
            self.wait_ready()

    def wait_ready(self, seconds=120):
        until = time.time() + seconds
        while time.time() < until:
            if self.get("/health")[0] == 200:
                return
            time.sleep(0.02)
        raise RuntimeError("the server was not ready in time")

    def connect(self, timeout=20):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=20):
        connection = self.connect(timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body).encode()
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, data, {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.request("GET", path, headers=headers)

    def post(self, path, body, headers=None, timeout=20):
        status, data, _ = self.request("POST", path, body, headers, timeout)
        return status, json.loads(data)

    def stream(self, path, body, headers=None, timeout=20):
        """The data of every SSE event, parsed; named events as (name, data)."""
        connection = self.connect(timeout)
        connection.request("POST", path, json.dumps({**body, "stream": True}).encode(), headers or {})
        answer = connection.getresponse()
        if answer.status != 200:
            raise AssertionError(f"status {answer.status}: {answer.read()[:300]}")
        events = []
        name = None
        for line in answer:
            line = line.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data = line[6:] if line == "data: [DONE]" else json.loads(line[6:])
                events.append((name, data) if name else data)
                name = None
        connection.close()
        return events

    def raw(self, data, timeout=10, shut=False):
        """Bytes as they are; returns all that comes back until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            got = b""
            try:
                s.sendall(data)
                if shut:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before it was all said
            try:
                while chunk := s.recv(65536):
                    got += chunk
            except (TimeoutError, ConnectionResetError):
                pass
            return got

    def metrics(self):
        values = {}
        for line in self.get("/metrics")[1].decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def stop(self, number=signal.SIGTERM, seconds=30):
        self.process.send_signal(number)
        code = self.process.wait(seconds)
        self.drain.join(5)
        return code

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        """Ends as on a second Ctrl-C; a server that hangs, fails or was caught by a sanitizer fails the test."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                time.sleep(0.02)
                if self.process.poll() is None:
                    self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "hung"
        self.drain.join(5)
        caught = [line for line in self.log if "Sanitizer" in line or "runtime error" in line]
        if kind is None and (code != 0 or caught):
            raise AssertionError(f"the server ended with {code}: " + "".join(caught or self.log[-3:]) + "".join(self.log[-60:] if caught else []))
