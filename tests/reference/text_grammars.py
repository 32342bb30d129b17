#!/usr/bin/env python3
"""Constrained sampling against independent judges: random JSON schemas (every drawn text must satisfy the jsonschema package), random regular expressions
(Python's re: every drawn text matches, and texts are accepted exactly when re accepts them).   text_grammars.py BUILD_DIR [SEED [SECONDS]]"""
import json
import pathlib
import random
import re
import signal
import sys
import time

import jsonschema

from text_probe import Failed, Probe

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NAMES = ["a", "b", "ab", "name", "kind", "é", "x y", "a-b"]


SPACES = "\\t-\\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"


def ecma(pattern):
    """ECMA-262's meaning for Python's re: \\d and \\w are ASCII, \\s is not."""
    made, in_class = "", False
    for part in re.findall(r"\\.|.", pattern, re.S):
        in_class = part == "[" or (in_class and part != "]")
        made += part if part not in ("\\s", "\\S") else (SPACES if in_class else f"[{SPACES}]") if part == "\\s" else f"[^{SPACES}]"
    return made


def search(validator, pattern, instance, _):
    if isinstance(instance, str) and not re.search(ecma(pattern), instance, re.ASCII):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


Judge = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": search})


def schema(rng, depth=0):
    kind = rng.randrange(15 if depth < 3 else 8)
    if kind == 0:
        return {"type": rng.choice(["string", "boolean", "null", "integer", "number"])}
    if kind == 1:
        low = rng.randrange(4)
        return {"type": "string", **rng.choice([{"minLength": low}, {"maxLength": low + 3}, {"minLength": low, "maxLength": low + rng.randrange(5)}])}
    if kind in (2, 3):
        low = rng.choice([0, 1, -1, 5, -17, 99, 100, 1000, -1000, 123456, rng.randrange(-10**6, 10**6)])
        high = low + rng.choice([0, 1, 2, 9, 10, 11, 99, 1000, rng.randrange(10**6)])
        bounds = rng.choice([{"minimum": low}, {"maximum": high}, {"minimum": low, "maximum": high}, {"exclusiveMinimum": low, "exclusiveMaximum": high + 2}, {"exclusiveMinimum": low}, {"exclusiveMaximum": high}, {"minimum": low, "exclusiveMaximum": high + 1}])
        return {"type": rng.choice(["integer", "number"]), **bounds}
    if kind == 4:
        values = rng.sample([1, "1", "a", "é\n", None, True, False, 2.5, -3, [], [1], {"a": 1}, "", "\"q\"", "\\"], rng.randrange(1, 5))
        return rng.choice([{"enum": values}, {"const": values[0]}, {"enum": values + [7], "type": ["integer", "string"]}])
    if kind == 5:
        return {"type": "string", "pattern": rng.choice([regex(rng, 2), "^" + regex(rng, 2) + "$", "^(" + regex(rng, 2) + ")", "[^a-z]{2}", "^[A-Z][a-z]+( [A-Z][a-z]+)*$", r"^\d{4}-\d{2}$", r"^[^\s\"]+$", r"^\w+\\\w$"])}
    if kind == 6:
        return {"type": "string", "format": rng.choice(["date", "time", "date-time", "uuid", "ipv4", "email"])}
    if kind == 7:
        return rng.choice([True, {}, {"$ref": "#/$defs/tree"}, {"$ref": "#/$defs/small"}, {"description": "any"}])
    if kind == 8:
        low = rng.randrange(3)
        return {"type": "array", **({"items": schema(rng, depth + 1)} if rng.random() < 0.8 else {}), **rng.choice([{}, {"minItems": low}, {"maxItems": low + 1}, {"minItems": low, "maxItems": low + 2}])}
    if kind == 9:
        return {"type": "array", "prefixItems": [schema(rng, depth + 1) for _ in range(rng.randrange(1, 4))], **rng.choice([{}, {"items": False}, {"items": schema(rng, depth + 1)}]), **rng.choice([{}, {"minItems": 1}, {"minItems": 2}])}
    if kind == 10:
        return {rng.choice(["anyOf", "oneOf"]): [schema(rng, depth + 1) for _ in range(rng.randrange(1, 4))], **rng.choice([{}, {}, {"type": ["object", "string", "integer"]}, {"title": "t"}])}
    if kind == 11:
        return {"allOf": [schema(rng, depth + 1) for _ in range(rng.randrange(1, 3))], **rng.choice([{}, {"required": ["a"]}, {"properties": {"a": {"type": "integer"}}}])}
    properties = {n: schema(rng, depth + 1) for n in rng.sample(NAMES, rng.randrange(0, 4))}
    made = {"type": "object", "properties": properties, "required": rng.sample(NAMES, rng.randrange(2)) + rng.sample(list(properties), rng.randrange(len(properties) + 1))}
    if rng.random() < 0.5:
        made["additionalProperties"] = rng.choice([False, True, schema(rng, depth + 1), {"type": "integer"}])
    if rng.random() < 0.2:
        made = {"type": "object", "additionalProperties": rng.choice([True, {"type": "integer"}]), **rng.choice([{"minProperties": 1}, {"maxProperties": 2}, {}])}
    return made


