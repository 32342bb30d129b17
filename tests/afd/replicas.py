#!/usr/bin/env python3
"""The hottest experts get a replica while requests run; then the worker they belonged to is killed: requests go on, without weights of their own, and with the same bytes."""
import json
import os
import shutil
import struct
import time

import afd
from afd import MODEL, Room, main, require

HOT, TWIN = 2, 3  # of the eight experts of each layer, both with the first worker
SECONDS = 20.0    # a look at one layer every 50 ms; five of six layers have experts


def skewed_model(folder):
    """The shipped model with the router's row of one expert three times as long, and its opposite in the row of another: one of the two is nearly always a token's best. Another model, for everybody
    alike, so bytes can be compared."""
    path = os.path.join(folder, "skewed")
    shutil.copytree(MODEL, path)
    with open(os.path.join(path, "model.safetensors"), "r+b") as f:
        length = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(length))
        gates = [t for name, t in header.items() if name.endswith("moe.gate.weight")]
        require(len(gates) == 5, f"expected five routers in the shipped model, found {len(gates)}")
        for tensor in gates:
            require(tensor["dtype"] in ("BF16", "F32"), f"a router of {tensor['dtype']}")
            width, size = tensor["shape"][1], 2 if tensor["dtype"] == "BF16" else 4
            begin = 8 + length + tensor["data_offsets"][0]
            f.seek(begin + HOT * width * size)
            whole = [b << 16 if size == 2 else b for b in struct.unpack(f"<{width}{'H' if size == 2 else 'I'}", f.read(width * size))]
            values = [struct.unpack("<f", struct.pack("<I", b))[0] for b in whole]
            for expert, factor in ((HOT, 3), (TWIN, -3)):
                f.seek(begin + expert * width * size)
                f.write(b"".join(struct.pack("<f", factor * v)[4 - size:] for v in values))  # bfloat16: the upper half
    return path


def told(room, streams):
    answer = room.workers_verb(streams.control, "--json")
    require(answer.returncode == 0, answer.stderr + streams.errors())
    return json.loads(answer.stdout)


def hot_replicas(state):
    """{layer: the two workers} of layers whose hottest expert two workers share."""
    found = {}
    for layer in state["layers"]:
        for expert, one, other in layer.get("replicas", []):
            if expert == layer["hottest_expert"]:
                found[layer["layer"]] = (one, other)
    return found


def await_replica(room, streams):
    """The state, whom the first hot expert with a replica belongs to, and {layer: the two workers} of all that are his."""
    until = time.time() + SECONDS
    while time.time() < until:
        state = told(room, streams)
        hot = hot_replicas(state)
        if hot:
            owner = next(iter(hot.values()))[0]
            return state, owner, {layer: pair for layer, pair in hot.items() if pair[0] == owner}
        time.sleep(0.05)
    loads = {layer["layer"]: layer.get("load") for layer in state["layers"]}
    raise AssertionError(f"no hottest expert got a replica in {SECONDS:.0f} s; loads {loads}")


def hot_experts_outlive_their_worker():
    with Room() as room:
        model = skewed_model(room.folder.name)
        workers = [room.worker("--experts", "0-3", "--on-demand", model=model), room.worker("--experts", "4-7", "--on-demand", model=model)]
        streams = room.streams(workers, count=12, tokens=80, model=model)
        state, address, mine = await_replica(room, streams)  # a slow moment of a machine may have moved the expert before
        owner, other = sorted(workers, key=lambda w: w.address != address)
        require(not state["degraded"], f"degraded before anybody was lost: {state['degraded_reason']}")
        require(all(pair[1] == other.address for pair in mine.values()), f"a replica with somebody else: {mine}")
        shares = {w["address"]: w["experts_shared"] for w in state["workers"]}
        require(shares[owner.address] == shares[other.address] >= len(mine), f"shared experts: {shares}, replicas: {mine}")
        owner.kill()
        time.sleep(1.0)
        after = told(room, streams)
        time.sleep(0.5)
        rows = [next(w["rows"] for w in s["workers"] if w["address"] == other.address) for s in (state, after, told(room, streams))]
        require(rows[0] < rows[1] < rows[2], f"requests stand still: rows of the worker that is left {rows}")
        require(after["degraded"] and owner.address in after["degraded_reason"], f"degraded is not shown: {after['degraded']}, '{after['degraded_reason']}'")
        pairs = {(layer["layer"], one, two) for layer in after["layers"] for _, one, two in layer.get("replicas", [])}
        require(all((layer, *pair) in pairs for layer, pair in mine.items()), f"the replica is no longer shown: {mine}, then {pairs}")
        text = room.workers_verb(streams.control).stdout
        require("degraded: " in text and "replicas: " in text and owner.address in text, "tandem workers does not show it:\n" + text)
        result = streams.finish()
        require(result["failed"] == 0 and result["different"] == 0, str(result))
        shares = [max(l["load"]) / max(sum(l["load"]), 1) for l in state["layers"] if "load" in l]
        return f"hottest experts of layers {sorted(mine)} were shared (largest load share of a layer {max(shares):.2f}); {result['done']} requests, longest gap {result['longest_gap_ms']} ms"


if __name__ == "__main__":
    main([hot_experts_outlive_their_worker])
