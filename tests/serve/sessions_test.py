#!/usr/bin/env python3
"""What official clients and curl said, said again: sessions/*.json (clients_test.py --record) against the server of today, answer for answer. sessions_test.py SERVE_FAKE [--described]

Bodies are compared as text after ids, times and durations were taken out, so a field that is lost, added, renamed or moved fails here; when that is meant, record again and look at the
difference. With --described (needs the package jsonschema) every answer, and every event of a stream, must also be as the served OpenAPI description says."""
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from served import Server  # noqa: E402

VOLATILE = ((r'"(chatcmpl|cmpl|resp|msg|call|toolu|req|rs|fc|emb|embd)([-_])[a-z0-9]{10,}"', r'"\1\2*"'), (r'"(created|created_at|time|completed_at)": ?(\d+(\.\d+)?|"[-0-9T:Z]+")', r'"\1":0'),
            (r'"(\w+_ms|\w+_per_second)": ?[-0-9.e+]+', r'"\1":0'))


def steady(text):
    for pattern, stand_in in VOLATILE:
        text = re.sub(pattern, stand_in, text)
    return text


def difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"recorded ...{a[max(0, at - 60):at + 80]!r}, found ...{b[max(0, at - 60):at + 80]!r}"


def described(description, e, text):
    """What the served description says of such an answer and this one does not keep, or None; and how many objects were looked at."""
    import jsonschema
    operation = description["paths"].get(e["path"].split("?")[0], {}).get(e["method"].lower())
    content = (operation or {}).get("responses", {}).get(str(e["status"]), {}).get("content", {}).get(e["type"].split(";")[0])
    if content is None:
        return None, 0
    schema = content.get("schema") or content.get("x-event-data")
    if not schema:
        return None, 0
    validator = jsonschema.Draft202012Validator({**schema, "components": description["components"]})
    parts = [text] if "schema" in content else [line[6:] for line in text.splitlines() if line.startswith("data: {")]
    for part in parts:
        if '"error":{"message"' in part and "schema" not in content:
            continue  # a stream that broke says so in the shape of errors
        for error in validator.iter_errors(json.loads(part)):
            return f"not as described, at {'.'.join(map(str, error.absolute_path))}: {error.message[:200]}: {part[:300]}", len(parts)
    return None, len(parts)


def main():
    failed = count = looked_at = 0
    describe = "--described" in sys.argv
    for path in sorted((HERE / "sessions").glob("*.json")):
        session = json.loads(path.read_text())
        with Server([sys.argv[1], "fake"]) as s:
            description = json.loads(s.get("/openapi.json")[1])
            for number, e in enumerate(session["exchanges"]):
                count += 1
                status, data, headers = s.request(e["method"], e["path"], e["body"].encode() if e["method"] == "POST" else None, e["headers"])
                found = data.decode()
                wrong = f"status {e['status']}, found {status}: {found[:200]}" if status != e["status"] else f"type {e['type']}, found {headers['content-type']}" if headers["content-type"] != e["type"] else None
                if not wrong and steady(found) != steady(e["answer"]):
                    wrong = difference(steady(e["answer"]), steady(found))
                if not wrong and describe:
                    wrong, objects = described(description, e, found)
                    looked_at += objects
                if wrong:
                    failed += 1
                    print(f"FAIL {session['client']}, exchange {number}, {e['path']}: {wrong}")
        print(f"{session['client']}: {len(session['exchanges'])} exchanges", flush=True)
    assert count > 50 and (looked_at > 200 or not describe), (count, looked_at)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
