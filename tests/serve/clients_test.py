#!/usr/bin/env python3
"""The official openai and anthropic packages against the server (fake engine). clients_test.py SERVE_FAKE [--record]; needs the packages of tests/requirements.txt.

A recorder stands between: every answer and every event of a stream is held against the packages' own types, field by field (shapes.py). With --record what was said is kept in sessions/, for
sessions_test.py."""
import base64
import json
import math
import pathlib
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from served import Server  # noqa: E402

import anthropic  # noqa: E402
import openai  # noqa: E402
import pydantic  # noqa: E402

import shapes  # noqa: E402
from recorder import Recorder  # noqa: E402

CALL = {"city": "Oslo", "days": 2}
SAID_CALL = f'SAY:Let me see.\n<tool_call>{json.dumps({"name": "weather", "arguments": CALL})}</tool_call>|'
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"], "additionalProperties": False}


class Weather(pydantic.BaseModel):
    city: str
    days: int


def expect(kind, call, part):
    try:
        call()
    except kind as error:
        assert part in str(error), f"expected {part!r} in {error}"
        return error
    raise AssertionError(f"expected {kind.__name__}")


def with_openai(s):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="unused", max_retries=0)
    assert [m.id for m in client.models.list()] == ["fake"]
    ask = [{"role": "system", "content": "s"}, {"role": "user", "content": "SAY:hello there|"}]
    whole = client.chat.completions.create(model="fake", messages=ask, temperature=0, seed=1, logprobs=True, top_logprobs=2, stop=["zzz"], user="me")
    assert whole.choices[0].message.content == "hello there" and whole.usage.completion_tokens == 12
    assert whole.choices[0].logprobs.content[0].top_logprobs[0].token == "h"
    again = [*ask, whole.choices[0].message.model_dump(), {"role": "user", "content": [{"type": "text", "text": "SAY:again|"}]}]
    assert client.chat.completions.create(model="fake", messages=again).choices[0].message.content == "again", "an answer can be sent back as it came"
    with client.chat.completions.stream(model="fake", messages=ask, stream_options={"include_usage": True}) as stream:
        text = "".join(e.delta for e in stream if e.type == "content.delta")
        assert text == "hello there" and stream.get_final_completion().usage.prompt_tokens == whole.usage.prompt_tokens
    done = client.completions.create(model="fake", prompt=["a", "b"], n=2, max_tokens=3, logprobs=1, echo=True, seed=1)
    assert len(done.choices) == 4 and done.choices[0].text.startswith("a")
    assert "".join(c.choices[0].text for c in client.completions.create(model="fake", prompt="SAY:xyz|", stream=True)) == "xyz"
    plain = client.embeddings.create(model="fake", input=["one", "two"], encoding_format="float")
    packed = client.embeddings.create(model="fake", input=["one", "two"])  # the package asks for base64
    assert len(plain.data) == 2 and abs(math.fsum(v * v for v in plain.data[0].embedding) - 1) < 1e-5
    assert all(abs(a - b) < 1e-6 for a, b in zip(plain.data[1].embedding, packed.data[1].embedding)) and plain.data[0].embedding != plain.data[1].embedding
    status, raw = s.post("/v1/embeddings", {"input": [3, 4, 5], "encoding_format": "base64", "pooling": "mean"})
    assert status == 200 and len(struct.unpack("<16f", base64.b64decode(raw["data"][0]["embedding"]))) == 16
    response = client.responses.create(model="fake", input="SAY:a response|", instructions="be", metadata={"k": "v"})
    assert response.output_text == "a response" and response.status == "completed" and response.metadata == {"k": "v"} and response.usage.output_tokens == 11
    kinds = []
    with client.responses.stream(model="fake", input=[{"role": "user", "content": "SAY:streamed|"}]) as stream:
        kinds = [e.type for e in stream]
        assert stream.get_final_response().output_text == "streamed"
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed" and kinds.count("response.output_text.delta") == 8
    carried = client.responses.create(model="fake", input=[{"role": "user", "content": "x"}, *[o.model_dump(exclude_none=True) for o in response.output], {"role": "user", "content": "SAY:b|"}])
    assert carried.output_text == "b"
    assert expect(openai.BadRequestError, lambda: client.chat.completions.create(model="fake", messages=ask, extra_body={"wrong_field": 1}), "wrong_field").body["code"] == "unknown_parameter"
    expect(openai.NotFoundError, lambda: client.chat.completions.create(model="nope", messages=ask), "nope")
    expect(openai.BadRequestError, lambda: client.chat.completions.create(model="fake", messages=[]), "messages")
    expect(openai.InternalServerError, lambda: client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "FAULT SAY:abcdef|"}]), "fake:1")
    broken = client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "FAULT SAY:abcdef|"}], stream=True)
    expect(openai.APIError, lambda: list(broken), "fake:1")


