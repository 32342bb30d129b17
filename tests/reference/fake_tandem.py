#!/usr/bin/env python3
"""Stands in for the program's `logits` verb, by the float64 references, so that check_oracles.py can test compare.py itself.

FAKE_ERROR=x in the environment adds x of the largest logit to one logit: compare.py must then report a miss.
"""
import os
import sys

import numpy as np

import reference


def main():
    verb, model = sys.argv[1:3]
    options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
    if verb != "logits":
        print(f"fake: no verb {verb}", file=sys.stderr)
        return 2
    got = reference.own_logits(model, [int(i) for i in options["--ids"].split(",")]).astype(np.float32)
    got[-1, 0] += float(os.environ.get("FAKE_ERROR", 0)) * np.abs(got).max()
    np.save(options["--out"], got)
    return 0


if __name__ == "__main__":
    sys.exit(main())
