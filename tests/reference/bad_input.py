#!/usr/bin/env python3
"""Runs the program on broken models (bad_models.py) and wrong command lines (tests/data/bad_command_lines.txt), and with a disk that
gets full, and checks how it refuses.

    TD_BINARY=build/tandem bad_input.py [--only SUBSTRING] [--part models,disk,lines] [--verbose]

Each refusal must be: exit status 1 or 2, never a signal; one line on stderr that begins with "tandem: " and names the file, tensor or key; within 10 seconds; using little
memory; nothing on stdout (except from run), no output file, and nothing half-written beside it. Verbs for which the fault does not matter may succeed, then with a silent stderr.
Exit status 1 when anything else happens.
"""
import argparse
import os
import pathlib
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import bad_models

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "processes"))
from refusal import one_sentence

SECONDS, MEMORY_MB = 10, 700
LINES = pathlib.Path(__file__).resolve().parent.parent / "data" / "bad_command_lines.txt"
SIGNALS_SEEN = "died of signal"


class Outcome:
    def __init__(self, status, out, err, memory_mb):
        self.status, self.out, self.err, self.memory_mb = status, out, err, memory_mb


def small_disk(bytes_max):
    """For a child: writing past this many bytes of a file fails, as on a full disk."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))
    return limit


def run(binary, arguments, stdin=None, cwd=None, before_exec=None):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    try:
        r = subprocess.run([binary, *map(str, arguments)], capture_output=True, stdin=stdin or subprocess.DEVNULL, timeout=SECONDS, cwd=cwd, preexec_fn=before_exec, restore_signals=False)
    except subprocess.TimeoutExpired:
        return Outcome(None, b"", b"", 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # the largest child so far: a rise shows a new largest
    return Outcome(r.returncode, r.stdout, r.stderr, after / 1024 if after > before else 0)


def judge(o, must_fail, must_pass, names, quiet_out, sanitized):
    """None, or a sentence about what is wrong."""
    if o.status is None:
        return f"still running after {SECONDS} s"
    if o.status < 0:
        return f"{SIGNALS_SEEN} {-o.status}: {o.err[-300:]!r}"
    if o.memory_mb > MEMORY_MB and not sanitized:
        return f"used {o.memory_mb:.0f} MB"
    if o.status == 0:
        return "expected a refusal, found success" if must_fail else None
    if o.status not in (1, 2):
        return f"exit status {o.status}: {o.err[-600:]!r}"
    if must_pass:
        return f"expected success, found {o.err[:300]!r}"
    wrong = one_sentence(o.err)
    if wrong:
        return wrong
    if quiet_out and o.out:
        return f"expected nothing on stdout, found {o.out[:80]!r}"
    if names and must_fail and not any(n in o.err.decode() for n in names):
        return f"expected one of {names} to be named, found {o.err.decode().strip()!r}"
    return None


def commands(model, out):
    return {
        "logits": ["logits", model, "--ids", "1,5,9", "--out", out / "l.npy"],
        "run": ["run", model, "-p", "hello the", "-n", "3", "--temp", "0"],
        "inspect": ["inspect", model],
        "convert": ["convert", model, out / "c.gguf"],
        "tokenize": ["tokenize", model, "-p", "hello"],
    }


class Report:
    def __init__(self, verbose):
        self.verbose, self.checks, self.misses = verbose, 0, 0

    def check(self, what, wrong, said):
        self.checks += 1
        if wrong:
            self.misses += 1
            print(f"MISS {what}: {wrong}", flush=True)
        elif self.verbose:
            print(f"     {what}: {said.decode(errors='replace').strip()}", flush=True)


def check_models(binary, report, only, sanitized):
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        good = bad_models.make_good(scratch / "good")
        for kind, path in good.items():
            out = scratch / "out"
            out.mkdir()
            for verb, arguments in commands(path, out).items():
                o = run(binary, arguments)
                report.check(f"good {kind}, {verb}", None if o.status == 0 else f"exit status {o.status}: {o.err[-300:]!r}", b"ok")
            shutil.rmtree(out)
        for fault in bad_models.faults():
            if only and only not in fault.name:
                continue
            model, out = scratch / ("model.gguf" if fault.kind == "gguf" else "model"), scratch / "out"
            out.mkdir()
            fault.make(good[fault.kind], model)
            for verb, arguments in commands(model, out).items():
                o = run(binary, arguments)
                wrong = judge(o, verb in fault.must_fail, verb in fault.must_pass, fault.names, verb != "run", sanitized)
                if not wrong and o.status != 0 and list(out.iterdir()):
                    wrong = f"left {[f.name for f in out.iterdir()]} behind"
                report.check(f"{fault.kind}: {fault.name}, {verb}", wrong, o.err)
                for f in out.iterdir():
                    f.unlink() if not f.is_dir() else shutil.rmtree(f)
            out.rmdir()
            shutil.rmtree(model) if model.is_dir() and not model.is_symlink() else model.unlink(missing_ok=True)


def check_full_disk(binary, report, only, sanitized):
    """Outputs that stop after some bytes: nothing may stay behind, in either format."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        good = bad_models.make_good(scratch / "good")
        for kind in good:
            for target, more in (("c.gguf", []), ("c.gguf", ["--quant", "q8_0"]), ("folder", ["--format", "safetensors"]), ("l.npy", None)):
                for room in (0, 100, 1000, 3000, 20000):
                    what = f"disk with {room} bytes, {kind} to {target} {' '.join(more or [])}"
                    if only and only not in what:
                        continue
                    out = scratch / "out"
                    out.mkdir()
                    arguments = ["logits", good[kind], "--ids", "1,5,9,11", "--out", out / target] if more is None else ["convert", good[kind], out / target, *more]
                    o = run(binary, arguments, before_exec=small_disk(room))
                    enough = target == "l.npy" and room > 4 * 300 * 4
                    wrong = judge(o, not enough, False, ("out",), True, sanitized)
                    if not wrong and not enough and list(out.rglob("*")):
                        wrong = f"left {[str(f.relative_to(out)) for f in out.rglob('*')]} behind"
                    report.check(what, wrong, o.err)
                    shutil.rmtree(out)