def tools_with_openai(s):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="unused", max_retries=0)
    tools = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": WEATHER, "strict": True}}]
    ask = [{"role": "user", "content": SAID_CALL}]
    whole = client.chat.completions.create(model="fake", messages=ask, tools=tools, parallel_tool_calls=False).choices[0]
    call = whole.message.tool_calls[0]
    assert whole.finish_reason == "tool_calls" and call.function.name == "weather" and json.loads(call.function.arguments) == CALL and whole.message.content == "Let me see."
    kinds = []
    with client.chat.completions.stream(model="fake", messages=ask, tools=tools) as stream:
        kinds = [e.type for e in stream]
        final = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.done" in kinds and final.tool_calls[0].function.parsed_arguments == CALL
    result = [*ask, whole.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "4"}, {"role": "user", "content": "SAY:warm|"}]
    assert client.chat.completions.create(model="fake", messages=result, tools=tools, tool_choice="none").choices[0].message.content == "warm"
    forced = client.chat.completions.create(model="fake", messages=[{"role": "user", "content": f'SAY:{json.dumps({"name": "weather", "arguments": CALL})}|'}], tools=tools,
                                            tool_choice={"type": "function", "function": {"name": "weather"}}).choices[0]
    assert json.loads(forced.message.tool_calls[0].function.arguments) == CALL and forced.finish_reason == "tool_calls"
    parsed = client.chat.completions.parse(model="fake", messages=[{"role": "user", "content": f"SAY:{json.dumps(CALL)}|"}], response_format=Weather)
    assert parsed.choices[0].message.parsed == Weather(**CALL)
    flat = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}]
    output = client.responses.create(model="fake", input=SAID_CALL, tools=flat).output
    assert [o.type for o in output] == ["message", "function_call"] and json.loads(output[1].arguments) == CALL
    with client.responses.stream(model="fake", input=SAID_CALL, tools=flat) as stream:
        kinds = [e.type for e in stream]
    assert kinds.count("response.output_item.added") == 2 and "response.function_call_arguments.done" in kinds
    carried = client.responses.create(model="fake", tools=flat, input=[{"role": "user", "content": "x"}, *[o.model_dump(exclude_none=True) for o in output],
                                                                       {"type": "function_call_output", "call_id": output[1].call_id, "output": "4"}, {"role": "user", "content": "SAY:done|"}])
    assert carried.output_text == "done"
    assert client.responses.parse(model="fake", input=f"SAY:{json.dumps(CALL)}|", text_format=Weather).output_parsed == Weather(**CALL)
    thought = client.responses.create(model="fake", input="SAY:<think>hm</think>yes|", reasoning={"effort": "low", "summary": "auto"})
    assert [o.type for o in thought.output] == ["reasoning", "message"] and thought.output_text == "yes"
    cut = client.chat.completions.create(model="fake", messages=ask, tools=tools, max_completion_tokens=60).choices[0]
    assert cut.finish_reason == "length" or "warning" in cut.model_extra, "a call that was cut off is told"


