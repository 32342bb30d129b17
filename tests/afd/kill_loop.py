#!/usr/bin/env python3
"""kill -9 of workers, again and again, while requests stream: none fails, none differs. kill_loop.py --kills 20 [--streams 16] [--workers 2]"""
import argparse
import json
import random
import time

import afd


def await_ready(room, streams, workers):
    """Until every worker is connected again, so that the next kill takes somebody who works."""
    until, last = time.time() + 10, "no answer"
    while time.time() < until:
        told = room.workers_verb(streams.control, "--json")
        if told.returncode == 0:
            last = json.loads(told.stdout)["workers"]
            if all(w["state"] == "ready" for w in last):
                return True
        else:
            last = told.stderr
            if streams.process.poll() is not None:
                return False
        time.sleep(0.02)
    raise AssertionError(f"workers did not come back: {last}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    a = parser.parse_args()
    dice = random.Random(a.seed)
    print(f"seed {a.seed}", flush=True)
    with afd.Room() as room:
        workers = [room.worker() for _ in range(a.workers)]
        streams = room.streams(workers, count=a.streams, micro_batches=3, tokens=a.tokens)
        start = time.time()
        awaited = 0
        for kill in range(a.kills):
            victim = dice.choice(workers)
            if dice.random() < 0.5:  # the other kills fall wherever they fall: into greetings, into the other's absence
                awaited += await_ready(room, streams, workers)
            time.sleep(dice.uniform(0.02, 0.3))
            victim.kill()
            time.sleep(dice.uniform(0, 0.2))
            if kill % 10 == 9:  # nobody is left: requests wait and go on with who comes back
                others = [w for w in workers if w is not victim]
                for other in others:
                    other.kill()
                time.sleep(dice.uniform(0, 0.3))
                for other in others:
                    other.start()
            victim.start()
            if streams.process.poll() is not None:
                break
        result = streams.finish(timeout=60)
        print(json.dumps({"kills": a.kills, "seconds": round(time.time() - start, 1), "requests": result["done"], "failed": result["failed"], "different": result["different"], "tokens": result["tokens"],
                          "workers_lost": result["workers"]["workers_lost"], "flights_repeated": result["workers"]["retries"], "queues_blocked": streams.errors().count("shared memory blocked")}))
        afd.require(result["workers"]["workers_lost"] >= awaited, "the kills were not noticed")


if __name__ == "__main__":
    main()
