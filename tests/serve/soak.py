#!/usr/bin/env python3
"""Everything at once for as long as asked: streams and whole answers in every shape, clients that leave, read slowly or send half, bad requests and damaged HTTP, idle connections. Nothing may hang
or answer 500, the same request gives the same bytes all the way, and at the end nothing runs, nothing is held and memory stands still.

    soak.py COMMAND [--seconds 20] [--seed N] [--flat]        COMMAND: serve_fake, or tandem (then the model that ships answers)

--flat: every 10 s all clients pause until nothing runs, and what the server's memory is then may not grow: its median in the last third may exceed that of the middle third by 1 % and 1 MB (not under
AddressSanitizer, which keeps what was freed). Under load memory follows how many grammars run at once, which is printed beside it. Sanitizers that speak fail it (served.py)."""
import argparse
import json
import pathlib
import random
import socket
import statistics
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from served import Server  # noqa: E402

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}}}]
SAID = 'SAY:Well <think>hm <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call> é日|'
FAIR = [("/v1/chat/completions", {"messages": [{"role": "user", "content": SAID}], "max_tokens": 40, "seed": 1}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": SAID}], "max_tokens": 60, "seed": 2, "tools": TOOLS, "n": 2, "logprobs": True, "top_logprobs": 3}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 60, "seed": 3, "tools": TOOLS, "tool_choice": "required"}),
        ("/v1/completions", {"prompt": ["Once upon", [5, 6, 7]], "max_tokens": 30, "seed": 4, "logprobs": 2, "echo": True}),
        ("/v1/completions", {"prompt": "One day", "max_tokens": 30, "seed": 5, "stop": ["e", "zz"]}),
        ("/v1/responses", {"input": SAID, "max_output_tokens": 50, "seed": 6}),
        ("/v1/messages", {"messages": [{"role": "user", "content": SAID}], "max_tokens": 50, "temperature": 0}),
        ("/v1/embeddings", {"input": ["one", "two"]}), ("/tokenize", {"content": "some text", "with_pieces": True}), ("/apply-template", {"messages": [{"role": "user", "content": "x"}]})]

PAUSES = 10.0  # seconds between them


class Load:
    def __init__(self, server, seed, fake=True):
        self.fake, self.server, self.seed, self.until, self.counts, self.wrong, self.known, self.lock = fake, server, seed, 0.0, {}, [], {}, threading.Lock()
        self.gate, self.resting = threading.Event(), 0
        self.gate.set()

    def fair(self, dice):
        number = dice.randrange(len(FAIR))
        path, body = FAIR[number]
        status, data, _ = self.server.request("POST", path, body, timeout=120)
        if status == 429:
            return
        assert status == 200, (status, data[:300])
        answer = json.loads(data)
        said = json.dumps([steady(answer.get(k)) for k in ("choices", "content", "output", "data", "tokens", "prompt")])
        with self.lock:
            assert self.known.setdefault(number, said) == said, f"{path}: other bytes than before: {self.known[number][:300]} and {said[:300]}"

    def streamed(self, dice):
        path, body = FAIR[dice.randrange(7)]
        events = self.server.stream(path, {**body, "stream": True}, timeout=120)
        assert events, f"{path}: a stream closed before its first event"
        last = events[-1]
        assert last == "[DONE]" or (isinstance(last, tuple) and last[0] in ("response.completed", "response.incomplete", "message_stop")) or "error" in json.dumps(last), last

    def leaver(self, dice):
        connection = self.server.connect(60)
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "x", "max_tokens": 1500, "ignore_eos": True, "stream": True}))
        answer = connection.getresponse()
        answer.read1(dice.randrange(1, 3000))
        connection.close()

    def slow(self, dice):
        connection = self.server.connect(60)
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "x", "max_tokens": 300, "ignore_eos": True, "stream": True, "logprobs": 5}))
        answer = connection.getresponse()
        if answer.status == 200:
            for _ in range(5):
                time.sleep(dice.uniform(0, 0.2))
                answer.read1(2000)
            assert answer.read().endswith(b"data: [DONE]\n\n")
        connection.close()

    def bad(self, dice):
        cases = json.loads(dice.choice(sorted((HERE / "bad").glob("[cmr]*.json"))).read_text())
        case = dice.choice([c for c in cases if "body" in c])
        status = self.server.request("POST", case["path"], case["body"])[0]
        assert 400 <= status < 500 or (status == 200 and not self.fake), (status, case)  # some are bad for the fake model only: its vocabulary, its template

    def noise(self, dice):
        """A fair request with bytes changed, lost, doubled, and perhaps cut; several in a row on one connection."""
        raw = b""
        for _ in range(dice.randrange(1, 4)):
            path, body = dice.choice(FAIR)
            data = json.dumps(body).encode()
            head = dice.choice([b"Content-Length: %d\r\n" % len(data), b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(data)])
            if head.startswith(b"Transfer"):
                data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
            raw += b"POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n%s" % (path.encode(), head, data)
        raw = bytearray(raw)
        for _ in range(dice.randrange(6)):
            at = dice.randrange(len(raw))
            what = dice.randrange(4)
            if what == 0:
                raw[at] = dice.randrange(256)
            elif what == 1:
                del raw[at:at + dice.randrange(1, 20)]
            elif what == 2:
                raw[at:at] = raw[at:at + dice.randrange(1, 200)]
            else:
                raw[at:at] = dice.choice([b"\r\n", b"\0", b"\r\n\r\n", b": ", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b"\xff\xfe", b"{" * 300])
        if dice.random() < 0.3:
            raw = raw[:dice.randrange(1, len(raw))]
        got = self.server.raw(bytes(raw), timeout=2, shut=dice.random() < 0.7)
        assert b"HTTP/1.1 500" not in got, (bytes(raw), got)

    def sight(self, dice):
        path = dice.choice(["/health", "/metrics", "/state", "/slots", "/props", "/v1/models", "/", "/openapi.json"])
        status, data, _ = self.server.get(path)
        assert status == 200 and data, (path, status)

    def run(self, number):
        dice = random.Random(self.seed * 1000 + number)
        kinds = [self.fair] * 5 + [self.streamed] * 4 + [self.leaver] * 2 + [self.slow, self.bad, self.noise, self.noise, self.sight]
        while time.time() < self.until and not self.wrong:
            if not self.gate.is_set():
                with self.lock:
                    self.resting += 1
                self.gate.wait()
                with self.lock:
                    self.resting -= 1
            kind = dice.choice(kinds)
            try:
                kind(dice)
                with self.lock:
                    self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1
            except Exception as error:  # noqa: BLE001: whatever it is, it is told
                self.wrong.append(f"{kind.__name__}: {error!r}")