def with_anthropic(s):
    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{s.port}", api_key="unused", max_retries=0)
    ask = [{"role": "user", "content": [{"type": "text", "text": "SAY:hi you|", "cache_control": {"type": "ephemeral"}}]}]
    whole = client.messages.create(model="fake", max_tokens=100, system="be", messages=ask, metadata={"user_id": "u"})
    assert whole.content[0].text == "hi you" and whole.stop_reason == "end_turn" and whole.usage.output_tokens == 7
    with client.messages.stream(model="fake", max_tokens=3, messages=ask) as stream:
        assert "".join(stream.text_stream) == "hi " and stream.get_final_message().stop_reason == "max_tokens"
    stopped = client.messages.create(model="fake", max_tokens=100, messages=ask, stop_sequences=["zz", "hj", " y", "ou"])
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == " y"
    assert client.messages.count_tokens(model="fake", messages=ask).input_tokens == whole.usage.input_tokens - len("<system>be\n")
    tools = [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}]
    history = [*ask, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
               {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "4"}]}, {"type": "text", "text": "SAY:fine|"}]}]
    assert client.messages.create(model="fake", max_tokens=100, messages=history, tools=tools).content[0].text == "fine"
    assert [m.id for m in client.models.list()] == ["fake"]
    expect(anthropic.BadRequestError, lambda: client.messages.create(model="fake", max_tokens=0, messages=ask), "max_tokens")
    expect(anthropic.NotFoundError, lambda: client.messages.create(model="claude", max_tokens=1, messages=ask), "claude")
    image = [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}]}]
    expect(anthropic.BadRequestError, lambda: client.messages.create(model="fake", max_tokens=1, messages=image), "image")


def tools_with_anthropic(s):
    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{s.port}", api_key="unused", max_retries=0)
    tools = [{"name": "weather", "description": "d", "input_schema": WEATHER, "strict": True}]
    ask = [{"role": "user", "content": SAID_CALL}]
    whole = client.messages.create(model="fake", max_tokens=200, messages=ask, tools=tools)
    assert whole.stop_reason == "tool_use" and [b.type for b in whole.content] == ["text", "tool_use"] and whole.content[1].input == CALL
    with client.messages.stream(model="fake", max_tokens=200, messages=ask, tools=tools) as stream:
        kinds = [e.type for e in stream]
        assert stream.get_final_message().content[1].input == CALL and "input_json" in kinds
    forced = client.messages.create(model="fake", max_tokens=200, messages=[{"role": "user", "content": f'SAY:{json.dumps({"name": "weather", "arguments": CALL})}|'}], tools=tools, tool_choice={"type": "any"})
    assert forced.content[0].input == CALL
    back = [*ask, {"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in whole.content]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": whole.content[1].id, "content": "4", "is_error": False}, {"type": "text", "text": "SAY:warm|"}]}]
    assert client.messages.create(model="fake", max_tokens=200, messages=back, tools=tools).content[0].text == "warm"
    thought = client.messages.create(model="fake", max_tokens=200, thinking={"type": "enabled", "budget_tokens": 1024}, messages=[{"role": "user", "content": "SAY:hm</think>yes|"}])
    assert [b.type for b in thought.content] == ["thinking", "text"]
    with client.messages.stream(model="fake", max_tokens=200, thinking={"type": "enabled", "budget_tokens": 1024}, messages=[{"role": "user", "content": "SAY:hm</think>yes|"}]) as stream:
        assert {"thinking", "text"} <= {e.type for e in stream}
    broken = client.messages.create(model="fake", max_tokens=200, messages=[{"role": "user", "content": "FAULT SAY:abcdef|"}], stream=True)
    expect(anthropic.APIError, lambda: list(broken), "fake:1")


