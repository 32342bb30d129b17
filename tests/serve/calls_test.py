#!/usr/bin/env python3
"""Reasoning and tool calls over the fake engine, in every shape: read out of text, sent back, forced, held, beside a format. calls_test.py SERVE_FAKE [TEST...]"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from suite import CHAT, FAKE, Server, main, say, test  # noqa: E402

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


if __name__ == "__main__":
    sys.exit(main())
