#!/usr/bin/env python3
"""The server over the fake engine: shapes, streams, queueing, lost clients, shutdown. http_test.py SERVE_FAKE"""
import json
import pathlib
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from served import Server  # noqa: E402

FAKE = [sys.argv[1], "fake"]
CHAT = "/v1/chat/completions"
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def say(text, **more):
    return {"messages": [{"role": "user", "content": f"SAY:{text}|"}], **more}


def eventually(condition, seconds=5):
    until = time.time() + seconds
    while time.time() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


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


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}, {"type": "function", "function": {"name": "g"}}]
CALLS = 'Let me see.\n<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>\n<tool_call>{"name": "g", "arguments": {}}</tool_call>'


def joined(events):
    """A stream's deltas put together again, as clients do."""
    message = {"content": "", "reasoning_content": "", "tool_calls": []}
    for e in events[:-1]:
        delta = e["choices"][0]["delta"]
        for part in ("content", "reasoning_content"):
            message[part] += delta.get(part) or ""
        for call in delta.get("tool_calls", []):
            if call["index"] == len(message["tool_calls"]):
                message["tool_calls"].append({"id": call["id"], "name": call["function"]["name"], "arguments": ""})
            message["tool_calls"][call["index"]]["arguments"] += call["function"].get("arguments", "")
    return message


@test
def reasoning_is_split():
    with Server(FAKE) as s:
        ask = say("<think>\nhm, so\n</think>\n\nthe answer")
        message = s.post(CHAT, ask)[1]["choices"][0]["message"]
        assert message["content"] == "the answer" and message["reasoning_content"] == "hm, so", message
        streamed = joined(s.stream(CHAT, ask))
        assert streamed["content"] == "the answer" and streamed["reasoning_content"] == "hm, so"
        usage = s.post(CHAT, ask)[1]["usage"]
        assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]
        assert s.post(CHAT, {**ask, "reasoning_format": "none"})[1]["choices"][0]["message"]["content"].startswith("<think>")
        inside = s.post(CHAT, {**say("hm</think>yes"), "reasoning_effort": "high"})[1]["choices"][0]["message"]
        assert (inside["reasoning_content"], inside["content"]) == ("hm", "yes"), "the prompt ended inside <think>"
        blocks = s.post("/v1/messages", {**ask, "max_tokens": 99})[1]["content"]
        assert [b["type"] for b in blocks] == ["thinking", "text"] and blocks[0]["thinking"] == "hm, so"
        items = s.post("/v1/responses", {"input": "SAY:<think>a</think>b|"})[1]["output"]
        assert [i["type"] for i in items] == ["reasoning", "message"] and items[0]["content"][0]["text"] == "a"


@test
def thinking_can_be_omitted():
    with Server(FAKE) as s:
        ask = {**say("<think>hm, so</think>the answer"), "max_tokens": 99}
        for display, shown in ((None, "hm, so"), ("summarized", "hm, so"), ("omitted", "")):
            body = {**ask, "thinking": {"type": "adaptive", "display": display}}
            assert s.post("/v1/messages", body)[1]["content"] == [{"type": "thinking", "signature": "", "thinking": shown}, {"type": "text", "text": "the answer"}]
            events = s.stream("/v1/messages", body)
            assert [d["content_block"]["type"] for n, d in events if n == "content_block_start"] == ["thinking", "text"]
            deltas = [d["delta"] for n, d in events if n == "content_block_delta"]
            assert "".join(d["thinking"] for d in deltas if d["type"] == "thinking_delta") == shown and (shown or all(d["type"] == "text_delta" for d in deltas))
        status, answer = s.post("/v1/messages", {**ask, "thinking": {"type": "adaptive", "display": "full"}})
        assert status == 400 and "display" in answer["error"]["message"]


