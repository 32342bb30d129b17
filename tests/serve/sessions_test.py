#!/usr/bin/env python3
"""What official clients and curl said, said again: sessions/*.json (clients_test.py --record) against the server of today, answer for answer. sessions_test.py SERVE_FAKE

Bodies are compared as text after ids, times and durations were taken out, so a field that is lost, added, renamed or moved fails here; when that is meant, record again and look at the difference."""
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


def main():
    failed = count = 0
    for path in sorted((HERE / "sessions").glob("*.json")):
        session = json.loads(path.read_text())
        with Server([sys.argv[1], "fake"]) as s:
            for number, e in enumerate(session["exchanges"]):
                count += 1
                status, data, headers = s.request(e["method"], e["path"], e["body"].encode() if e["method"] == "POST" else None, e["headers"])
                found = data.decode()
                wrong = f"status {e['status']}, found {status}: {found[:200]}" if status != e["status"] else f"type {e['type']}, found {headers['content-type']}" if headers["content-type"] != e["type"] else None
                if not wrong and steady(found) != steady(e["answer"]):
                    wrong = difference(steady(e["answer"]), steady(found))
                if wrong:
                    failed += 1
                    print(f"FAIL {session['client']}, exchange {number}, {e['path']}: {wrong}")
        print(f"{session['client']}: {len(session['exchanges'])} exchanges", flush=True)
    assert count > 50
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