def steady(value):
    """Without what changes from answer to answer: ids."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if k not in ("id", "call_id")}
    return [steady(v) for v in value] if isinstance(value, list) else value


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def at_rest(server):
    """The server's numbers once nothing runs, waits or holds pages."""
    until = time.time() + 20
    while True:
        values = server.metrics()
        if not values["tandem_requests_running"] and not values["tandem_requests_waiting"] and not values["tandem_kv_pages_used"]:
            return values
        assert time.time() < until, {k: v for k, v in values.items() if "requests_" in k or "kv_" in k}
        time.sleep(0.1)


def pause(load, threads):
    """Memory of the server while its clients rest, in KiB."""
    load.gate.clear()
    while load.resting < sum(t.is_alive() for t in threads) and not load.wrong:
        time.sleep(0.02)
    at_rest(load.server)
    time.sleep(0.3)  # what the last answer held is freed when its connection's thread comes round
    memory = resident_kb(load.server.process.pid)
    load.gate.set()
    return memory


def later(memory):
    """Medians of the middle and the last third."""
    third = len(memory) // 3
    return statistics.median(memory[third:2 * third]), statistics.median(memory[2 * third:])


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("command")
    ask.add_argument("--seconds", type=float, default=20)
    ask.add_argument("--seed", type=int, default=random.randrange(1 << 20))
    ask.add_argument("--flat", action="store_true")
    o = ask.parse_args()
    print(f"seed {o.seed}, {o.seconds:.0f} s", flush=True)
    fake = pathlib.Path(o.command).name != "tandem"
    # Pages of the KV cache are touched for the first time during half a minute or more; with few of them memory stands still after seconds.
    command = [o.command, "fake"] if fake else [o.command, "serve", "--kv-tokens", "8192"]
    with Server(command, "--quiet", "--idle", "3", env={"FAKE_STEP_US": "100"}) as s:
        load = Load(s, o.seed, fake)
        idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(50)]
        load.until = time.time() + o.seconds
        threads = [threading.Thread(target=load.run, args=(i,)) for i in range(12)]
        for t in threads:
            t.start()
        memory, resting, due = [], [], time.time() + PAUSES
        while any(t.is_alive() for t in threads):
            memory.append(resident_kb(s.process.pid))
            time.sleep(0.25)
            if o.flat and time.time() > due:
                resting.append(pause(load, threads))
                due = time.time() + PAUSES
        for c in idle:
            c.close()
        assert not load.wrong, load.wrong[0]
        values = at_rest(s)
        assert not values.get('tandem_http_responses_total{code="500"}') and all(load.counts.get(k) for k in ("fair", "streamed", "leaver", "noise")), load.counts
        middle, last = later(memory)
        print(f"ok   {sum(load.counts.values())} requests {load.counts}; {values['tandem_generated_tokens_total']:.0f} tokens; memory {memory[0]} KiB at start, {middle:.0f} in the middle third, {last:.0f} in the last (medians), at most {max(memory)}", flush=True)
        if o.flat:
            middle, last = later(resting)
            print(f"at rest {len(resting)} times: {min(resting)} to {max(resting)} KiB, {middle:.0f} in the middle third, {last:.0f} in the last (medians)", flush=True)
            assert last <= middle * 1.01 + 1024, f"memory grows: {middle} KiB, then {last} KiB at rest"


if __name__ == "__main__":
    main()
