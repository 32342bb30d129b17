#!/usr/bin/env python3
"""The simulator at its promised size: 10,008 devices, 100,000 requests, under a minute of one core. usage: plan_scale.py [TANDEM]"""
import json
import subprocess
import sys
import time

COMMAND = ["plan", "step3", "--simulate", "--deploy", "a=16xh20,f=8xh800,m=3,b=60", "--context", "4096", "--requests", "100000", "--replicas", "417", "--json"]


def main():
    tandem = sys.argv[1] if len(sys.argv) > 1 else "build/tandem"
    start = time.monotonic()
    done = subprocess.run([tandem] + COMMAND, check=True, capture_output=True, text=True)
    seconds = time.monotonic() - start
    r = json.loads(done.stdout)
    print(f"{r['replicas'] * 24} devices, {r['finished']} requests, {r['events']} events, {r['steps']} steps: {seconds:.1f} s wall (limit 60)")
    return 0 if seconds < 60 and r["finished"] == 100000 else 1


if __name__ == "__main__":
    sys.exit(main())
