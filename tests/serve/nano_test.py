#!/usr/bin/env python3
"""`tandem serve` with the model that ships: the same bytes alone and in company, prefix reuse, log-probabilities, embeddings, lost clients. nano_test.py TANDEM"""
import json
import math
import pathlib
import re
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from served import Server  # noqa: E402

COMPLETE = "/v1/completions"


def text(answer):
    return answer["choices"][0]["text"]


def same_bytes_alone_and_in_company(s):
    asks = [{"prompt": p, "max_tokens": 24, "seed": i, "temperature": 0.9 if i % 2 else 0} for i, p in enumerate(["Once upon a time", "There was a", "Question: What is 17 + 25?\nAnswer:", "One day"] * 4)]
    alone = [text(s.post(COMPLETE, a)[1]) for a in asks]
    together = [None] * len(asks)

    def ask(i):
        if i % 3:
            together[i] = text(s.post(COMPLETE, asks[i])[1])
        else:
            together[i] = "".join(e["choices"][0]["text"] for e in s.stream(COMPLETE, asks[i])[:-1])
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(asks))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert together == alone, [(a, b) for a, b in zip(alone, together) if a != b]
    assert len(set(alone)) > 3


def prefixes_are_reused(s):
    prompt = "Once upon a time there was a little dog who lived in a small house. " * 8
    first = s.post(COMPLETE, {"prompt": prompt, "max_tokens": 2, "temperature": 0})[1]
    second = s.post(COMPLETE, {"prompt": prompt, "max_tokens": 2, "temperature": 0})[1]
    assert text(first) == text(second) and second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0, second["usage"]
    assert second["timings"]["cache_n"] == second["usage"]["prompt_tokens_details"]["cached_tokens"]


def logprobs_add_up(s):
    answer = s.post(COMPLETE, {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0, "logprobs": 5})[1]
    lp = answer["choices"][0]["logprobs"]
    assert "".join(lp["tokens"]) == text(answer)
    for token, logprob, top in zip(lp["tokens"], lp["token_logprobs"], lp["top_logprobs"]):
        assert abs(max(top.values()) - logprob) < 1e-5 and top[token] == logprob, "temperature 0 takes the most likely"
        assert 0 < sum(math.exp(v) for v in top.values()) <= 1 + 1e-6
    scored = s.post(COMPLETE, {"prompt": "Once upon a time" + text(answer), "max_tokens": 0, "echo": True, "logprobs": 1})[1]["choices"][0]["logprobs"]
    assert scored["token_logprobs"][0] is None and len(scored["tokens"]) == len(scored["token_logprobs"])
    if scored["tokens"][-8:] == lp["tokens"]:
        assert all(abs(a - b) < 1e-5 for a, b in zip(scored["token_logprobs"][-8:], lp["token_logprobs"])), "reading and writing give the same probabilities"


def offsets_are_places_in_the_text(s):
    for prompt in ("Once upon", "na\u00efve caf\u00e9 \U0001F600 x", "\u65e5\u672c", "<|im_end|> \u00e9 <|EOT|>x"):
        for echo in (False, True):
            choice = s.post(COMPLETE, {"prompt": prompt, "max_tokens": 6, "temperature": 1.5, "seed": 4, "echo": echo, "logprobs": 1})[1]["choices"][0]
            lp, text = choice["logprobs"], choice["text"]
            assert lp["text_offset"] == sorted(lp["text_offset"]) and lp["text_offset"][0] == 0
            for token, offset in zip(lp["tokens"], lp["text_offset"]):
                if "\ufffd" not in token and not (token.startswith("<") and token.endswith(">")):
                    assert text[offset:offset + len(token)] == token, (prompt, echo, token, offset, text)
            for token, logprob, top in zip(lp["tokens"], lp["token_logprobs"], lp["top_logprobs"]):
                assert top is None or "\ufffd" in token or top[token] == logprob, (token, top)