@test
def hints_of_anthropic_tools_are_accepted():
    with Server(FAKE) as s:
        def post(**more):
            return s.post("/v1/messages", {**say("well"), "max_tokens": 9, "tools": [{"name": "f", "input_schema": {"type": "object"}, **more}]})
        for more in ({"eager_input_streaming": True}, {"eager_input_streaming": None}, {"input_examples": [{"a": 1}]}, {"input_examples": None}):
            assert post(**more)[0] == 200, more
        for more in ({"eager_input_streaming": "yes"}, {"input_examples": {}}):
            status, answer = post(**more)
            assert status == 400 and next(iter(more)) in answer["error"]["message"], answer
        status, answer = s.post("/v1/messages", {**say("well"), "max_tokens": 9, "thread": "t"})
        assert status == 400 and "thread: this field is not supported here" in answer["error"]["message"], answer


@test
def thinking_has_a_budget():
    with Server(FAKE) as s:
        ask = {**say("x" * 50), "max_tokens": 80, "thinking": {"type": "enabled"}}
        free = s.post("/v1/messages", ask)[1]["content"]
        assert free[0]["thinking"] == "x" * 50
        held = s.post("/v1/messages", {**ask, "thinking": {"type": "enabled", "budget_tokens": 10}})[1]["content"]
        assert held[0]["type"] == "thinking" and len(held[0]["thinking"]) <= 10 and held[1]["type"] == "text", held


@test
def tool_calls_in_every_shape():
    with Server(FAKE) as s:
        ask = say(CALLS, tools=TOOLS)
        choice = s.post(CHAT, ask)[1]["choices"][0]
        calls = choice["message"]["tool_calls"]
        assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] == "Let me see."
        assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls] == [("f", {"a": 1}), ("g", {})] and calls[0]["id"] != calls[1]["id"]
        streamed = joined(s.stream(CHAT, ask))
        assert [(c["name"], json.loads(c["arguments"])) for c in streamed["tool_calls"]] == [("f", {"a": 1}), ("g", {})]
        one = s.post(CHAT, {**ask, "parallel_tool_calls": False})[1]["choices"][0]
        assert len(one["message"]["tool_calls"]) == 1 and one["finish_reason"] == "tool_calls"
        for off in ({}, {"tools": TOOLS, "tool_choice": "none"}):
            assert s.post(CHAT, {**say(CALLS), **off})[1]["choices"][0]["message"]["content"] == CALLS, "without tools text is text"
        back = [*ask["messages"], choice["message"], *({"role": "tool", "tool_call_id": c["id"], "content": "4"} for c in calls), {"role": "user", "content": "SAY:thanks|"}]
        assert s.post(CHAT, {"messages": back, "tools": TOOLS})[1]["choices"][0]["message"]["content"] == "thanks"
        flat = [{"type": "function", **t["function"]} for t in TOOLS]
        output = s.post("/v1/responses", {"input": f"SAY:{CALLS}|", "tools": flat})[1]["output"]
        assert [i["type"] for i in output] == ["message", "function_call", "function_call"] and json.loads(output[1]["arguments"]) == {"a": 1}
        named = [{"name": t["function"]["name"], "input_schema": {"type": "object"}} for t in TOOLS]
        answer = s.post("/v1/messages", {**say(CALLS), "max_tokens": 500, "tools": named})[1]
        assert answer["stop_reason"] == "tool_use" and [b["type"] for b in answer["content"]] == ["text", "tool_use", "tool_use"] and answer["content"][1]["input"] == {"a": 1}
        events = s.stream("/v1/messages", {**say(CALLS), "max_tokens": 500, "tools": named})
        assert "".join(d["delta"]["partial_json"] for n, d in events if n == "content_block_delta" and d["index"] == 1) == '{"a": 1}'


