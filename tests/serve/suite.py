"""What the tests over the fake engine share: how they are listed and run, what is asked, a stream put together again."""
import pathlib
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from served import Server  # noqa: E402, F401

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
            traceback.print_exc()
            print(f"FAIL {function.__name__}: {error!r}", flush=True)
    print(f"{len(TESTS) - failed} of {len(TESTS)} passed")
    return 1 if failed else 0