def embeddings_tell_texts_apart(s):
    data = s.post("/v1/embeddings", {"input": ["The dog ran home.", "The dog ran home!", "What is 3 + 4?"]})[1]["data"]
    a, b, c = (d["embedding"] for d in data)
    dot = lambda u, v: sum(x * y for x, y in zip(u, v))  # noqa: E731
    assert abs(dot(a, a) - 1) < 1e-5 and dot(a, b) > dot(a, c), (dot(a, b), dot(a, c))
    again = s.post("/v1/embeddings", {"input": "The dog ran home.", "pooling": "last"})[1]["data"][0]["embedding"]
    assert again == a, "a batch changes nothing"
    assert s.post("/v1/embeddings", {"input": "The dog ran home.", "pooling": "mean"})[1]["data"][0]["embedding"] != a


def stops_and_limits(s):
    whole = text(s.post(COMPLETE, {"prompt": "Once upon a time", "max_tokens": 30, "temperature": 0})[1])
    word = whole.split()[4]
    cut = s.post(COMPLETE, {"prompt": "Once upon a time", "max_tokens": 30, "temperature": 0, "stop": [word]})[1]
    assert text(cut) == whole[:whole.index(word)] and cut["choices"][0]["finish_reason"] == "stop"
    status, answer = s.post(COMPLETE, {"prompt": "a b c " * 3000})
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded"
    banned = s.post("/tokenize", {"content": whole, "with_pieces": True})[1]["tokens"][0]["id"]
    assert not text(s.post(COMPLETE, {"prompt": "Once upon a time", "max_tokens": 3, "temperature": 0, "logit_bias": {str(banned): -100}})[1]).startswith(whole[:4])


def grammars_hold(s):
    ask = {"prompt": "Question: What is 17 + 25?\nAnswer:", "max_tokens": 60, "seed": 3, "temperature": 1.5}
    for form, fits in (({"grammar": 'root ::= " " ("yes" | "no") "!"'}, lambda t: t in (" yes!", " no!")),
                       ({"response_format": {"type": "regex", "regex": "[0-9]{3}-[a-f]{2}"}}, lambda t: re.fullmatch("[0-9]{3}-[a-f]{2}", t)),
                       ({"json_schema": {"type": "object", "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}}, "required": ["n", "ok"], "additionalProperties": False}},
                        lambda t: set(json.loads(t)) == {"n", "ok"})):
        for seed in range(3):
            status, answer = s.post(COMPLETE, {**ask, **form, "seed": seed, "max_tokens": 200})
            assert status == 200 and answer["choices"][0]["finish_reason"] == "stop" and fits(text(answer)), (form, answer)
    chat = {"messages": [{"role": "user", "content": "Say something."}], "max_tokens": 300, "temperature": 0, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema":
            {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"], "additionalProperties": False}}}}
    message = s.post("/v1/chat/completions", chat)[1]["choices"][0]["message"]
    assert json.loads(message["content"])["colour"] in ("red", "green"), message
    for wrong in ({"grammar": "root ::= ("}, {"response_format": {"type": "regex", "regex": "("}}, {"response_format": {"type": "yaml"}}, {"response_format": {"type": "json_schema"}}, {"grammar": 'root ::= "a"', "json_schema": {}}):
        status, answer = s.post(COMPLETE, {**ask, **wrong})
        assert status == 400 and answer["error"]["param"] in ("grammar", "response_format", "json_schema"), (wrong, answer)


def calls_are_forced(s):
    """The shipped model was never taught to call: whatever it would say, it calls, with arguments that fit the schema."""
    weather = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"$ref": "#/$defs/count"}}, "required": ["city", "days"], "additionalProperties": False, "$defs": {"count": {"enum": [1, 2, 3]}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": weather, "strict": True}}, {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}]
    ask = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "tools": tools, "max_tokens": 300, "temperature": 1.2}
    seen = set()
    for seed in range(6):
        for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
            form = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"b": {"type": "boolean"}}}}}} if seed % 2 else {}
            answer = s.post("/v1/chat/completions", {**ask, **form, "seed": seed, "tool_choice": choice})[1]["choices"][0]
            call, = answer["message"]["tool_calls"]
            arguments = json.loads(call["function"]["arguments"])
            seen.add(call["function"]["name"])
            assert answer["finish_reason"] == "tool_calls" and answer["message"]["content"] is None and call["function"]["name"] in ("weather", "clock"), answer
            if call["function"]["name"] == "weather":
                assert arguments["city"] in ("Oslo", "Rome") and arguments["days"] in (1, 2, 3), arguments
            else:
                assert choice == "required" and arguments == {}
    loose = {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 3}}}
    for strict, status in ((False, 200), (True, 400)):
        got, answer = s.post("/v1/chat/completions", {**ask, "seed": 1, "tool_choice": "required", "max_tokens": 400, "tools": [{"type": "function", "function": {"name": "f", "parameters": loose, "strict": strict}}]}, timeout=90)
        assert got == status and (status == 200 or "multipleOf" in answer["error"]["message"]), answer