def regex(rng, depth=3):
    kind = rng.randrange(10 if depth else 4)
    if kind == 0:
        return rng.choice(["a", "b", "ab", "-", "_", "é", "中", "🙂", r"\.", r"\\", '"', r"\-", " ", ":", r"\x41", r"\u00e9", "/"])
    if kind in (1, 2):
        return rng.choice(["[a-c]", "[^a]", "[a-zA-Z_]", r"[\w.]", r"[^\d\s]", "[-a]", "[a-]", "[]a]", "[^]]", r"[\]\\]", "[é-ü]", r"[\"']", "[^\"\\\\]", "[+*?.]", "[中🙂]", r"[\x30-\x39]", r"[\D]"])
    if kind == 3:
        return rng.choice([r"\d", r"\w", r"\s", ".", r"\D", r"\W", r"\S"])
    if kind < 6:
        return "(" + rng.choice(["", "?:"]) + regex(rng, depth - 1) + ")" + rng.choice(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", ""])
    if kind == 6:
        return "(" + regex(rng, depth - 1) + "|" + regex(rng, depth - 1) + ")"
    return regex(rng, depth - 1) + regex(rng, depth - 1)


def near(rng, text):
    """The text, or a little beside it."""
    if not text or rng.random() < 0.3:
        return text
    at = rng.randrange(len(text))
    return rng.choice([text[:at] + text[at + 1:], text[:at] + rng.choice("ab-_1 é.\"\\\n") + text[at:], text + rng.choice("ab1"), text[:at]])


def check_schema(probe, rng, counts):
    one = schema(rng)
    if not isinstance(one, dict):
        return 0
    one = dict(one)
    one["$defs"] = {"tree": {"type": "object", "properties": {"v": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}}, "required": ["v"]}, "small": {"enum": ["x", 1]}}
    try:
        answer = probe.grammar("schema", json.dumps(one, ensure_ascii=False), draws=4, most=150, seed=rng.randrange(1 << 30))
    except Failed as refusal:
        counts["refused"] = counts.get("refused", 0) + 1
        reason = re.sub(r"'.*?'|\d+", "_", str(refusal))
        counts.setdefault("reasons", {}).setdefault(reason, []).append(one)
        if "probe:" in str(refusal):
            print("schema", json.dumps(one), refusal)
            return 1
        return 0
    counts["schemas"] = counts.get("schemas", 0) + 1
    counts["worst mask in us"] = max(counts.get("worst mask in us", 0), int(1e6 * answer["mask_worst"]))
    validator = Judge(one, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    for text in answer["texts"]:
        counts["texts"] = counts.get("texts", 0) + 1
        try:
            validator.validate(json.loads(text.decode("utf-8")))
        except (ValueError, jsonschema.ValidationError) as wrong:
            print("schema", json.dumps(one, ensure_ascii=False), "\n  text", text.decode("utf-8", "replace"), "\n ", str(wrong).split("\n")[0])
            return 1
    counts["endless"] = counts.get("endless", 0) + answer["endless"]
    return 0


def matches(compiled, text, seconds=2):
    """What re says; None when it does not say so in time: nested repetitions make it try exponentially many ways."""
    def stop(*_):
        raise TimeoutError
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return bool(compiled.fullmatch(text))
    except TimeoutError:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def check_regex(probe, rng, counts):
    pattern = regex(rng)
    try:
        answer = probe.grammar("regex", pattern, draws=3, most=60, seed=rng.randrange(1 << 30))
        drawn = [t.decode("utf-8") for t in answer["texts"]]
        texts = [near(rng, rng.choice(drawn)) if drawn else "a" for _ in range(6)]
        answers = probe.grammar("regex", pattern, texts=texts)["matches"]
    except Failed as refusal:
        counts["refused expressions"] = counts.get("refused expressions", 0) + 1
        if "no character" not in str(refusal) and "in order" not in str(refusal):
            print("regex", repr(pattern), refusal)
        return 0
    counts["expressions"] = counts.get("expressions", 0) + 1
    compiled = re.compile(pattern, re.ASCII)
    for text, found in list(zip(texts, answers)) + [(t, True) for t in drawn]:
        if "\x1c" in text:
            continue
        expected = matches(compiled, text)
        if expected is None:
            counts["too slow for the reference"] = counts.get("too slow for the reference", 0) + 1
        elif expected != found:
            print("regex", repr(pattern), "text", repr(text), "expected", not found)
            return 1
    return 0


def main():
    build, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 12
    print("seed", seed)
    probe, counts, wrong, end = Probe(build), {}, 0, time.time() + seconds
    with_end = json.dumps({"eos_token": "<|endoftext|>"})
    config = build / "text_grammars.config.json"
    config.write_text(with_end)
    probe.open(json=ROOT / "tests/data/text/llama3.tokenizer.json", config=config)
    rng = random.Random(seed)
    while time.time() < end and wrong < 10:
        wrong += check_schema(probe, rng, counts)
        if rng.random() < 0.5:
            wrong += check_regex(probe, rng, counts)
    reasons = counts.pop("reasons", {})
    if "-v" in sys.argv:
        for reason, examples in sorted(reasons.items(), key=lambda x: -len(x[1])):
            print(len(examples), reason, json.dumps(examples[0])[:200])
    print("grammars:", ", ".join(f"{n} {k}" for k, n in counts.items()), f"- {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
