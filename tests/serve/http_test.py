#!/usr/bin/env python3
"""The server over the fake engine: shapes, streams, queueing, lost clients, shutdown. http_test.py SERVE_FAKE [TEST...] [--write]"""
import json
import pathlib
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from suite import CHAT, FAKE, Server, eventually, main, say, test  # noqa: E402


@test
def chat_whole_and_streamed_are_the_same():
    with Server(FAKE) as s:
        text = "héllo wörld 日本 \U0001F600"
        status, whole = s.post(CHAT, say(text))
        assert status == 200 and whole["object"] == "chat.completion", whole
        assert whole["choices"][0]["message"] == {"role": "assistant", "content": text, "refusal": None}
        assert whole["choices"][0]["finish_reason"] == "stop"
        usage = whole["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] and usage["completion_tokens"] == len(text.encode()) + 1
        events = s.stream(CHAT, say(text, stream_options={"include_usage": True}))
        assert events[-1] == "[DONE]" and events[-2]["choices"] == [] and events[-2]["usage"] == usage
        assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-2]) == text
        assert [e["choices"][0]["finish_reason"] for e in events[:-2]] == [None] * (len(events) - 3) + ["stop"]
        assert "timings" in events[-3] and events[-3]["timings"]["predicted_n"] == usage["completion_tokens"]
        assert len({e["id"] for e in events[:-1]}) == 1


@test
def same_seed_same_text_and_n():
    with Server(FAKE) as s:
        one = s.post("/v1/completions", {"prompt": "x", "seed": 5, "n": 3, "max_tokens": 30})[1]
        two = s.post("/v1/completions", {"prompt": "x", "seed": 5, "n": 3, "max_tokens": 30})[1]
        texts = [c["text"] for c in one["choices"]]
        assert texts == [c["text"] for c in two["choices"]] and len(set(texts)) == 3
        assert [c["index"] for c in one["choices"]] == [0, 1, 2]
        events = s.stream("/v1/completions", {"prompt": "x", "seed": 5, "n": 3, "max_tokens": 30})
        streamed = ["".join(e["choices"][0]["text"] for e in events[:-1] if e["choices"][0]["index"] == i) for i in range(3)]
        assert streamed == texts
        a, b = (s.post("/v1/completions", {"prompt": "x", "max_tokens": 30})[1]["choices"][0]["text"] for _ in range(2))
        assert a != b, "no seed: random"