def a_format_leaves_the_choice_to_call(binary):
    """The shipped model under a template whose calls begin with <tool_call>: pushed away from the mark it answers in the format's schema, pushed to it it calls, and what follows is a call or the end."""
    nano = pathlib.Path(__file__).resolve().parents[2] / "models" / "nano"
    weather = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"enum": [1, 2, 3]}}, "required": ["city", "days"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"], "additionalProperties": False}}}
    with tempfile.TemporaryDirectory() as folder:
        for file in nano.iterdir():
            if file.suffix in (".json", ".safetensors"):
                (pathlib.Path(folder) / file.name).symlink_to(file)
        config = json.loads((nano / "tokenizer_config.json").read_text())
        config["chat_template"] += "{# <tool_call> #}"
        (pathlib.Path(folder) / "tokenizer_config.json").unlink()
        (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
        with Server([binary, "serve", folder]) as s:
            first = s.post("/tokenize", {"content": "<tool_call>"})[1]["tokens"][0]
            ask = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "tools": [{"type": "function", "function": {"name": "weather", "parameters": weather}}], "response_format": form, "max_tokens": 240}
            ends = set()
            for seed in range(2):
                free = s.post("/v1/chat/completions", {**ask, "seed": seed, "logit_bias": {str(first): -100}})[1]["choices"][0]
                assert free["finish_reason"] == "stop" and set(json.loads(free["message"]["content"])) == {"b"}, free
                for push in (100, 12):
                    for parallel in (True, False):
                        one = s.post("/v1/chat/completions", {**ask, "seed": seed, "logit_bias": {str(first): push}, "parallel_tool_calls": parallel, "temperature": 1.2})[1]["choices"][0]
                        if push == 12 and one["message"]["content"]:
                            assert set(json.loads(one["message"]["content"])) == {"b"} and "tool_calls" not in one["message"], one
                            continue
                        calls = one["message"]["tool_calls"]
                        whole = calls[:-1] if one["finish_reason"] == "length" else calls
                        assert whole and (parallel or len(calls) == 1) and (one["message"]["content"] is None or one["finish_reason"] == "length"), one
                        for call in whole:
                            arguments = json.loads(call["function"]["arguments"])
                            assert arguments["city"] in ("Oslo", "Rome") and arguments["days"] in (1, 2, 3), arguments
                        ends.add((one["finish_reason"], len(calls) > 1))
            assert ("tool_calls", False) in ends and any(many for _, many in ends), ends


def a_lost_client_stops_costing(s):
    before = s.metrics()["tandem_generated_tokens_total"]
    c = s.connect()
    c.request("POST", COMPLETE, json.dumps({"prompt": "Once upon a time", "max_tokens": 1900, "ignore_eos": True}))
    until = time.time() + 5
    while s.metrics()["tandem_generated_tokens_total"] < before + 5 and time.time() < until:
        time.sleep(0.02)
    c.close()
    until = time.time() + 5
    while s.metrics()["tandem_requests_running"] and time.time() < until:
        time.sleep(0.02)
    values = s.metrics()
    assert values["tandem_requests_running"] == 0 and values["tandem_kv_pages_used"] == 0 and values["tandem_generated_tokens_total"] - before < 1800, values


def chat_or_why_not(s):
    has = json.loads(s.get("/props")[1])["has_chat_template"]
    status, answer = s.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0, "max_tokens": 60})
    if not has:
        assert status == 400 and "chat template" in answer["error"]["message"]
        print("     this model has no chat template (yet): chat is refused by name")
        return
    assert status == 200 and answer["choices"][0]["message"]["content"], answer
    streamed = s.stream("/v1/chat/completions", {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0, "max_tokens": 60})
    for part in ("content", "reasoning_content"):
        assert "".join(e["choices"][0]["delta"].get(part) or "" for e in streamed[:-1]) == (answer["choices"][0]["message"].get(part) or "")


