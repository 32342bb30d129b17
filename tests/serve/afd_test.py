#!/usr/bin/env python3
"""Attention here, FFN in two workers, one of them killed during 16 streams: every stream completes with the bytes of the undisturbed run, and /health,
/metrics and /state show the loss. afd_test.py TANDEM"""
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import metrics_test  # noqa: E402
from served import Server  # noqa: E402

TANDEM = sys.argv[1]
ASKS = [{"prompt": p, "max_tokens": 150, "seed": i, "temperature": 0.8, "ignore_eos": True} for i, p in enumerate(["Once upon a time", "One day", "There was a", "Question: What is 3 + 4?\nAnswer:"] * 4)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_worker(secret, experts):
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([TANDEM, "worker", "--listen", address, "--secret-file", secret, "--experts", experts, "--on-demand", "-t", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if not process.stdout.readline().startswith("ready"):
        raise RuntimeError("the worker did not start")
    return process, address


def run_streams(server, after_first=lambda: None):
    texts, first = [None] * len(ASKS), threading.Event()

    def ask(i):
        connection = server.connect(60)
        connection.request("POST", "/v1/completions", json.dumps({**ASKS[i], "stream": True}))
        text, done = "", False
        for line in connection.getresponse():
            if line == b"data: [DONE]\n":
                done = True
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                text += event["choices"][0]["text"] if "choices" in event else f"<{event}>"
                if len(text) > 40:
                    first.set()
        texts[i] = (text, done)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(ASKS))]
    for t in threads:
        t.start()
    first.wait(30)
    after_first()
    for t in threads:
        t.join()
    return texts


def main():
    with Server([TANDEM, "serve"]) as local:
        expected = run_streams(local)
    assert all(done and len(text) > 100 for text, done in expected), expected
    with tempfile.TemporaryDirectory() as folder:
        secret = os.path.join(folder, "secret")
        with open(os.open(secret, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
            f.write("a secret of this test only\n")
        workers = [start_worker(secret, "0-3"), start_worker(secret, "4-7")]
        try:
            with Server([TANDEM, "serve"], "--ffn", ",".join(a for _, a in workers), "--secret-file", secret, "-t", "1") as s:
                assert run_streams(s) == expected, "two workers, the same bytes"
                state = json.loads(s.get("/state")[1])
                assert [w["address"] for w in state["workers"]["workers"]] == [a for _, a in workers]
                print("ok   two workers give the bytes of one process", flush=True)
                texts = run_streams(s, workers[0][0].kill)
                assert texts == expected, [(a, b) for a, b in zip(expected, texts) if a != b][:1]
                print("ok   one was killed during 16 streams: the same bytes", flush=True)
                health = json.loads(s.get("/health")[1])
                assert health["status"] == "degraded" and workers[0][1] in health["reason"], health
                values = s.metrics()
                families = metrics_test.read(metrics_test.scrape(s))
                metrics_test.check_dashboard(families, True)
                metrics_test.check_document(families)
                assert values["tandem_degraded"] == 1 and values["tandem_workers_lost_total"] >= 1
                assert values[f'tandem_worker_up{{worker="{workers[0][1]}"}}'] == 0 and values[f'tandem_worker_up{{worker="{workers[1][1]}"}}'] == 1
                print("ok   /health and /metrics show it:", health["reason"], flush=True)
        finally:
            for process, _ in workers:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
