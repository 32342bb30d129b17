#!/usr/bin/env python3
"""Measured rows, half fitted, the other half predicted: the table of docs/planning.md.

usage: plan_calibration.py bench.json [TANDEM] [--every N]

bench.json is what `tandem plan --calibrate FILE --from bench.json` takes. One row in N (default 2), shuffled by a fixed seed, is kept out of the fit and predicted from it. Exit status 1
when the mean absolute error of tokens/s is above 7 %, one is above 20 %, or the configuration predicted best is more than 5 % slower than the best measured one.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile


def rows_of(path):
    data = json.load(open(path, encoding="utf-8"))
    return data if isinstance(data, list) else data["rows"]


def predict(tandem, calibration, row):
    command = [tandem, "plan", row["model"], "--predict", "--calibration", calibration, "--batch", str(row["batch"]), "--context", str(row["context"]),
               "--threads", str(row["threads"]), "--phase", row.get("phase", "decode"), "--deploy", row.get("deployment", "colocated"), "--json"]
    if "dtype" in row:
        command += ["--weights", row["dtype"]]
    if "link_us" in row:
        command += ["--link-us", str(row["link_us"])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rows")
    parser.add_argument("tandem", nargs="?", default="build/tandem")
    parser.add_argument("--every", type=int, default=2)
    args = parser.parse_args()
    rows = rows_of(args.rows)
    order = list(range(len(rows)))
    random.Random(1).shuffle(order)  # not every second row: neighbours differ in one thing, such as the threads
    held = [rows[i] for i in sorted(order[::args.every])]
    fitted = [rows[i] for i in sorted(set(order) - set(order[::args.every]))]
    with tempfile.TemporaryDirectory() as folder:
        fit_rows, calibration = os.path.join(folder, "rows.json"), os.path.join(folder, "fit.json")
        json.dump(fitted, open(fit_rows, "w", encoding="utf-8"))
        subprocess.run([args.tandem, "plan", "--calibrate", calibration, "--from", fit_rows], check=True)
        print("\n| model | phase | deployment | batch | context | threads | measured tok/s | predicted | error |\n|---|---|---|---|---|---|---|---|---|")
        errors, pairs = [], {}
        for r in held:
            p = predict(args.tandem, calibration, r)
            error = p["tokens_per_s"] / r["tokens_per_s"] - 1
            errors.append(abs(error))
            pairs.setdefault((r["model"], r.get("phase", "decode")), []).append((p["tokens_per_s"], r["tokens_per_s"]))
            print(f"| {os.path.basename(r['model'])} | {r.get('phase', 'decode')} | {r.get('deployment', 'colocated')} | {r['batch']} | {r['context']} | {r['threads']} "
                  f"| {r['tokens_per_s']:.2f} | {p['tokens_per_s']:.2f} | {100 * error:+.1f} % |")
    mean, worst = sum(errors) / len(errors), max(errors)
    ranking = max(1 - max(pair)[1] / max(m for _, m in pair) for pair in pairs.values())
    print(f"\n{len(errors)} configurations not in the fit: mean absolute error {100 * mean:.1f} % (limit 7), worst {100 * worst:.1f} % (limit 20); "
          f"the first by prediction is at most {100 * ranking:.1f} % slower than the best measured (limit 5)")
    return 0 if mean <= 0.07 and worst <= 0.20 and ranking <= 0.05 else 1


if __name__ == "__main__":
    sys.exit(main())