@test
def completions_echo_logprobs_and_batches():
    with Server(FAKE) as s:
        _, r = s.post("/v1/completions", {"prompt": ["ab", [99, 100]], "max_tokens": 4, "echo": True, "logprobs": 2, "seed": 1, "return_tokens": True})
        assert [c["text"][:2] for c in r["choices"]] == ["ab", "ab"] and len(r["choices"][1]["text"]) == 6
        lp = r["choices"][1]["logprobs"]
        assert len({len(lp[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}) == 1
        assert lp["token_logprobs"][0] is None and len(lp["top_logprobs"][2]) == 2 and len(r["choices"][0]["tokens"]) == 4
        _, r = s.post("/v1/completions", {"prompt": "abc", "max_tokens": 0, "echo": True})
        assert r["choices"][0]["text"] == "abc" and r["usage"]["completion_tokens"] == 0
        _, r = s.post("/v1/completions", {"prompt": "SAY:one two three|", "stop": [" three"], "max_tokens": 50})
        assert r["choices"][0]["finish_reason"] == "stop"


@test
def text_offsets_are_characters_of_the_text():
    """A token that ends inside a character (here every byte is one) counts it once, where it begins; what never becomes a character counts as it is shown."""
    with Server(FAKE) as s:
        for text in ("ab", "na\u00efve \u65e5\u672c \U0001F600!", "\U0001F600"):
            for echo in (False, True):
                choice = s.post("/v1/completions", {"prompt": f"\u00e9SAY:{text}|", "max_tokens": 60, "logprobs": 1, "echo": echo})[1]["choices"][0]
                wanted, at = [], len(choice["text"]) - len(text)
                for character in text:
                    wanted += [at] + [at + 1] * (len(character.encode()) - 1)
                    at += 1
                found = choice["logprobs"]["text_offset"]
                found = found[len(found) - len(text.encode()) - 1:]
                assert choice["text"].endswith(text) and found == [*wanted, at], (text, echo, found, wanted)
                assert echo or wanted[0] == 0
        bad = [0xFF + 2, 0xE2 + 2, 0x82 + 2, ord("a") + 2]
        choice = s.post("/v1/completions", {"prompt": [*bad, *(b + 2 for b in b"SAY:xy|")], "max_tokens": 9, "logprobs": 0, "echo": True})[1]["choices"][0]
        assert choice["logprobs"]["text_offset"][-3:] == [len(choice["text"]) - 2, len(choice["text"]) - 1, len(choice["text"])], choice


@test
def the_chosen_token_is_among_the_best():
    with Server(FAKE) as s:
        for count, keys in ((0, {"z"}), (2, {"a", "b", "z"})):
            lp = s.post("/v1/completions", {"prompt": "UNLIKELY SAY:zz|", "max_tokens": 9, "logprobs": count})[1]["choices"][0]["logprobs"]
            assert set(lp["top_logprobs"][0]) == keys and lp["top_logprobs"][0]["z"] == lp["token_logprobs"][0], lp
        lp = s.post("/v1/completions", {"prompt": "SAY:zz|", "max_tokens": 9, "logprobs": 2})[1]["choices"][0]["logprobs"]
        assert len(lp["top_logprobs"][0]) == 2, lp
        chat = s.post(CHAT, {"messages": [{"role": "user", "content": "UNLIKELY SAY:zz|"}], "logprobs": True, "top_logprobs": 2})[1]["choices"][0]["logprobs"]["content"]
        assert [t["token"] for t in chat[0]["top_logprobs"]] == ["a", "b"], "chat has as many as were asked for"


@test
def top_p_is_echoed():
    with Server(FAKE) as s:
        for given, told in (({}, 1), ({"top_p": None}, 1), ({"top_p": 0}, 0), ({"top_p": 0.5}, 0.5)):
            assert s.post("/v1/responses", {"input": "SAY:x|", **given})[1]["top_p"] == told, given


@test
def logprobs_of_chat():
    with Server(FAKE) as s:
        _, r = s.post(CHAT, say("ab", logprobs=True, top_logprobs=3))
        content = r["choices"][0]["logprobs"]["content"]
        assert [t["token"] for t in content] == ["a", "b", "<eos>"] and len(content[0]["top_logprobs"]) == 3 and content[0]["bytes"] == [97]
        events = s.stream(CHAT, say("é", logprobs=True))
        tokens = [t for e in events[:-1] for t in (e["choices"][0]["logprobs"] or {"content": []})["content"]]
        assert len(tokens) == 3 and tokens[0]["bytes"] is None, "half a character has no text of its own"


@test
def tokens_and_templates():
    with Server(FAKE) as s:
        assert s.post("/tokenize", {"content": "ab", "add_special": True})[1] == {"tokens": [1, 99, 100]}
        assert s.post("/tokenize", {"content": "a", "with_pieces": True})[1] == {"tokens": [{"id": 99, "piece": "a"}]}
        assert s.post("/detokenize", {"tokens": [99, 100]})[1] == {"content": "ab"}
        assert s.post("/apply-template", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]})[1] == {"prompt": "<user>ab\n<assistant>"}


@test
def loading_then_ready():
    with Server(FAKE, env={"FAKE_LOAD_MS": "600"}, ready=False) as s:
        status, data, headers = s.get("/health")
        assert status == 503 and json.loads(data)["status"] == "loading model" and "retry-after" in headers
        assert s.post(CHAT, say("x"))[0] == 503 and s.get("/metrics")[0] == 200
        s.wait_ready()
        assert s.post(CHAT, say("x"))[0] == 200
    with Server(FAKE, env={"FAKE_DEGRADED": "worker b:2 is gone"}) as s:
        assert json.loads(s.get("/health")[1]) == {"status": "degraded", "reason": "worker b:2 is gone"}


@test
def full_queue_is_429():
    with Server(FAKE, "--parallel", "2", "--queue", "3") as s:
        streams = []
        for _ in range(5):
            c = s.connect()
            c.request("POST", CHAT, json.dumps({**say("x"), "messages": [{"role": "user", "content": "NEVER"}], "stream": True}))
            streams.append(c)
        assert eventually(lambda: s.metrics()["tandem_requests_waiting"] == 3)
        status, data, headers = s.request("POST", CHAT, say("x"))
        assert status == 429 and headers["retry-after"] == "1" and json.loads(data)["error"]["type"] == "rate_limit_error", data
        for c in streams:
            c.close()
        assert eventually(lambda: s.post(CHAT, say("x"))[0] == 200), "places come back when clients leave"
        assert s.metrics()["tandem_queue_refused_total"] >= 1