@test
def what_parse_adds_can_be_sent_back():
    """The openai package's parse() adds values to its copy of an answer; they are accepted and no template sees them (the fake engine's refuses them)."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}', "parsed_arguments": {"a": 1}}}
    items = [{"role": "assistant", "content": [{"type": "output_text", "text": "{}", "annotations": [], "parsed": {"b": True}}]},
             {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "parsed_arguments": {}}, {"role": "user", "content": "SAY:well|"}]
    with Server(FAKE) as s:
        for extra in ({"parsed": {"b": True}}, {"parsed": None}, {"tool_calls": [call]}):
            for path in (CHAT, "/apply-template"):
                status, answer = s.post(path, {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{}", **extra}, {"role": "user", "content": "SAY:well|"}]})
                assert status == 200, (path, extra, answer)
        status, answer = s.post("/v1/responses", {"input": items})
        assert status == 200 and answer["output"][0]["content"][0]["text"] == "well", answer


@test
def a_refusal_that_is_sent_back_is_text():
    part, plain = {"type": "refusal", "refusal": "no"}, {"type": "text", "text": ", sorry"}
    with Server(FAKE) as s:
        assert s.post("/apply-template", {"messages": [{"role": "assistant", "content": [part, plain]}]})[1] == {"prompt": "<assistant>no, sorry\n<assistant>"}
        assert s.post("/v1/responses", {"input": [{"role": "assistant", "content": [part, {"type": "output_text", "text": "x"}]}, {"role": "user", "content": "SAY:well|"}]})[0] == 200
        for wrong in ({"type": "refusal"}, {"type": "refusal", "refusal": 1}, {"type": "refusal", "refusal": "no", "text": "no"}, {"type": "text", "refusal": "no"}):
            assert s.post(CHAT, {"messages": [{"role": "assistant", "content": [wrong]}]})[0] == 400, wrong
            assert s.post("/v1/responses", {"input": [{"role": "assistant", "content": [wrong]}]})[0] == 400, wrong
        assert s.post(CHAT, {"messages": [{"role": "user", "content": [part]}]})[0] == 400, "only an answer refuses"
        assert s.post("/v1/responses", {"input": [{"role": "user", "content": [part]}]})[0] == 400


@test
def calls_are_forced():
    """The text is then a call's JSON and nothing else; the fake engine says it, the real one is held to it by a grammar (nano_test.py)."""
    with Server(FAKE) as s:
        text = '{"name": "f", "arguments": {"a": 1}}'
        for choice in ("required", {"type": "function", "function": {"name": "f"}}):
            one = s.post(CHAT, say(text, tools=TOOLS, tool_choice=choice))[1]["choices"][0]
            assert one["finish_reason"] == "tool_calls" and one["message"]["content"] is None and json.loads(one["message"]["tool_calls"][0]["function"]["arguments"]) == {"a": 1}, one
        streamed = joined(s.stream(CHAT, say(text, tools=TOOLS, tool_choice="required")))
        assert streamed["content"] == "" and [(c["name"], json.loads(c["arguments"])) for c in streamed["tool_calls"]] == [("f", {"a": 1})]
        thought = s.post(CHAT, say("hm</think>\n" + text, tools=TOOLS, tool_choice="required", reasoning_effort="high"))[1]["choices"][0]["message"]
        assert thought["reasoning_content"] == "hm" and thought["tool_calls"][0]["function"]["name"] == "f", thought
        named = [{"name": "f", "input_schema": {"type": "object"}}]
        for choice in ({"type": "any"}, {"type": "tool", "name": "f"}):
            answer = s.post("/v1/messages", {**say(text), "max_tokens": 99, "tools": named, "tool_choice": choice})[1]
            assert answer["stop_reason"] == "tool_use" and [b["type"] for b in answer["content"]] == ["tool_use"] and answer["content"][0]["input"] == {"a": 1}, answer
        schema = {"type": "object", "properties": {"b": {"type": "boolean"}}}
        for form in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}):
            one = s.post(CHAT, say(text, tools=TOOLS, tool_choice="required", response_format=form))[1]["choices"][0]
            assert one["finish_reason"] == "tool_calls" and one["message"]["content"] is None, one
        flat = [{"type": "function", **t["function"]} for t in TOOLS]
        formed = s.post("/v1/responses", {"input": f"SAY:{text}|", "tools": flat, "tool_choice": "required", "text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}})[1]
        assert [i["type"] for i in formed["output"]] == ["function_call"], formed
        for choice in ("required", {"type": "function", "name": "f"}):
            output = s.post("/v1/responses", {"input": f"SAY:{text}|", "tools": flat, "tool_choice": choice})[1]["output"]
            assert [i["type"] for i in output] == ["function_call"] and output[0]["name"] == "f", output
        for path, body in ((CHAT, say(text, tool_choice="required")), (CHAT, say(text, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "nobody"}})), (CHAT, say(text, tools=[], tool_choice="required")),
                           ("/v1/messages", {**say(text), "max_tokens": 9, "tool_choice": {"type": "any"}}), ("/v1/messages", {**say(text), "max_tokens": 9, "tools": named, "tool_choice": {"type": "tool", "name": "x"}}),
                           ("/v1/responses", {"input": "x", "tool_choice": "required"}), (CHAT, say(text, tools=TOOLS, tool_choice="required", grammar='root ::= "a"')),
                           (CHAT, say(text, tools=TOOLS, tool_choice="required", response_format={"type": "regex", "regex": "a"}))):
            status, answer = s.post(path, body)
            assert status == 400 and "tool" in answer["error"]["message"], (status, answer)


