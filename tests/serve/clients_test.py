#!/usr/bin/env python3
"""The official openai and anthropic packages against the server (fake engine). clients_test.py SERVE_FAKE; skipped, and says so, without the packages."""
import base64
import math
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from served import Server  # noqa: E402

try:
    import anthropic
    import openai
except ImportError as missing:
    print(f"skipped: {missing}; see tests/requirements.txt")
    sys.exit(77)


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
    done = client.completions.create(model="fake", prompt=["a", "b"], n=2, max_tokens=3, logprobs=1, echo=True)
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
    expect(openai.InternalServerError, lambda: client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "FAULT"}]), "fake:1")
    broken = client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "FAULT"}], stream=True)
    expect(openai.APIError, lambda: list(broken), "fake:1")


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
        with_openai(s)
        print("openai", openai.__version__, "ok")
        with_anthropic(s)
        print("anthropic", anthropic.__version__, "ok")
    with tempfile.TemporaryDirectory() as folder:
        with_keys([sys.argv[1], "fake"], pathlib.Path(folder))
    print("keys ok")


if __name__ == "__main__":
    main()