@test
def disconnect_cancels():
    for stream in (True, False):
        with Server(FAKE, env={"FAKE_STEP_US": "2000"}) as s:
            c = s.connect()
            c.request("POST", CHAT, json.dumps({"messages": [{"role": "user", "content": "NEVER"}], "stream": stream}))
            assert eventually(lambda: s.metrics()["tandem_requests_running"] == 1)
            c.sock.shutdown(socket.SHUT_RDWR)
            c.close()
            assert eventually(lambda: s.metrics()["tandem_requests_running"] == 0, 1.0), "within a step and a tick"
            assert s.metrics()["tandem_disconnects_total"] == 1


@test
def leaving_while_the_body_is_read():
    """A connection must not end under the hands of the worker that reads its body: the watcher sees that the client left, and its wake has to wait for the worker."""
    with Server(FAKE) as s:
        body = json.dumps({"content": "word " * 200000}).encode()
        chunked = b"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        whole = b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

        def leave(i):
            for n in range(12):
                with socket.create_connection(("127.0.0.1", s.port)) as c:
                    c.sendall(chunked if n % 3 else whole)
                    if n % 2:
                        c.shutdown(socket.SHUT_WR)
        leavers = [threading.Thread(target=leave, args=(i,)) for i in range(4)]
        for t in leavers:
            t.start()
        while any(t.is_alive() for t in leavers):
            assert s.post("/tokenize", {"content": "ab"})[1] == {"tokens": [99, 100]}
        assert eventually(lambda: s.post(CHAT, say("well"))[0] == 200)


@test
def faults_in_the_middle():
    with Server(FAKE) as s:
        status, r = s.post(CHAT, {"messages": [{"role": "user", "content": "FAULT"}]})
        assert status == 503 and "fake:1" in r["error"]["message"]
        events = s.stream(CHAT, {"messages": [{"role": "user", "content": "FAULT"}]})
        status, r = s.post(CHAT, {"messages": [{"role": "user", "content": "FAULT:NAN"}]})
        assert status == 500 and r["error"]["code"] == "internal_error" and "NaN" in r["error"]["message"], (status, r)
        status, r = s.post("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": "FAULT:NAN"}]})
        assert status == 500 and r["error"]["type"] == "api_error", (status, r)
        assert "fake:1" in events[-1]["error"]["message"] and sum(bool(e.get("choices") and e["choices"][0]["delta"].get("content")) for e in events) == 3


@test
def a_stream_fails_as_a_whole_answer_does():
    """The same type, code and sentence, whichever way it was asked; the counters are told the same."""
    def error_of(events):
        last = events[-1][1] if isinstance(events[-1], tuple) else events[-1]
        return last["error"] if "error" in last else last["response"]["error"]
    for words, code, kind, anthropic in (("FAULT", "ffn_worker_lost", "service_unavailable_error", "overloaded_error"), ("FAULT:NAN", "internal_error", "server_error", "api_error")):
        with Server(FAKE) as s:
            ask = {"messages": [{"role": "user", "content": words}]}
            asks = ((CHAT, ask), ("/v1/completions", {"prompt": words}), ("/v1/responses", {"input": words}), ("/v1/messages", {**ask, "max_tokens": 9}))
            for path, body in asks:
                whole, streamed = s.post(path, body)[1]["error"], error_of(s.stream(path, body))
                if path == "/v1/responses":
                    whole = {"code": whole["code"], "message": whole["message"]}
                assert streamed == whole, (path, whole, streamed)
                assert whole.get("type", kind) == (anthropic if path == "/v1/messages" else kind) and whole.get("code", code) == code, whole
            assert s.metrics()[f'tandem_errors_total{{kind="{code}"}}'] == 2 * len(asks)


@test
def half_a_prompt_has_no_answer():
    with Server(FAKE, "--time-max", "1") as s:
        for path, body in (("/v1/embeddings", {"input": ["well", "NEVER"]}), ("/v1/completions", {"prompt": "NEVER", "max_tokens": 0, "echo": True, "logprobs": 1, "t_max_predict_ms": 20})):
            status, answer = s.post(path, body)
            assert status == 504 and answer["error"]["code"] == "timeout" and "within" in answer["error"]["message"], (path, status, answer)
        assert "within 20 ms" in answer["error"]["message"]
        events = s.stream("/v1/completions", {**body, "stream": True})
        assert "within 20 ms" in events[-1]["error"]["message"] and events[-1]["error"]["code"] == "timeout", events
        answer = s.post(CHAT, {"messages": [{"role": "user", "content": "NEVER"}]})
        assert answer[0] == 200 and answer[1]["choices"][0]["finish_reason"] == "length", "what was generated is an answer"