@test
def cut_off_calls_are_told():
    """The limit comes inside a call: no shape calls it complete. A call that was complete when the limit came is one, and so is what stands before the cut."""
    call = '<tool_call>{"name": "f", "arguments": {"a": 1234567}}</tool_call>'
    named = [{"name": "f", "input_schema": {"type": "object"}}]
    flat = [{"type": "function", **t["function"]} for t in TOOLS]
    inside, text = len(call) - 20, "Let me see.\n" + call
    with Server(FAKE) as s:
        for parallel in (True, False):
            choice = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": not parallel}}
            ask = {**say(call), "max_tokens": inside, "tools": named, **choice}
            answer = s.post("/v1/messages", ask)[1]
            assert answer["stop_reason"] == "max_tokens" and list(answer["content"][0]["input"]) == ["raw"], answer
            ends = [d["delta"] for n, d in s.stream("/v1/messages", ask) if n == "message_delta"]
            assert ends == [{"stop_reason": "max_tokens", "stop_sequence": None}], ends
            assert s.post(CHAT, say(call, tools=TOOLS, max_tokens=inside, parallel_tool_calls=parallel))[1]["choices"][0]["finish_reason"] == "length"
        answer = s.post("/v1/messages", {**say(call), "max_tokens": 99, "tools": named, "stop_sequences": ["567"]})[1]
        assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "567"), answer
        last = {"tools": TOOLS, "max_tokens": len(call), "parallel_tool_calls": False}
        assert s.post(CHAT, say(call, **last))[1]["choices"][0]["finish_reason"] == "tool_calls", "it was complete with the last token"
        ask = {**say(call), "max_tokens": len(call), "tools": named, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
        assert s.post("/v1/messages", ask)[1]["stop_reason"] == "tool_use"
        for said, limit, kinds, statuses in ((text, len(text) - 20, ["message", "function_call"], ["completed", "incomplete"]), (text, len(text), ["message", "function_call"], ["completed", "completed"]),
                                             ("<think>hm, so</think>yes, it is", 10, ["reasoning"], ["incomplete"]), ("<think>hm, so</think>yes, it is", 26, ["reasoning", "message"], ["completed", "incomplete"])):
            ask = {"input": f"SAY:{said}|", "tools": flat, "max_output_tokens": limit}
            whole = s.post("/v1/responses", ask)[1]
            events = s.stream("/v1/responses", ask)
            done = [d["item"] for n, d in events if n == "response.output_item.done"]
            assert events[-1][0] == "response.incomplete" and events[-1][1]["response"]["output"] == done
            for output in (done, whole["output"][:len(kinds)]):
                assert ([i["type"] for i in output], [i["status"] for i in output]) == (kinds, statuses), (said, limit, output)


@test
def strict_is_held_or_refused():
    """A grammar behind the mark holds calls of the model's own choice (test_constraint.c) where the format is JSON behind a mark; other formats refuse what they could not keep."""
    strict = [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}, TOOLS[1]]
    flat = [{"type": "function", **t["function"]} for t in strict]
    named = [{"name": "f", "input_schema": {"type": "object"}, "strict": True}]
    text = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    asks = ((CHAT, say(text, tools=strict)), ("/v1/messages", {**say(text), "max_tokens": 99, "tools": named}), ("/v1/responses", {"input": f"SAY:{text}|", "tools": flat}))
    with Server(FAKE) as s:
        for path, body in asks:
            assert s.post(path, body)[0] == 200, path
        unfit = {"type": "object", "properties": {"BROKEN": {"type": "integer"}}}
        status, answer = s.post(CHAT, say(text, tools=[{"type": "function", "function": {"name": "f", "parameters": unfit, "strict": True}}]))
        assert status == 400 and "tools[0].function.parameters" in answer["error"]["message"], answer
        assert s.post(CHAT, say(text, tools=[{"type": "function", "function": {"name": "f", "parameters": unfit}}]))[0] == 200
        held = {"type": "object", "properties": {"HELD": {"type": "integer"}}}
        for strict_too, wanted in ((True, {"HELD": 7}), (False, {"a": 1234567})):
            call = s.post(CHAT, say(f'<tool_call>{json.dumps({"name": "f", "arguments": {"a": 1234567}})}</tool_call>', tools=[{"type": "function", "function": {"name": "f", "parameters": held, "strict": strict_too}}]))[1]["choices"][0]["message"]["tool_calls"][0]
            assert json.loads(call["function"]["arguments"]) == wanted, "the sampler is held behind the mark"
        status, answer = s.post(CHAT, say(text, tools=[{"type": "function", "function": {"name": "f", "strict": "yes"}}]))
        assert status == 400 and "strict" in answer["error"]["message"], answer
    for template, refused in (("<\uff5ctool_calls_begin\uff5c> steptml", True), ("<\uff5ctool\u2581calls\u2581begin\uff5c>", True), ("<|python_tag|>", True), ("nothing", False)):
        with Server(FAKE, env={"FAKE_TEMPLATE": template}) as s:
            for path, body in asks:
                status, answer = s.post(path, body)
                assert (status == 400 and "tools[0].strict" in answer["error"]["message"]) if refused else status == 200, (template, path, answer)
                free = json.loads(json.dumps(body).replace('"strict": true', '"strict": false'))
                assert s.post(path, free)[0] == 200
            assert s.post(CHAT, say(text, tools=strict, tool_choice="none"))[0] == 200
            assert s.post(CHAT, say('{"name": "f", "arguments": {"a": 1}}', tools=strict, tool_choice="required"))[0] == 200


