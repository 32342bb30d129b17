"""Answers against the types of the official packages: every published field that is required is there, every field has its type, and what is more is an addition that docs/api.md names."""
import json

import anthropic.types
import openai.types
import openai.types.chat
import openai.types.responses
import pydantic
from openai.types.shared import ErrorObject

# Additions of this server (most are llama-server's); everything else that the packages do not know is a mistake.
ADDED = {"timings", "reasoning_content", "warning", "prompt_progress", "tokens", "id", "queue_ms", "request_id", "system_fingerprint", "pooling", "store"}
MODELS_ADDED = {"type", "display_name", "created_at", "object", "created", "owned_by", "meta", "models", "has_more", "first_id", "last_id", "max_model_len", "lifecycle", "max_input_tokens", "max_tokens"}


def extras(value, at=""):
    """Paths of what the published types do not have."""
    if isinstance(value, pydantic.BaseModel):
        for name in value.model_extra or {}:
            yield f"{at}.{name}"
        for name in type(value).model_fields:
            yield from extras(getattr(value, name, None), f"{at}.{name}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from extras(item, f"{at}[]")


def check(kind, data, allowed=ADDED):
    found = pydantic.TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
    wrong = [e for e in extras(found) if e.rsplit(".", 1)[1] not in allowed]
    assert not wrong, f"{wrong} are not published: {data}"
    return 1


def events(text):
    """(name, data) of a stream's events."""
    name = None
    for line in text.splitlines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: ") and line != "data: [DONE]":
            yield name, json.loads(line[6:])
        elif not line:
            name = None


def with_first(data):
    """With echo the first prompt token has no probability: null, as OpenAI answers, though its type has no null."""
    for choice in data.get("choices", []):
        lp = choice.get("logprobs") or {}
        for name, stand_in in (("token_logprobs", 0.0), ("top_logprobs", {})):
            if lp.get(name) and lp[name][0] is None:
                lp[name][0] = stand_in
    return data


def openai_shape(e):
    """How many objects of an exchange were checked."""
    path, streams = e["path"].split("?")[0], e["type"].startswith("text/event-stream")
    if e["status"] >= 400:
        return check(ErrorObject, json.loads(e["answer"])["error"], set())
    if path == "/v1/models":
        return sum(check(openai.types.Model, m, MODELS_ADDED) for m in json.loads(e["answer"])["data"])
    whole, part = {"/v1/chat/completions": (openai.types.chat.ChatCompletion, openai.types.chat.ChatCompletionChunk), "/v1/completions": (openai.types.Completion, openai.types.Completion),
                   "/v1/embeddings": (openai.types.CreateEmbeddingResponse, None), "/v1/responses": (openai.types.responses.Response, openai.types.responses.ResponseStreamEvent)}[path]
    if not streams:
        data = json.loads(e["answer"])
        if path == "/v1/embeddings" and isinstance(data["data"][0]["embedding"], str):  # base64, which the published type leaves out
            data["data"] = [{**d, "embedding": [0.0]} for d in data["data"]]
        return check(whole, with_first(data))
    count = 0
    for name, data in events(e["answer"]):
        if "error" in data and "choices" not in data and path != "/v1/responses":
            count += check(ErrorObject, data["error"], set())
            continue
        if path == "/v1/responses":
            assert name == data["type"], (name, data["type"])
        for choice in data.get("choices", []) if path == "/v1/completions" else []:
            choice["finish_reason"] = choice["finish_reason"] or "stop"  # null until the last, as OpenAI streams it, though its type has no null
        count += check(part, with_first(data))
    return count


def anthropic_shape(e):
    path, streams = e["path"].split("?")[0], e["type"].startswith("text/event-stream")
    if e["status"] >= 400:
        return check(anthropic.types.ErrorResponse, json.loads(e["answer"]))
    if path == "/v1/models":
        return sum(check(anthropic.types.ModelInfo, m, MODELS_ADDED) for m in json.loads(e["answer"])["data"])
    if path.endswith("count_tokens"):
        return check(anthropic.types.MessageTokensCount, json.loads(e["answer"]))
    if not streams:
        return check(anthropic.types.Message, json.loads(e["answer"]))
    count = 0
    for name, data in events(e["answer"]):
        assert name == data["type"], (name, data)
        count += 1 if name == "ping" else check(anthropic.types.ErrorResponse if name == "error" else anthropic.types.RawMessageStreamEvent, data)
    return count