@test
def slow_reader_holds_nobody():
    with Server(FAKE, env={"FAKE_STEP_US": "20"}) as s:
        slow = s.connect()
        slow.request("POST", "/v1/completions", json.dumps({"prompt": "x", "max_tokens": 4000, "stream": True, "logprobs": 5}))
        time.sleep(0.3)  # reads nothing
        start = time.time()
        for _ in range(5):
            assert s.post(CHAT, say("quick"))[0] == 200
        assert time.time() - start < 3
        events = [line for line in slow.getresponse() if line.startswith(b"data: ")]
        assert events[-1] == b"data: [DONE]\n" and len(events) > 4000


@test
def keep_alive_comments():
    with Server(FAKE, "--keep-alive", "1") as s:
        c = s.connect()
        c.request("POST", CHAT, json.dumps({"messages": [{"role": "user", "content": "NEVER"}], "stream": True}))
        answer = c.getresponse()
        lines = [answer.readline() for _ in range(5)]
        assert b": keep-alive\n" in lines, lines
        c.close()


@test
def shutdown_finishes_and_refuses():
    with Server(FAKE, env={"FAKE_STEP_US": "3000"}) as s:
        got = []
        reader = threading.Thread(target=lambda: got.extend(s.stream(CHAT, say("x" * 200))))
        idle = s.connect()
        idle.request("GET", "/health")
        idle.getresponse().read()
        reader.start()
        assert eventually(lambda: s.metrics()["tandem_requests_running"] == 1)
        s.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        try:
            socket.create_connection(("127.0.0.1", s.port), timeout=5).close()
            raise AssertionError("a stopping server takes no connections")
        except ConnectionRefusedError:
            pass
        with Server(FAKE, "--port", str(s.port)) as heir:
            assert heir.port == s.port, "its address is free while running requests finish"
        idle.request("POST", CHAT, json.dumps(say("late")))
        assert idle.getresponse().status == 503
        idle.close()
        assert s.process.wait(10) == 0
        reader.join()
        assert got[-1] == "[DONE]" and "".join(e["choices"][0]["delta"].get("content", "") for e in got[:-1]) == "x" * 200
    with Server(FAKE, "--drain", "1") as s:
        c = s.connect()
        c.request("POST", CHAT, json.dumps({"messages": [{"role": "user", "content": "NEVER"}], "stream": True}))
        answer = c.getresponse()
        assert s.stop() == 0
        told = answer.read()
        assert b"shutting down" in told and b'"shutting_down"' in told, told


@test
def head_options_methods():
    with Server(FAKE) as s:
        assert s.request("HEAD", "/health")[:2] == (200, b"")
        status, _, headers = s.request("DELETE", CHAT)
        assert status == 405 and "POST" in headers["allow"]
        assert "access-control-allow-origin" not in s.get("/health")[2]
    with Server(FAKE, "--cors", "https://a.example") as s:
        status, _, headers = s.request("OPTIONS", CHAT, headers={"Origin": "https://a.example"})
        assert status == 204 and headers["access-control-allow-origin"] == "https://a.example" and "POST" in headers["access-control-allow-methods"]
        usual = headers["access-control-allow-headers"]
        assert "Authorization" in usual
        asked = "authorization,content-type, x-stainless-os,x-stainless-retry-count,anthropic-dangerous-direct-browser-access"
        for names, told in ((asked, asked), ("", usual), (" , ", usual), ("a: b", usual), ("a;b", usual), ("\u00e9", usual), ("x" * 2048, "x" * 2048), ("x" * 2049, usual)):
            data = s.raw(f"OPTIONS {CHAT} HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nAccess-Control-Request-Headers: {names}\r\nConnection: close\r\n\r\n".encode("latin-1")).decode().split("\r\n")
            assert f"Access-Control-Allow-Headers: {told}" in data and "Vary: Access-Control-Request-Headers" in data and "Vary: Origin" in data, (names, data)


@test
def answers_have_their_ids():
    with Server(FAKE, "--cors", "*") as s:
        for method, path, body, version, both in (("POST", "/v1/messages", {"max_tokens": 9, **say("x")}, {}, True), ("POST", "/v1/messages", {"max_tokens": 9, "stream": True, **say("x")}, {}, True),
                                                  ("POST", "/v1/messages", {}, {}, True), ("POST", "/v1/messages/count_tokens", say("x"), {}, True), ("GET", "/v1/models", None, {"anthropic-version": "2023-06-01"}, True),
                                                  ("GET", "/v1/models", None, {}, False), ("POST", CHAT, say("x"), {}, False)):
            headers = s.request(method, path, body, version)[2]
            assert headers["x-request-id"] and headers.get("request-id") == (headers["x-request-id"] if both else None), (path, headers)
            assert "request-id" in headers["access-control-expose-headers"].split(", ")