@test
def a_format_leaves_the_choice_to_call():
    """tool_choice auto beside a JSON format: the answer is text of the schema or calls, never both."""
    call, other = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
    schema = {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]}
    forms = ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    flat = [{"type": "function", **t["function"]} for t in TOOLS]
    named = [{"name": t["function"]["name"], "input_schema": {"type": "object"}} for t in TOOLS]
    with Server(FAKE) as s:
        for form in forms:
            one = s.post(CHAT, say(call, tools=TOOLS, response_format=form))[1]["choices"][0]
            assert one["finish_reason"] == "tool_calls" and one["message"]["content"] is None, one
            assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in one["message"]["tool_calls"]] == [("f", {"a": 1})], one
            said = s.post(CHAT, say('{"b": true}', tools=TOOLS, response_format=form))[1]["choices"][0]
            assert said["finish_reason"] == "stop" and said["message"]["content"] == '{"b": true}', said
            thought = s.post(CHAT, say("hm</think>" + call, tools=TOOLS, response_format=form, reasoning_effort="high"))[1]["choices"][0]["message"]
            assert thought["reasoning_content"] == "hm" and thought["tool_calls"][0]["function"]["name"] == "f", thought
            for none in ({"tools": TOOLS, "tool_choice": "none"}, {}):
                assert "tool_calls" not in s.post(CHAT, say(call, response_format=form, **none))[1]["choices"][0]["message"]
        output = s.post("/v1/responses", {"input": f"SAY:{call}|", "tools": flat, "text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}})[1]["output"]
        assert [i["type"] for i in output] == ["function_call"], output
        blocks = s.post("/v1/messages", {**say(call), "max_tokens": 99, "tools": named, "output_config": {"format": {"type": "json_schema", "schema": schema}}})[1]["content"]
        assert [b["type"] for b in blocks] == ["tool_use"] and blocks[0]["input"] == {"a": 1}, blocks
        both = s.post(CHAT, say(call[:-len("</tool_call>")] + " " * len("\n</tool_call>") + other, tools=TOOLS, response_format=forms[1]))[1]["choices"][0]["message"]
        assert [c["function"]["name"] for c in both["tool_calls"]] == ["f", "g"] and both["content"] is None, both
        more = s.post(CHAT, say(call[:-len("</tool_call>")] + " " * len("\n</tool_call>") + "and more", tools=TOOLS, response_format=forms[1]))[1]["choices"][0]
        assert more["message"]["content"] is None and len(more["message"]["tool_calls"]) == 1, more
    begin, end = "<\uff5ctool\u2581calls\u2581begin\uff5c>", "<\uff5ctool\u2581calls\u2581end\uff5c>"
    deepseek = begin + "<\uff5ctool\u2581call\u2581begin\uff5c>f<\uff5ctool\u2581sep\uff5c>{\"a\": 1}<\uff5ctool\u2581call\u2581end\uff5c>" + end
    with Server(FAKE, env={"FAKE_TEMPLATE": begin}) as s:
        one = s.post(CHAT, say(deepseek, tools=TOOLS, response_format=forms[1]))[1]["choices"][0]
        assert one["message"]["tool_calls"][0]["function"]["name"] == "f", one
        strict = [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}]
        assert s.post(CHAT, say(deepseek, tools=strict, response_format=forms[1]))[0] == 400, "strict calls cannot be held in this format"
    with Server(FAKE, env={"FAKE_TEMPLATE": "<|python_tag|>"}) as s:
        for form in forms:
            one = s.post(CHAT, say('{"name": "f", "parameters": {"a": 1}}', tools=TOOLS, response_format=form))[1]["choices"][0]
            assert one["message"]["tool_calls"][0]["function"]["name"] == "f", one
        status, answer = s.post(CHAT, say("x", tools=TOOLS, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"BROKEN": 1}}}))
        assert status == 400 and answer["error"]["param"] == "response_format", answer