def with_curl(s):
    """As people try a server out: -d without a content type, -N for streams, wrong methods and paths."""
    def curl(*options):
        return subprocess.run(["curl", "-sS", "--max-time", "20", *options], capture_output=True, text=True, check=True).stdout
    at = f"http://127.0.0.1:{s.port}"
    chat = {"messages": [{"role": "user", "content": "SAY:Héllo|"}], "seed": 1}
    assert json.loads(curl(f"{at}/v1/chat/completions", "-d", json.dumps(chat)))["choices"][0]["message"]["content"] == "Héllo"
    assert curl("-N", f"{at}/v1/chat/completions", "-d", json.dumps({**chat, "stream": True, "stream_options": {"include_usage": True}})).endswith("data: [DONE]\n\n")
    assert json.loads(curl(f"{at}/v1/completions", "-d", '{"prompt": "x", "max_tokens": 3, "seed": 2}'))["choices"][0]["finish_reason"] == "length"
    assert json.loads(curl(f"{at}/v1/messages", "-H", "anthropic-version: 2023-06-01", "-d", json.dumps({"max_tokens": 9, "messages": chat["messages"]})))["content"][0]["text"] == "Héllo"
    assert json.loads(curl(f"{at}/v1/responses", "-d", '{"input": "SAY:yes|"}'))["output"][0]["content"][0]["text"] == "yes"
    assert json.loads(curl(f"{at}/tokenize", "-d", '{"content": "ab", "add_special": true}'))["tokens"] == [1, 99, 100]
    assert json.loads(curl(f"{at}/detokenize", "-d", '{"tokens": [99, 100]}'))["content"] == "ab"
    assert "SAY" in json.loads(curl(f"{at}/apply-template", "-d", json.dumps({"messages": chat["messages"]})))["prompt"]
    assert json.loads(curl(f"{at}/health"))["status"] == "ok" and "fake" in curl(f"{at}/v1/models") and "not_found" in curl(f"{at}/v2/models")
    assert "temperature" in json.loads(curl(f"{at}/v1/chat/completions", "-d", json.dumps({**chat, "temperature": "hot"})))["error"]["message"]
    assert "method_not_allowed" in curl(f"{at}/v1/chat/completions")


def with_keys(command, folder):
    keys = folder / "keys"
    keys.write_text("# one a line\nsecret-key-one\nsecret-key-two  second\n")
    with Server(command, "--api-key-file", str(keys)) as s:
        good = openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="secret-key-two", max_retries=0)
        bad = openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="secret-key-tw", max_retries=0)
        assert [m.id for m in good.models.list()] == ["fake"]
        expect(openai.AuthenticationError, lambda: bad.models.list(), "API key")
        expect(anthropic.AuthenticationError, lambda: anthropic.Anthropic(base_url=f"http://127.0.0.1:{s.port}", api_key="x", max_retries=0).models.list(), "API key")
        assert anthropic.Anthropic(base_url=f"http://127.0.0.1:{s.port}", api_key="secret-key-one").models.list().data[0].id == "fake"
        assert s.get("/health")[0] == 200 and s.get("/metrics")[0] == 401


def main():
    import tempfile
    with Server([sys.argv[1], "fake"]) as s:
        for name, version, judge, parts in (("openai", openai.__version__, shapes.openai_shape, (with_openai, tools_with_openai)), ("anthropic", anthropic.__version__, shapes.anthropic_shape, (with_anthropic, tools_with_anthropic))):
            with Recorder(s) as heard:
                for part in parts:
                    part(heard)
                checked = sum(judge(exchange) for exchange in heard.exchanges)
                assert checked > 20, "answers and events held against the published types"
                if "--record" in sys.argv:
                    heard.keep(pathlib.Path(__file__).parent / "sessions" / f"{name}.json", f"{name} {version}")
            print(f"{name} {version} ok: {len(heard.exchanges)} exchanges, {checked} objects of the published shapes", flush=True)
        with Recorder(s) as heard:
            with_curl(heard)
            if "--record" in sys.argv:
                heard.keep(pathlib.Path(__file__).parent / "sessions" / "curl.json", subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split(" (")[0])
            print(f"curl ok: {len(heard.exchanges)} exchanges", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        with_keys([sys.argv[1], "fake"], pathlib.Path(folder))
    print("keys ok")


if __name__ == "__main__":
    main()
