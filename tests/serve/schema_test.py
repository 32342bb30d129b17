#!/usr/bin/env python3
"""Requests drawn from the served OpenAPI description by schemathesis: what the description allows is accepted, what it forbids is refused with 4xx, every status and type is one that it names,
no method is left unanswered, nothing is a 500. schema_test.py SERVE_FAKE [SECONDS [SEED]]

Three kinds of rules are not in the description, and a request that breaks one may be refused although it fits: those between fields, those about this model (its vocabulary and context),
and that U+0000 is no text. They are listed in UNSAID by the sentences that name them. This file is its own hook for schemathesis (SCHEMATHESIS_HOOKS)."""
import json
import os
import pathlib
import random
import re
import subprocess
import sys

UNSAID = [re.compile(p) for p in (
    r"expected one grammar, found another in", r"expected the same as max_tokens", r"expected logprobs to be true with it", r"expected tools (with|to choose from)", r"expected the name of one of the tools",
    r"expected no \w+ beside a call", r"expected at most \d+ completions of one request", r"token ids (as names )?from 0 to", r"token ids from 0 to \d+ as names", r"dimensions: expected \d+, the model's width",
    r"expected at most \d+ tokens \(the context\)", r"input: expected at least one item, found none", r"expected once, found twice", r"the character U\+0000",
)]


def hook():
    import schemathesis

    @schemathesis.hook
    def before_call(ctx, case, kwargs):
        """Most drawn names of models are nobody's: the answer would be 404 before anything else is looked at."""
        positive = case.meta and case.meta.generation.mode == schemathesis.GenerationMode.POSITIVE
        if positive and isinstance(case.body, dict) and isinstance(case.body.get("model"), str) and len(case.body["model"]) != 3:
            case.body["model"] = "fake"

    @schemathesis.check
    def accepted(ctx, response, case):
        """What fits the description gets no 400, but for what it cannot say."""
        mode = case.meta.generation.mode if case.meta else None
        if mode != schemathesis.GenerationMode.POSITIVE or response.status_code != 400:
            return
        message = json.loads(response.content)["error"]["message"]
        assert any(p.search(message) for p in UNSAID), f"fits the description and was refused: {message}"


def main():
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    from served import Server
    seconds = sys.argv[2] if len(sys.argv) > 2 else "90"
    seed = sys.argv[3] if len(sys.argv) > 3 else str(random.randrange(1 << 30))
    tool = pathlib.Path(sys.executable).parent / "schemathesis"
    print(f"seed {seed}, {seconds} s", flush=True)
    with Server([sys.argv[1], "fake"], "--quiet", env={"FAKE_STEP_US": "20"}) as s:
        run = subprocess.run([tool, "run", f"http://127.0.0.1:{s.port}/openapi.json", "--phases", "coverage,fuzzing", "--include-path-regex", "^/(v1|tokenize|detokenize|apply|health|metrics|props|slots|state)",
                              "--exclude-checks", "positive_data_acceptance,allow_header_conformance", "--max-time", seconds, "--seed", seed, "--continue-on-failure", "--no-color", "--request-timeout", "20",
                              "--generation-database", "none"],
                             env={**os.environ, "SCHEMATHESIS_HOOKS": str(pathlib.Path(__file__).resolve())}, capture_output=True, text=True)
        if run.returncode:
            print(run.stdout[-20000:], run.stderr[-4000:], sep="\n")
            return 1
        answers = {k: int(v) for k, v in s.metrics().items() if k.startswith("tandem_http_responses_total")}
        code = lambda n: answers.get(f'tandem_http_responses_total{{code="{n}"}}', 0)  # noqa: E731
        assert code(200) > 500 and code(400) > 500 and not code(500), f"expected many of both kinds: {answers}"
        assert s.post("/v1/completions", {"prompt": "SAY:well|"})[1]["choices"][0]["text"] == "well"
        print("ok  ", ", ".join(f"{n} {code(n)}" for n in (200, 400, 404, 405)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
elif "schemathesis" in sys.modules:
    hook()
