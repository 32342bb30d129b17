#!/usr/bin/env python3
"""/metrics against its format, its description and its dashboard. metrics_test.py SERVE_FAKE TANDEM [--package]

The text is read by a strict reader of our own; with --package also by prometheus_client's. Every name and label that deploy/grafana.json asks for is there with FFN workers (fake engine)
and its name is declared without them (the model that ships); docs/api.md names what is exported, and nothing else."""
import collections
import json
import math
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from served import Server  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')


def read(text):
    """{family: (type, [(name, labels, value)])}; raises where the text format (0.0.4) is broken."""
    assert text.endswith("\n") and "\r" not in text
    families, family, helped = {}, None, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
            assert len(line.split(" ", 3)[3]) > 5, f"{line}: says nothing"
        elif line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert family == helped, f"{line}: TYPE without its HELP"
            assert family not in families, f"{family}: samples of one name must stand together"
            assert kind in ("counter", "gauge", "histogram") and (kind == "counter") == family.endswith("_total"), line
            families[family] = (kind, [])
        else:
            found = SAMPLE.fullmatch(line)
            assert found, f"not a sample: {line!r}"
            name, labels, value = found[1], dict(LABEL.findall(found[2] or "")), float(found[3])
            kind, samples = families[family]
            allowed = {family + end for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {family}
            assert name in allowed, f"{name} under {family}"
            assert (name, labels) not in [s[:2] for s in samples[-64:]], f"twice: {line}"
            assert math.isfinite(value) and (value >= 0 or kind == "gauge"), line
            samples.append((name, labels, value))
    for name, (kind, samples) in families.items():
        if kind == "histogram":
            check_histogram(name, samples)
    return families


def check_histogram(name, samples):
    series = collections.defaultdict(lambda: {"buckets": []})
    for part, labels, value in samples:
        one = series[tuple(sorted((k, v) for k, v in labels.items() if k != "le"))]
        if part.endswith("_bucket"):
            one["buckets"].append((float(labels["le"]), value))
        else:
            one[part[len(name):]] = value
    for labels, one in series.items():
        bounds, counts = zip(*one["buckets"])
        assert list(bounds) == sorted(set(bounds)) and bounds[-1] == math.inf, f"{name}{labels}: bounds {bounds}"
        assert list(counts) == sorted(counts) and counts[-1] == one["_count"], f"{name}{labels}: counts {counts}, {one}"
        assert one["_count"] == 0 or one["_sum"] > 0, f"{name}{labels}: no sum"


def dashboard():
    """[(query, {metric names}, {labels that are chosen by or shown})] of every panel and variable."""
    board = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    queries = [(t["expr"], t.get("legendFormat", "")) for p in board["panels"] for t in p["targets"]]
    queries += [(v["query"], "") for v in board["templating"]["list"] if v["type"] == "query"]
    assert len(queries) > 25
    for expr, legend in queries:
        labels = set(re.findall(r"\{\{(\w+)\}\}", legend)) | {l.strip() for by in re.findall(r"\bby \(([^)]*)\)", expr) for l in by.split(",")} | set(re.findall(r"[{,](\w+)[=!]", expr))
        yield expr, set(re.findall(r"\btandem_\w+", expr)), labels - {"job", "instance"}


def check_dashboard(families, need_samples):
    labels = collections.defaultdict(set)
    for _, samples in families.values():
        for name, own, _ in samples:
            labels[name] |= set(own) | {""}
    declared = {name + end for name, (kind, _) in families.items() for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
    for expr, names, wanted in dashboard():
        assert names, expr
        for name in names:
            assert name in declared, f"grafana.json asks for {name}, which is not exported: {expr}"
            if need_samples:
                assert labels[name], f"grafana.json asks for {name}, which has no sample: {expr}"
                assert wanted <= labels[name], f"grafana.json: {name} has no label {wanted - labels[name]}: {expr}"


def check_document(families):
    text = (ROOT / "docs" / "api.md").read_text()
    named = {n for n in re.findall(r"`(tandem_[a-z_]+)", text)}
    assert named == set(families), f"docs/api.md: missing {sorted(set(families) - named)}, not exported {sorted(named - set(families))}"


def check_package(text, families):
    from prometheus_client.parser import text_string_to_metric_families
    seen = {}
    for family in text_string_to_metric_families(text):
        seen[family.name + ("_total" if family.type == "counter" else "")] = family
    assert set(seen) == set(families), set(seen) ^ set(families)
    for name, family in seen.items():
        kind, samples = families[name]
        assert family.type == kind and family.documentation, name
        unescaped = lambda v: re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), v)  # noqa: E731
        assert [(s.name, s.labels, s.value) for s in family.samples] == [(n, {k: unescaped(v) for k, v in l.items()}, value) for n, l, value in samples], name


def scrape(server):
    status, data, headers = server.request("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4"), headers
    return data.decode()


def main():
    fake, tandem = sys.argv[1:3]
    package = "--package" in sys.argv
    for command, with_workers in (([fake, "fake"], True), ([tandem, "serve"], False)):
        with Server(command) as s:
            assert s.post("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 5, "seed": 1})[0] == 200
            assert s.post("/v1/completions", {"prompt": 5})[0] == 400
            until = time.time() + 5  # the engine books a step after its tokens were given
            while s.metrics()["tandem_generated_tokens_total"] < 5 and time.time() < until:
                time.sleep(0.01)
            text = scrape(s)
            families = read(text)
            check_dashboard(families, with_workers)
            check_document(families)
            if package:
                check_package(text, families)
            one = {(name, *labels.values()): value for _, samples in families.values() for name, labels, value in samples}
            assert one[("tandem_http_responses_total", "400")] == 1 and one[("tandem_errors_total", "invalid_type")] == 1 and one[("tandem_generated_tokens_total",)] == 5
            assert with_workers or one[("tandem_prompt_tokens_total",)] == 5
            assert one[("tandem_time_to_first_token_seconds_count",)] == 1 and one[("tandem_time_per_output_token_seconds_count",)] == 4
            if with_workers:
                assert one[("tandem_worker_up", "fake:1")] == 1 and one[("tandem_worker_up", 'fake:2 \\"quoted\\"')] == 0 and one[("tandem_ffn_round_trip_seconds_bucket", "fake:1", "0.001")] == 3
            print(f"ok   {'with' if with_workers else 'without'} workers: {len(families)} names, {len(one)} samples{', read by prometheus_client too' if package else ''}", flush=True)


if __name__ == "__main__":
    main()