@test
def what_cannot_be_parsed_is_not_lost():
    with Server(FAKE) as s:
        cut = s.post(CHAT, say('<tool_call>{"name": "f", "arguments": {"a": 1', tools=TOOLS))[1]["choices"][0]
        assert cut["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 1' and "ends inside" in cut["warning"], cut
        broken = "Well <tool_call>no call</tool_call> end"
        choice = s.post(CHAT, say(broken, tools=TOOLS))[1]["choices"][0]
        assert choice["message"]["content"] == broken and choice["finish_reason"] == "stop" and choice["warning"], choice
        events = s.stream(CHAT, say(broken, tools=TOOLS))
        assert joined(events)["content"] == broken and events[-2]["choices"][0]["warning"] == choice["warning"]
        assert s.metrics()["tandem_parser_warnings_total"] == 3


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


def main():
    failed = 0
    chosen = [a for a in sys.argv[2:] if not a.startswith('-')]
    for function in TESTS:
        if chosen and function.__name__ not in chosen:
            continue
        start = time.time()
        try:
            function()
            print(f"ok   {function.__name__} ({time.time() - start:.1f} s)", flush=True)
        except Exception as error:  # noqa: BLE001: a test may fail in any way
            failed += 1
            import traceback
            traceback.print_exc()
            print(f"FAIL {function.__name__}: {error!r}", flush=True)
    print(f"{len(TESTS) - failed} of {len(TESTS)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