@test
def compressed_bodies_are_refused():
    import gzip
    body = json.dumps(say("x")).encode()
    with Server(FAKE) as s:
        for path in (CHAT, "/tokenize"):
            status, data, headers = s.request("POST", path, gzip.compress(body), {"Content-Encoding": "gzip"})
            assert status == 415 and "Content-Encoding" in json.loads(data)["error"]["message"] and headers["accept-encoding"] == "identity", (path, data)
        assert s.request("POST", CHAT, gzip.compress(body) * 40000, {"Content-Encoding": "gzip"})[0] == 415, "also one that is long"
        assert s.request("POST", CHAT, body, {"Content-Encoding": "Identity"})[0] == 200
        assert s.metrics()['tandem_errors_total{kind="unsupported_encoding"}'] == 3


@test
def description_and_page():
    kept = pathlib.Path(__file__).parents[2] / "docs" / "openapi.json"
    with Server(FAKE) as s:
        told = json.loads(s.get("/openapi.json")[1])
        if "--write" in sys.argv:
            kept.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
        assert told == json.loads(kept.read_text()), "docs/openapi.json is not what the server says: http_test.py SERVE_FAKE --write"
        for path, methods in told["paths"].items():
            for method, what in methods.items():
                status = s.request(method.upper(), path.replace("{model}", "default"), b"{}" if method == "post" else None)[0]
                assert status == (200 if method == "get" else 400), (path, status)
                if method == "post":
                    schema = told["components"]["schemas"][what["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]]
                    assert schema["additionalProperties"] is False and set(schema["required"]) <= set(schema["properties"])
                    status, answer = s.post(path, {"no_such_field": 1})
                    assert status == 400 and "no_such_field" in answer["error"]["message"], path
        status, page, headers = s.get("/")
        assert status == 200 and b"<title>Tandem</title>" in page and "connect-src 'self'" in headers["content-security-policy"]
        assert b"http://" not in page.replace(b"http://www.w3.org/2000/svg", b"") and b"https://" not in page, "works without internet"


@test
def tls():
    import ssl
    import subprocess
    import tempfile
    import urllib.request
    with tempfile.TemporaryDirectory() as folder:
        cert, key = f"{folder}/cert.pem", f"{folder}/key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
                       check=True, capture_output=True)
        with Server(FAKE, "--tls-cert", cert, "--tls-key", key, ready=False) as s:
            trust = ssl.create_default_context(cafile=cert)
            time.sleep(0.3)
            assert json.load(urllib.request.urlopen(f"https://localhost:{s.port}/health", context=trust))["status"] == "ok"
            request = urllib.request.Request(f"https://localhost:{s.port}{CHAT}", json.dumps(say("secret", stream=True)).encode())
            assert urllib.request.urlopen(request, context=trust).read().endswith(b"data: [DONE]\n\n")
            assert b"HTTP/1.1 2" not in s.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", timeout=2)
            assert s.stop() == 0
        refused = subprocess.run([*FAKE, "--port", "0", "--tls-cert", key, "--tls-key", key], capture_output=True, text=True)
        assert refused.returncode == 1 and "PEM certificate" in refused.stderr


@test
def fair_between_clients():
    with Server(FAKE, "--parallel", "1", env={"FAKE_STEP_US": "1000"}) as s:
        done = []
        def ask(user):
            s.post(CHAT, say("x" * 30, user=user))
            done.append(user)
        greedy = [threading.Thread(target=ask, args=("greedy",)) for _ in range(8)]
        for t in greedy:
            t.start()
        assert eventually(lambda: s.metrics()["tandem_requests_waiting"] >= 6)
        late = threading.Thread(target=ask, args=("late",))
        late.start()
        for t in [*greedy, late]:
            t.join()
        assert done.index("late") <= 4, done


@test
def a_thousand_idle_connections():
    with Server(FAKE) as s:
        def memory():
            return int(next(line for line in open(f"/proc/{s.process.pid}/status") if line.startswith("VmRSS")).split()[1])
        before = memory()
        try:
            idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(1000)]
        except OSError as error:
            print(f"     skipped: this machine does not allow 1,000 connections: {error}")
            return
        for c in idle:
            c.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        for c in idle:
            assert c.recv(4096).startswith(b"HTTP/1.1 200")
        grown = memory() - before
        assert s.post(CHAT, say("well"))[0] == 200 and grown < 64 << 10, f"{grown} KiB for 1,000 connections"
        for c in idle:
            c.close()


if __name__ == "__main__":
    sys.exit(main())
