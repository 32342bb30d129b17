#!/usr/bin/env python3
"""Long churn: workers are killed, stopped, drained, added, restarted, starved and talked nonsense to while requests stream, for as long as asked; then a phase in which nobody's memory may grow.

usage: soak.py [--churn SECONDS] [--flat SECONDS] [--streams 8] [--seed N]

Churn uses TD_BINARY and TD_STREAMS (`make soak` gives the ASan build), the flat phase TD_PLAIN_BINARY and TD_PLAIN_STREAMS when set. Nothing may fail, nothing may differ by a byte,
no sanitizer may speak; memory of attention and workers in the last third of the flat phase may exceed that of the middle third by 1 % and 1 MB.
"""
import argparse
import json
import os
import random
import socket
import time

import afd


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def noise(port, dice):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
            s.sendall(os.urandom(dice.randint(1, 4000)))
    except OSError:
        pass


class Churn:
    def __init__(self, room, dice, count):
        self.room, self.dice = room, dice
        self.workers = [room.worker("--clients", "8") for _ in range(count)]
        self.counts = {}

    def strike(self, streams):
        dice, worker = self.dice, self.dice.choice(self.workers)
        what = dice.choice(["kill", "kill", "kill", "stop", "stop", "leave", "replace", "other model", "noise", "stutter", "look"])
        self.counts[what] = self.counts.get(what, 0) + 1
        if what == "kill":
            worker.kill()
            time.sleep(dice.uniform(0, 0.4))
            worker.start()
        elif what == "stop":
            worker.stop()
            time.sleep(dice.uniform(0.05, 1.2))
            worker.go_on()
        elif what == "leave":
            afd.require(worker.leave(60) == 0, "a worker did not leave in peace")
            worker.start()
        elif what == "replace":
            fresh = self.room.worker("--clients", "8")
            added = self.room.workers_verb(streams.control, "--add", fresh.address)
            afd.require(added.returncode == 0, added.stderr)
            self.room.workers_verb(streams.control, "--drain", worker.address)  # may be refused while the new one connects; then it is only killed
            self.workers[self.workers.index(worker)] = fresh
            time.sleep(dice.uniform(0.3, 1.5))
            worker.kill()
            self.room.workers_verb(streams.control, "--drain", worker.address)
        elif what == "other model":
            worker.kill()
            worker.options = ("--clients", "8", "--quant", "q8_0")
            worker.start()
            time.sleep(dice.uniform(0.2, 2.5))
            worker.kill()
            worker.options = ("--clients", "8")
            worker.start()
        elif what == "noise":
            for _ in range(20):
                noise(worker.port, dice)
        elif what == "stutter":
            for _ in range(20):
                worker.stop()
                time.sleep(0.045)
                worker.go_on()
                time.sleep(0.005)
        else:
            self.room.workers_verb(streams.control)
            self.room.workers_verb(worker.address, "--json")


def read_log(process_log):
    process_log.seek(0)
    return process_log.read().decode(errors="replace")


def complaints(churn, streams):
    for text in [streams.errors()] + [read_log(w.log) for w in churn.workers]:
        if "AddressSanitizer" in text or "runtime error" in text or "LeakSanitizer" in text:
            raise AssertionError(text[-4000:])


def churn_phase(seconds, streams_count, seed):
    dice = random.Random(seed)
    with afd.Room() as room:
        churn = Churn(room, dice, 3)
        streams = room.streams(churn.workers, count=streams_count, micro_batches=3, tokens=48, options=["wait=60000"])
        start, said = time.time(), time.time()
        while time.time() - start < seconds:
            churn.strike(streams)
            time.sleep(dice.uniform(0.05, 0.6))
            afd.require(streams.process.poll() is None, "the attention process ended: " + streams.errors())
            complaints(churn, streams)
            if time.time() - said > 60:
                said = time.time()
                print(f"{said - start:.0f} s: {churn.counts}, attention {resident_kb(streams.process.pid) / 1024:.1f} MB", flush=True)
        result = streams.finish(timeout=300)
        complaints(churn, streams)
        print(json.dumps({"churn_s": round(time.time() - start), "seed": seed, "strikes": churn.counts, "requests": result["done"], "failed": result["failed"], "different": result["different"],
                          "tokens": result["tokens"], "workers_lost": result["workers"]["workers_lost"], "flights_repeated": result["workers"]["retries"]}), flush=True)


def flat_phase(seconds, streams_count, seed):
    """Nobody dies, but connections come and go: drained, added, visited, disturbed."""
    afd.BINARY, afd.STREAMS = os.environ.get("TD_PLAIN_BINARY", afd.BINARY), os.environ.get("TD_PLAIN_STREAMS", afd.STREAMS)
    dice = random.Random(seed)
    with afd.Room() as room:
        workers = [room.worker() for _ in range(3)]
        streams = room.streams(workers, count=streams_count, micro_batches=2, tokens=48)
        pids = {"attention": streams.process.pid, **{f"worker {i}": w.process.pid for i, w in enumerate(workers)}}
        samples = {name: [] for name in pids}
        start = time.time()
        while time.time() - start < seconds:
            worker = dice.choice(workers)
            what = dice.choice(["drain", "visit", "noise", "nothing"])
            if what == "drain":
                room.workers_verb(streams.control, "--drain", worker.address)
                time.sleep(0.5)
                room.workers_verb(streams.control, "--add", worker.address)
            elif what == "visit":
                room.workers_verb(worker.address)
                room.workers_verb(streams.control)
            elif what == "noise":
                noise(worker.port, dice)
            time.sleep(0.5)
            for name, pid in pids.items():
                samples[name].append(resident_kb(pid))
        result = streams.finish(timeout=120)
        table = {}
        for name, values in samples.items():
            third = len(values) // 3
            middle, last = sum(values[third:2 * third]) / third, sum(values[-third:]) / third
            table[name] = {"first_mb": round(values[0] / 1024, 2), "middle_mb": round(middle / 1024, 2), "last_mb": round(last / 1024, 2)}
            afd.require(last <= middle * 1.01 + 1024, f"{name} grows: {table[name]}")
        print(json.dumps({"flat_s": round(time.time() - start), "requests": result["done"], "failed": result["failed"], "different": result["different"], "memory": table}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--churn", type=float, default=1800)
    parser.add_argument("--flat", type=float, default=600)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    a = parser.parse_args()
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0:quarantine_size_mb=32")
    os.environ.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
    print(f"seed {a.seed}", flush=True)
    if a.churn > 0:
        churn_phase(a.churn, a.streams, a.seed)
    if a.flat > 0:
        flat_phase(a.flat, a.streams, a.seed)


if __name__ == "__main__":
    main()
