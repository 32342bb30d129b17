#!/usr/bin/env python3
"""The program as a person uses it: run, chat on a pipe (terminal.py has it on a terminal), bench, doctor, perplexity with the shipped model. Standard library only."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TANDEM = os.environ.get("TD_BINARY", "build/tandem")
failures = 0


def check(what, fine, found=""):
    global failures
    print(("ok    " if fine else "FAIL  ") + what + ("" if fine else f": {found!r}"[:400]))
    failures += not fine


def run(*arguments, **more):
    return subprocess.run([TANDEM, *arguments], capture_output=True, timeout=120, **more)


def completions():
    first, again = run("run", "-p", "Once upon a time", "-n", "60", "--temp", "0"), run("run", "-p", "Once upon a time", "-n", "60", "--temp", "0")
    check("run streams text and ends well", first.returncode == 0 and len(first.stdout) > 50, first)
    check("the same request gives the same bytes", first.stdout == again.stdout, again.stdout)
    check("stdout holds the text only", b"tok" not in first.stdout and b"GB/s" not in first.stdout, first.stdout)
    check("statistics go to stderr", re.search(rb"generated 60 at [\d.]+/s;.* memory", first.stderr) is not None, first.stderr)
    longer = run("run", "-n", "400", "--ignore-eos", "--isa", "ref")
    check("a run that can be measured is compared with the machine", re.search(rb"weights read at [\d.]+ of [\d.]+ GB/s", longer.stderr) is not None, longer.stderr)
    one = run("run", "-p", "Once upon a time", "-n", "60", "--temp", "0", "--threads", "1", "--prefill-chunk", "1", "--isa", "ref")
    check("one thread, plain kernels, one token at a time: the same bytes", one.stdout == first.stdout, one.stdout)
    hot = [run("run", "-n", "60", "--temp", "1", "--seed", seed, "-q").stdout for seed in ("7", "7", "8")]
    check("a seed is honoured", hot[0] == hot[1] and hot[0] != hot[2], hot)
    stats = run("run", "-n", "20", "--json", "--ignore-eos")
    check("--json gives statistics a program reads", json.loads(stats.stderr)["generated_tokens"] == 20, stats.stderr)
    word = first.stdout.split()[7]
    stopped = run("run", "-p", "Once upon a time", "-n", "60", "--temp", "0", "--stop", word.decode(), "-q")
    check("a stop string ends the text before it", stopped.stdout == first.stdout.split(word)[0], stopped.stdout)
    quantised = run("run", "-n", "60", "--temp", "0", "--quant", "q8_0")
    check("--quant q8_0 runs", quantised.returncode == 0 and len(quantised.stdout) > 50, quantised)
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"Once \x00upon \xff\xfe a time \xf0\x9f")
        file.flush()
        odd = run("run", "-f", file.name, "-n", "10")
        check("a prompt with NUL and broken UTF-8 is a prompt", odd.returncode == 0, odd)


def sentence(done, *words):
    text = done.stderr.decode().strip()
    return done.returncode in (1, 2) and text.count("\n") == 0 and all(w in text for w in words)


def planning():
    with tempfile.TemporaryDirectory() as folder:
        def kept(name, data):
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(data if isinstance(data, bytes) else json.dumps(data).encode())
            return path

        plan = run("plan", "step3", "--hardware", "h20,h800", "--tpot", "50ms", "--json")
        best = json.loads(plan.stdout)["best"]
        check("plan --json has options of one attention instance", best["engine"]["requests_max"] == best["attention"][0]["batch_per_device"] * best["engine"]["micro_batches"], best)
        plain, with_plan = run("run", "-n", "20", "--temp", "0", "--kv", "q8_0"), run("run", "-n", "20", "--temp", "0", "--config", kept("plan.json", plan.stdout))
        check("run takes the planner's JSON, with the same bytes as the options it stands for", with_plan.returncode == 0 and plain.stdout == with_plan.stdout, with_plan)
        split = run("plan", "step3", "--hardware", "h20,h800", "--deploy", "a=8xh20,f=16xh800,m=3", "--json")
        path = kept("split.json", split.stdout)
        check("run takes a judged deployment", run("run", "-n", "5", "--config", path).returncode == 0, path)
        check("worker takes it, and goes on to what else it needs", sentence(run("worker", "--config", path, "--listen", "127.0.0.1:9", "--secret-file", "/nonexistent/key"), "/nonexistent/key"), path)
        check("a colocated plan has no worker", sentence(run("worker", "--config", kept("plan.json", plan.stdout), "--listen", "127.0.0.1:9", "--secret-file", "/nonexistent/key"), "worker"), path)
        for verb in ("serve", "run"):
            for bad, word in (({"engine": {"request_max": 4}}, "request_max"), ({"engine": {"requests_max": 5000}}, "1 to 1024"), ({"engine": {"micro_batches": 1.5}}, "micro_batches"), ({"best": {}}, "engine"), ({"engine": {"wire": 3}}, "wire"),
                              ({"engine": {"requests_max": "4"}}, "a string"), ([], "object"), (b"{", "line 1"), (b"", "line 1")):
                done = run(verb, "--config", kept("bad.json", bad))
                check(f"{verb} --config {bad}: one sentence", sentence(done, word), done)
        check("--config of a file that is not there", sentence(run("serve", "--config", os.path.join(folder, "none")), "none"), folder)
        rows = {"curves": [{"dtype": "bf16", "threads": 2, "rows": [1, 8, 512], "seconds_per_weight": [1e-10, 2e-10, 2e-9]}],
                "rows": [{"model": "qwen3-0.6b", "dtype": "bf16", "phase": p, "batch": b if p == "decode" else 1, "context": 100 * b, "threads": 2, "tokens_per_s": 20.0 * b} for p in ("decode", "prefill") for b in range(1, 9)]}
        fit = os.path.join(folder, "fit.json")
        done = run("plan", "--calibrate", fit, "--from", kept("rows.json", rows))
        check("plan --calibrate fits rows measured elsewhere", done.returncode == 0 and b"decode|bf16|colocated" in done.stdout, done)
        done = run("bench", "-n", "4", "-r", "1", "--threads", "2", "--predict", fit, "--json")
        check("bench --predict prints prediction beside measurement", done.returncode == 0 and all(0 < r["low"] <= r["predicted"] <= r["high"] for r in json.loads(done.stdout)), done)
        done = run("bench", "-n", "4", "-r", "1", "--threads", "1", "--predict", fit)
        check("bench --predict says what was not measured", done.returncode == 1 and b"1 threads" in done.stderr, done)
        for option, value in (("--context", "0"), ("--tpot", "0"), ("--devices-max", "0"), ("--devices-max", "1.5"), ("--tpot", "-5ms"), ("--tpot", "1e-300"), ("--context", "nan"), ("--rate", "0"), ("--requests", "1e99")):
            check(f"plan step3 {option} {value}: one sentence", sentence(run("plan", "step3", option, value), "expected", value), option)
        check("plan --calibrate without a file name", sentence(run("plan", "--calibrate", ""), "file"), fit)


def signals_and_pipes():
    pipe = subprocess.run(["sh", "-c", f"{TANDEM} run -n 2000 --ignore-eos -q | head -c 40"], capture_output=True, timeout=60)
    check("a reader that leaves ends the run", len(pipe.stdout) == 40, pipe)
    process = subprocess.Popen([TANDEM, "run", "-n", "1000000", "--ignore-eos", "--context", "2000000", "--kv-tokens", "200000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=20)
        check("^C ends a run with 130", process.returncode == 130, process.returncode)
    except subprocess.TimeoutExpired:
        process.kill()
        check("^C ends a run with 130", False, "still running")


def start_up():
    start = time.monotonic()
    run("run", "-n", "1", "-q")
    check("a second start takes under 2 s", time.monotonic() - start < 2.0, time.monotonic() - start)


def chat_on_pipe():
    talk = run("chat", "--temp", "0", input="What is 2 + 3?\n/clear\nWhat is 2 + 3?\n/quit\n".encode())
    answers = [line for line in talk.stdout.decode().split("\n") if line.strip()]
    check("chat answers on a pipe, and /clear begins anew", talk.returncode == 0 and len(answers) >= 2 and answers[0] == answers[-1], talk)


def full_context():
    ask = lambda words: run("chat", "--temp", "0", input=("tell me " + "story " * words + "\n").encode())
    long = re.search(r"at most (\d+) tokens \(the context\), found (\d+)", ask(3000).stderr.decode())
    limit, found = (int(n) for n in long.groups())
    tokens = found - int(re.search(r"found (\d+)", ask(2999).stderr.decode()).group(1))
    full = ask(3000 - (found - limit) // tokens - 2)
    check("chat says how long the context is that is full", full.returncode == 0 and f"the context of {limit} tokens is full" in full.stderr.decode(), full)


def missing_workers():
    with tempfile.TemporaryDirectory() as folder:
        key, text = os.path.join(folder, "key"), os.path.join(folder, "text")
        with open(key, "w") as file:
            file.write("0123456789abcdef0123456789abcdef")
        with open(text, "w") as file:
            file.write("Once upon a time, there was a little girl named Lucy. " * 5)
        nobody = ("--ffn", "127.0.0.1:9", "--secret-file", key, "--wait-for-workers", "100", "--json")
        done = run("perplexity", "", text, *nobody)
        check("perplexity without its workers ends with a sentence", done.returncode == 1 and b"127.0.0.1:9" in done.stderr and not done.stdout, done)
        here, fallback = (json.loads(run("perplexity", "", text, *more).stdout) for more in (["--json"], [*nobody, "--ffn-fallback"]))
        check("and with --ffn-fallback computes here", here["nll"] == fallback["nll"], (here, fallback))


def said(title, done, *words):
    check(title, done.returncode not in (0, -6, -11) and all(w.encode() in done.stderr for w in words) and done.stderr.strip().count(b"\n") <= 1, done)


def output_that_fails():
    for verb in (("--version",), ("--help",), ("tokenize", "", "-p", "hi"), ("tokenize", "", "--decode", "5,6"), ("run", "-p", "Once", "-n", "20", "-q"), ("inspect", "models/nano"), ("plan", "step3", "--cost", "--hardware", "h800")):
        with open("/dev/full", "w") as full:
            done = subprocess.run([TANDEM, *verb], stdout=full, stderr=subprocess.PIPE, timeout=60)
        said(f"a full disk under {' '.join(verb)} is told", done, "standard output", "No space left")


def nonsense():
    said("--trace wants workers", run("run", "-n", "1", "--trace", "/nonexistent/t.json"), "ffn")
    said("an id beyond the vocabulary", run("tokenize", "", "--decode", "1,999999"), "below", "999999")
    with tempfile.TemporaryDirectory() as folder:
        key = os.path.join(folder, "key")
        with open(key, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write("0123456789abcdef0123456789abcdef")
        said("convert to a type that nobody knows", run("convert", "models/nano", os.path.join(folder, "x.gguf"), "-q", "zork"), "q4_k", "zork")
        for port in ("0", "65536", "99999", "http", "-1"):
            said(f"port {port}", run("worker", "models/nano", "--listen", f"127.0.0.1:{port}", "--secret-file", key), "1 to 65535", port)
        for share in ("--experts", "--layers"):
            said(f"{share} of nothing", run("worker", "models/nano", "--listen", "127.0.0.1:9", "--secret-file", key, share, ""), share, "found nothing")
        said("a timeline that cannot be written", run("run", "-n", "1", "--trace", "/nonexistent/t.json", "--ffn", "127.0.0.1:9", "--secret-file", key), "/nonexistent/t.json")


def odd_names():
    with tempfile.TemporaryDirectory() as folder:
        odd = os.path.join(folder, 'a "model"\\ of mine')
        shutil.copytree("models/nano", odd)
        rows = run("bench", odd, "-n", "2", "-r", "1", "--prefill", "8", "--json")
        try:
            check("bench --json is JSON whatever the model is called", all(row["model"] == os.path.basename(odd) for row in json.loads(rows.stdout)), rows)
        except ValueError:
            check("bench --json is JSON whatever the model is called", False, rows)


def tools():
    doctor = json.loads(run("doctor", "--json").stdout)
    check("doctor --json", doctor["read_gb_per_s"] > 0 and doctor["cores"] >= 1, doctor)
    plain = json.loads(run("doctor", "--isa", "ref", "--json").stdout)
    check("doctor --isa measures the instructions named", plain["kernels"] == "ref" and (doctor["kernels"] == "ref" or 0 < plain["int8_gops"] < doctor["int8_gops"] / 2), (plain, doctor))
    said("doctor --isa with a name that is none", run("doctor", "--isa", "sse9"), "sse9", "ref, avx2")
    row = json.loads(run("bench", "", "--isa", "ref", "--tokens", "20", "--prefill", "8", "-r", "1", "--json").stdout)[-1]
    check("bench --isa: shares are of the peaks of these instructions", row["isa"] == "ref" and all(w["machine_gflop_per_s"] < 4 * max(plain["int8_gops"], plain["f32_gflops"]) for w in row["work"]), (row, plain))
    rows = json.loads(run("bench", "", "--batch", "1,2", "--context", "0,1024", "--tokens", "200", "--prefill", "32", "-r", "1", "--json").stdout)
    check("bench --json has a row for every case", len(rows) == 5 and all(row["tokens_per_s"] > 0 for row in rows), rows)
    check("classes of work share a step's time", all(abs(sum(w["share"] for w in row["work"]) - 1) < 0.01 for row in rows), rows)
    one, two, deep, _ = [{w["class"]: w for w in row["work"]} for row in rows[1:]]
    check("two rows are twice the operations of one, in every product", all(1.99 < two[c]["flops_per_step"] / one[c]["flops_per_step"] < 2.01 for c in ("projections", "ffn", "head")), (one, two))
    check("and read the same weights in projections and head", all(one[c]["bytes_per_step"] == two[c]["bytes_per_step"] > 0 for c in ("projections", "head")), (one, two))
    check("a longer context is more attention, nothing else", deep["attention"]["bytes_per_step"] > 5 * one["attention"]["bytes_per_step"]
          and deep["head"]["flops_per_step"] == one["head"]["flops_per_step"], (one, deep))
    small = json.loads(run("bench", "", "--batch", "1,2", "--context", "1024", "--prefill-chunk", "16", "--tokens", "40", "--prefill", "32", "-r", "1", "--json").stdout)
    alone, pair = (next(w for w in row["work"] if w["class"] == "projections")["flops_per_step"] for row in small[1:])
    check("small prompt chunks: rows are timed when all prompts are read", 1 < pair / alone < 4, small)
    check("shares of a row add up", all(abs(sum(w["bytes_per_step"] for w in row["work"]) - row["bytes_per_step"]) < 5 for row in rows), rows)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("Once upon a time, there was a little girl named Lucy. She lived in a small town. " * 20)
        file.flush()
        result = json.loads(run("perplexity", "", file.name, "--json", "--window", "128").stdout)
        check("perplexity of a text like its own is low", 1.0 < result["perplexity"] < 100.0, result)
    check("--help of every verb works", all(run(verb, "--help").returncode == 0 for verb in re.findall(rb"^  (\w+) ", run("--help").stdout, re.M)))


if __name__ == "__main__":
    for part in (completions, planning, signals_and_pipes, start_up, chat_on_pipe, full_context, missing_workers, output_that_fails, nonsense, odd_names, tools):
        part()
    sys.exit(1 if failures else 0)
