"""Workers, streams and single runs as child processes on loopback: what every process test of the corridor stands on. Standard library only."""
import ctypes
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(os.environ.get("TD_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
BINARY = os.environ.get("TD_BINARY", str(SOURCE / "build" / "tandem"))
STREAMS = os.environ.get("TD_STREAMS", str(pathlib.Path(BINARY).parent / "tests" / "afd" / "afd_streams"))
MODEL = os.environ.get("TD_MODEL", str(SOURCE / "models" / "nano"))


def die_with_parent():
    ctypes.CDLL("libc.so.6").prctl(1, signal.SIGKILL)


def free_port():
    """Below the ports that the kernel gives to who connects: one of those could be taken while a worker is away."""
    while True:
        with socket.socket() as s:
            try:
                port = random.randrange(12000, 32000)
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Room:
    """A folder with a secret, and the processes started in it; nothing survives the with-block."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.secret = os.path.join(self.folder.name, "key")
        with open(self.secret, "w") as f:
            f.write("a secret of this test: " + os.urandom(16).hex())
        os.chmod(self.secret, 0o600)
        self.children = []
        return self

    def __exit__(self, *unused):
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
                child.kill()
                child.wait()
        self.folder.cleanup()

    def start(self, command, **how):
        child = subprocess.Popen(command, preexec_fn=die_with_parent, cwd=SOURCE, **how)
        self.children.append(child)
        return child

    def worker(self, *options, port=None, model=MODEL, host="127.0.0.1", prefix=(), env=None, secret=None):
        return Worker(self, options, port or free_port(), model, host, prefix, env, secret or self.secret)

    def run(self, workers, *options, tokens=60, prompt="Once upon a time", timeout=60, model=MODEL, prefix=(), env=None):
        """stdout of one tandem run, as bytes; workers None: everything in one process."""
        command = [*prefix, BINARY, "run", model, "-q", "-p", prompt, "-n", str(tokens), "--temp", "0", "--ignore-eos", "-c", "1024"]
        if workers is not None:
            command += ["--ffn", ",".join(w.address for w in workers), "--secret-file", self.secret]
        return subprocess.run([*command, *options], capture_output=True, timeout=timeout, cwd=SOURCE, preexec_fn=die_with_parent, env={**os.environ, **(env or {})})

    def streams(self, workers, count=4, micro_batches=2, tokens=60, options=(), prefix=(), env=None, model=MODEL):
        return Streams(self, workers, count, micro_batches, tokens, options, prefix, env, model)

    def workers_verb(self, of, *options, prefix=()):
        return subprocess.run([*prefix, BINARY, "workers", "--of", of, "--secret-file", self.secret, *options], capture_output=True, text=True, timeout=20, cwd=SOURCE)


class Worker:
    def __init__(self, room, options, port, model, host, prefix, env, secret):
        self.room, self.options, self.port, self.model, self.host, self.prefix, self.env, self.secret = room, options, port, model, host, prefix, env, secret
        self.address = f"{host}:{port}"
        self.start()

    def start(self, model=None, wait=True):
        command = [*self.prefix, BINARY, "worker", model or self.model, "--listen", self.address, "--secret-file", self.secret, "-t", "1", *self.options]
        self.log = tempfile.TemporaryFile(dir=self.room.folder.name)
        self.process = self.room.start(command, stdout=subprocess.PIPE, stderr=self.log, env={**os.environ, **(self.env or {})})
        if wait:
            self.wait_ready()

    def wait_ready(self):
        line = self.process.stdout.readline()
        if not line.startswith(b"ready"):
            self.log.seek(0)
            raise RuntimeError(f"worker {self.address} did not start: {self.log.read().decode()}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def leave(self, timeout=15):
        self.process.terminate()
        return self.process.wait(timeout)


class Streams:
    def __init__(self, room, workers, count, micro_batches, tokens, options, prefix, env, model):
        self.control = f"127.0.0.1:{free_port()}"
        command = [*prefix, STREAMS, model, ",".join(w.address for w in workers), room.secret, str(count), str(micro_batches), str(tokens), "control=" + self.control, *options]
        self.log = tempfile.TemporaryFile(dir=room.folder.name)
        self.process = room.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env={**os.environ, **(env or {})})
        line = self.process.stdout.readline()
        if line != b"running\n":
            raise RuntimeError("the streams did not start: " + self.errors())

    def errors(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-4000:]

    def finish(self, timeout=120):
        """Lets open requests end; the closing counts. Raises unless nothing failed and nothing differed."""
        result, code = self.end(timeout)
        if code != 0:
            raise AssertionError(f"streams: exit {code}, {({k: v for k, v in result.items() if k != 'workers'})}\n{self.errors()}")
        return result

    def end(self, timeout=120):
        self.process.stdin.close()
        self.process.stdin = None
        out, _ = self.process.communicate(timeout=timeout)
        if not out:
            raise AssertionError(f"streams: exit {self.process.returncode} without a result\n{self.errors()}")
        return json.loads(out), self.process.returncode


def require(condition, sentence):
    if not condition:
        raise AssertionError(sentence)


def main(cases):
    """Runs the cases named on the command line, or all; one line each."""
    wanted = [c for c in cases if not sys.argv[1:] or c.__name__ in sys.argv[1:]]
    bad = 0
    for case in wanted:
        start = time.time()
        try:
            note = case()
        except Exception as error:  # a failed case must not hide the others
            bad += 1
            print(f"FAILED {case.__name__} ({time.time() - start:.1f} s): {type(error).__name__}: {error}", flush=True)
        else:
            print(f"ok {case.__name__} ({time.time() - start:.1f} s){': ' + note if note else ''}", flush=True)
    sys.exit(1 if bad or not wanted else 0)
