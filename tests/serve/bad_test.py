#!/usr/bin/env python3
"""Bad requests as data: bad/*.json holds request, expected status, expected JSON subset, words the sentence must hold. bad_test.py SERVE_FAKE

A case has "path" and one of: body (JSON), raw (text), hex (bytes), repeat [before, text, times, after], repeat2 (the same with a second repetition);
or "bytes": a whole HTTP exchange, whose status 0 means: the connection is closed without an answer. Afterwards the server must still be well."""
import json
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
from served import Server  # noqa: E402


def body_of(case):
    if "body" in case:
        return json.dumps(case["body"]).encode()
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    if "repeat" in case:
        before, text, times, after = case["repeat"]
        return (before + text * times + after).encode()
    if "repeat2" in case:
        before, text, times, between, text2, times2, after = case["repeat2"]
        return (before + text * times + between + text2 * times2 + after).encode()
    return case["raw"].encode()


def missing(expected, found, at=""):
    """What of the expected subset is not there."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return f"{at}: expected an object, found {found!r}"
        for key, value in expected.items():
            if key not in found:
                return f"{at}.{key}: absent"
            if wrong := missing(value, found[key], f"{at}.{key}"):
                return wrong
        return None
    return None if expected == found else f"{at}: expected {expected!r}, found {found!r}"


def judge(case, status, data):
    if status != case["status"]:
        return f"expected status {case['status']}, found {status}: {data[:200]!r}"
    answer = json.loads(data)
    if wrong := missing(case.get("expect", {}), answer):
        return f"{wrong}: {data[:300]!r}"
    sentence = answer["error"]["message"]
    for word in case.get("says", []):
        if word not in sentence:
            return f"expected {word!r} in {sentence!r}"
    if not sentence or "\n" in sentence or len(sentence) > 900:
        return f"expected one clear sentence, found {sentence!r}"
    return None


def judge_raw(case, got):
    status = int(got.split(b" ", 2)[1]) if got.startswith(b"HTTP/") else 0
    wanted = case["status"] if isinstance(case["status"], list) else [case["status"]]
    if status not in wanted:
        return f"expected status {wanted}, found {status}: {got[:200]!r}"
    if got.count(b"HTTP/1.1 2") and case["status"] != status and got.count(b"HTTP/1.") > 1:
        return f"expected one answer, found several: {got[:400]!r}"
    return None


def main():
    failed = count = 0
    with Server([sys.argv[1], "fake"], "--idle", "2") as s:
        for path in sorted((HERE / "bad").glob("*.json")):
            for case in json.loads(path.read_text()):
                count += 1
                try:
                    if "bytes" in case:
                        wrong = judge_raw(case, s.raw(case["bytes"].encode("latin-1"), timeout=6, shut=True))
                    else:
                        wrong = judge(case, *s.request("POST", case["path"], body_of(case), {"Content-Type": "application/json"})[:2])
                except Exception as error:  # noqa: BLE001
                    wrong = repr(error)
                if wrong:
                    failed += 1
                    print(f"FAIL {path.stem}: {case['name']}: {wrong}", flush=True)
        status, answer = s.post("/v1/completions", {"prompt": "SAY:well|"})
        if status != 200 or answer["choices"][0]["text"] != "well":
            failed += 1
            print(f"FAIL afterwards the server is not well: {status} {answer}")
        values = s.metrics()
        for _ in range(100):  # requests whose clients left are cancelled within a step, which on a busy machine may take a while
            if not values["tandem_requests_running"]:
                break
            time.sleep(0.05)
            values = s.metrics()
        if values["tandem_requests_running"] or values.get('tandem_http_responses_total{code="500"}'):
            failed += 1
            print("FAIL afterwards something still runs, or a 500 was given")
        code = s.stop()
        if code != 0:
            failed += 1
            print(f"FAIL exit status {code}")
    print(f"{count - failed} of {count} bad requests were answered as written")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