def the_narrowest_nucleus_is_one_token(s):
    messages = [{"role": "user", "content": "Tell me a story."}]
    for path, ask, shown in ((COMPLETE, {"prompt": "Once upon a time"}, text), ("/v1/chat/completions", {"messages": messages}, lambda a: a["choices"][0]["message"]),
                             ("/v1/messages", {"messages": messages}, lambda a: a["content"])):
        ask["max_tokens"] = 24
        best = shown(s.post(path, {**ask, "temperature": 0})[1])
        for top_p in (0, 1e-60):
            assert shown(s.post(path, {**ask, "temperature": 1, "top_p": top_p})[1]) == best, (path, top_p)
        assert any(shown(s.post(path, {**ask, "temperature": 1, "top_p": 1})[1]) != best for _ in range(8)), path


def stops_do_not_see_the_end_token(s):
    """A stop string that overlaps the end token's text (<|EOT|>) neither matches it nor lets it out."""
    ask = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0, "max_tokens": 80}
    whole = s.post("/v1/chat/completions", ask)[1]["choices"][0]
    assert whole["finish_reason"] == "stop" and not set("<|T>") & set(whole["message"]["content"]), whole
    for stop in (">", "|", "T", ">>>"):
        assert s.post("/v1/chat/completions", {**ask, "stop": [stop]})[1]["choices"][0]["message"] == whole["message"], stop
        streamed = s.stream("/v1/chat/completions", {**ask, "stop": [stop]})
        assert "".join(e["choices"][0]["delta"].get("content") or "" for e in streamed[:-1]) == whole["message"]["content"], stop
    message = s.post("/v1/messages", {**ask, "stop_sequences": ["|"]})[1]
    assert message["stop_reason"] == "end_turn", message


def readme_requests_work(s):
    """The README's three requests, as they stand there."""
    text = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
    found = re.findall(r"    curl (-N )?http://127\.0\.0\.1:8080(\S+) -d '(.*)'", text)
    assert len(found) == 3, found
    for _, path, body in found:
        status, data, _ = s.request("POST", path, body.encode(), {"Content-Type": "application/x-www-form-urlencoded"})
        assert status == 200 and len(data) > 200, (path, status, data[:300])


def main():
    failed = 0
    tests = [readme_requests_work, same_bytes_alone_and_in_company, prefixes_are_reused, logprobs_add_up, offsets_are_places_in_the_text, embeddings_tell_texts_apart, stops_and_limits, grammars_hold, calls_are_forced, a_lost_client_stops_costing, chat_or_why_not, the_narrowest_nucleus_is_one_token, stops_do_not_see_the_end_token]
    with Server([sys.argv[1], "serve"]) as s:
        for function in tests:
            start = time.time()
            try:
                function(s)
                print(f"ok   {function.__name__} ({time.time() - start:.1f} s)", flush=True)
            except Exception:  # noqa: BLE001
                import traceback
                traceback.print_exc()
                print(f"FAIL {function.__name__}", flush=True)
                failed += 1
        try:
            a_format_leaves_the_choice_to_call(sys.argv[1])
            print("ok   a_format_leaves_the_choice_to_call", flush=True)
        except Exception:  # noqa: BLE001
            import traceback
            traceback.print_exc()
            failed += 1
        code = s.stop()
        if code:
            failed += 1
            print(f"FAIL exit status {code}: " + "".join(s.log[-5:]))
    print(f"{len(tests) - failed} of {len(tests)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