def command_lines():
    """(line number, statuses, words that stderr must hold, argv) of the data file."""
    for number, line in enumerate(LINES.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            expected, command = line.split(" | ", 1)
            statuses, _, words = expected.strip().partition(" ")
            yield number, {int(s) for s in statuses.split(",")}, words.strip(), shlex.split(command)


def prepare(scratch):
    """What the @NAMES@ of the data file stand for."""
    good = bad_models.make_good(scratch)
    (scratch / "nul.txt").write_bytes(b"hello\0the\0end")
    (scratch / "broken.txt").write_bytes(b"hello \xff\xfe\xc3 \xe2\x82 \xf0\x9f\x98 the")
    (scratch / "long.txt").write_bytes(b"the " * 3000)
    (scratch / "empty.txt").write_bytes(b"")
    (scratch / "folder").mkdir()
    untokenized = bad_models.copied(good["step3"], scratch / "no-tokenizer")
    for f in untokenized.glob("tokenizer*"):
        f.unlink()
    names = {"MODEL": good["step3"], "MOE": good["qwen3_moe"], "GGUF": good["gguf"], "NOTOKENIZER": untokenized, "DIR": scratch / "folder", "OUT": scratch / "out.npy", "TMP": scratch}
    return {f"@{k}@": str(v) for k, v in names.items()}


def check_lines(binary, report, only, sanitized):
    with tempfile.TemporaryDirectory() as scratch:
        names = prepare(pathlib.Path(scratch))
        for number, statuses, words, argv in command_lines():
            if only and only not in " ".join(argv):
                continue
            for name, value in names.items():
                argv, words = [a.replace(name, value) for a in argv], words.replace(name, value)
            o = run(binary, argv, cwd=scratch)
            wrong = judge(o, 0 not in statuses, statuses == {0}, (words,) if words else (), False, sanitized)
            if not wrong and o.status not in statuses:
                wrong = f"expected exit status {sorted(statuses)}, found {o.status}: {o.err[-200:]!r}"
            if not wrong and o.status != 0 and pathlib.Path(names["@OUT@"]).exists():
                wrong = "left an output file behind"
            pathlib.Path(names["@OUT@"]).unlink(missing_ok=True)
            report.check(f"line {number}: {' '.join(argv)[:120]}", wrong, o.err)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--only", help="only faults or lines that contain this")
    p.add_argument("--part", type=lambda t: t.split(","), default=["models", "disk", "lines"])
    p.add_argument("--verbose", action="store_true", help="show every sentence")
    p.add_argument("--sanitized", action="store_true", help="the program is a sanitizer build: memory is not judged")
    a = p.parse_args()
    binary = os.environ.get("TD_BINARY")
    if not binary or not os.access(binary, os.X_OK):
        p.error("TD_BINARY must name the program")
    binary, report = os.path.abspath(binary), Report(a.verbose)
    if "models" in a.part:
        check_models(binary, report, a.only, a.sanitized)
    if "disk" in a.part:
        check_full_disk(binary, report, a.only, a.sanitized)
    if "lines" in a.part:
        check_lines(binary, report, a.only, a.sanitized)
    print(f"{report.checks} checks, {report.misses} misses")
    return 1 if report.misses else 0


if __name__ == "__main__":
    sys.exit(main())
