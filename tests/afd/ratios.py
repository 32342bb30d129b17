#!/usr/bin/env python3
"""Attention and FFN in different numbers, placements, micro-batches and threads: stdout is that of one process, byte for byte."""
import concurrent.futures

from afd import Room, main, require

RATIOS = [(1, 1), (1, 2), (2, 1), (3, 2), (2, 3)]
PLACEMENTS = {1: [[[]]],
              2: [[[], []], [["--experts", "0-3"], ["--experts", "4-7"]], [["--experts", "0,2,4,6"], ["--experts", "1,3,5,7"]], [["--layers", "0-2"], ["--layers", "3-5"]],
                  [["--experts", "0-1", "--on-demand"], ["--experts", "2-7", "--on-demand"]]],
              3: [[[], [], []], [["--experts", "0-2"], ["--experts", "3-4"], ["--experts", "5-7"]], [["--layers", "0,1"], ["--experts", "0-5"], ["--experts", "2-7"]]]}


def all_ratios():
    runs = 0
    with Room() as room:
        prompts = ["Once upon a time", "The little dog", "In the garden there was"]
        expected = {p: room.run(None, "-t", "1", prompt=p).stdout for p in prompts}
        require(all(len(text) > 50 for text in expected.values()), "the reference texts are empty")
        for attention, ffn in RATIOS:
            for placement in PLACEMENTS[ffn]:
                workers = [room.worker(*options) for options in placement]
                for micro_batches in (1, 2, 3, 4) if placement == PLACEMENTS[ffn][0] else (2,):
                    with concurrent.futures.ThreadPoolExecutor(attention) as pool:
                        def one(p):
                            return p, room.run(workers, "--micro-batches", str(micro_batches), "-t", str(1 + micro_batches % 2), prompt=p)
                        for prompt, result in pool.map(one, prompts[:attention]):
                            runs += 1
                            require(result.returncode == 0, f"{attention}A{ffn}F: exit {result.returncode}: {result.stderr.decode()}")
                            require(result.stdout == expected[prompt], f"{attention}A{ffn}F, {placement}, {micro_batches} micro-batches: {result.stdout[:80]} instead of {expected[prompt][:80]}")
                for worker in workers:
                    require(worker.leave() == 0, "a worker did not leave in peace")
    return f"{runs} runs"


def wire_modes_do_not_depend_on_placement():
    with Room() as room:
        whole, low, high = room.worker(), room.worker("--experts", "0-3"), room.worker("--experts", "4-7")
        for wire in ("bf16", "fp8"):
            one = room.run([whole], "--wire", wire)
            two = room.run([low, high], "--wire", wire, "--micro-batches", "1")
            here = room.run([low], "--wire", wire, "--ffn-fallback")
            require(one.returncode == two.returncode == here.returncode == 0, (one.stderr + two.stderr + here.stderr).decode())
            require(one.stdout == two.stdout == here.stdout, f"{wire}: {one.stdout[:80]} / {two.stdout[:80]} / {here.stdout[:80]}")
        sealed = room.run([low, high], "--encrypt")
        require(sealed.stdout == room.run(None).stdout, "encrypted frames give other bytes")


def many_streams():
    with Room() as room:
        workers = [room.worker(), room.worker()]
        streams = [room.streams(workers, count=8, micro_batches=3, tokens=40), room.streams(workers, count=4, micro_batches=2, tokens=40)]
        for s in streams:
            result = s.finish()
            require(result["done"] >= 4, "too few requests")


def memory_shows_the_share():
    import json
    with Room() as room:
        sizes = []
        for options in ([], ["--experts", "0-1"]):
            worker = room.worker(*options)
            require(room.run([worker], "--ffn-fallback").returncode == 0, "a run failed")
            sizes.append(json.loads(room.workers_verb(worker.address, "--json").stdout)["resident_mb"])
            worker.leave()
        require(sizes[1] < sizes[0] - 1, f"a quarter of the experts should need less memory: {sizes}")
        return f"{sizes[0]:.1f} MB with all experts, {sizes[1]:.1f} MB with two of eight"


if __name__ == "__main__":
    main([all_ratios, wire_modes_do_not_depend_on_placement, many_streams, memory_shows_the_share])
