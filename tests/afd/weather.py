#!/usr/bin/env python3
"""A bad network between real processes (shape.h): delay, loss, repetition, damage; who is slow, and why, is named; noise on every port a worker has open."""
import json
import os
import random
import socket
import time

import afd
from afd import Room, main, require

BUILT = os.path.dirname(afd.STREAMS)


def shaped(**weather):
    return {"TD_SHAPE": ",".join(f"{k}={v}" for k, v in weather.items())}


class ShapedRoom(Room):
    """Its workers and streams run over the shaping layer."""

    def __enter__(self):
        self.plain = afd.BINARY, afd.STREAMS
        afd.BINARY, afd.STREAMS = os.path.join(BUILT, "tandem_shaped"), os.path.join(BUILT, "afd_streams_shaped")
        return super().__enter__()

    def __exit__(self, *how):
        afd.BINARY, afd.STREAMS = self.plain
        return super().__exit__(*how)


def delay_loss_and_repetition_change_no_byte():
    notes = []
    for seed, weather in enumerate([{"delay_us": 500, "jitter_us": 300}, {"lose": 0.005, "twice": 0.02, "jitter_us": 500}, {"damage": 0.002, "lose": 0.003, "delay_us": 100}], random.randrange(1 << 20)):
        with ShapedRoom() as room:
            env = shaped(**weather, seed=seed)
            workers = [room.worker(env=env), room.worker(env=env)]
            streams = room.streams(workers, count=8, micro_batches=3, tokens=40, env=env)
            time.sleep(3)
            result = streams.finish()
            of = result["workers"]
            notes.append(f"{weather} seed {seed}: {result['done']} requests, {of['retries']} flights repeated, {of['workers_lost']} workers lost")
            if "lose" in weather:
                require(of["retries"] > 0, "nothing was lost")
    return "; ".join(notes)


def await_straggler(room, streams, worker, cause, seconds=20):
    until = time.time() + seconds
    while True:
        state = json.loads(room.workers_verb(streams.control, "--json").stdout)
        named = state["straggler"]
        if named and named["address"] == worker.address and named["cause"] == cause:
            return f"named after {seconds - (until - time.time()):.1f} s, {named['times_the_others']} times the others"
        require(time.time() < until, f"expected {worker.address} as straggler because of {cause}, found {named}: {state['workers']}")
        time.sleep(0.2)


def a_worker_with_a_long_cable_is_named():
    with ShapedRoom() as room:
        near, far = room.worker(env=shaped()), room.worker(env=shaped(delay_us=4000))
        streams = room.streams([near, far], count=4, env=shaped())
        note = await_straggler(room, streams, far, "wire")
        streams.finish()
        return note


def a_worker_with_slow_arithmetic_is_named():
    """--isa ref gives the same bytes ten or more times slower."""
    with Room() as room:
        fast, slow = room.worker(), room.worker("--isa", "ref")
        streams = room.streams([fast, slow], count=8)
        note = await_straggler(room, streams, slow, "compute")
        streams.finish()
        return note


def listening_ports(pid):
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return sorted({int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes})


def noise_on_every_port_changes_nothing():
    """UCX opens a port of its own beside ours: random bytes, its own first bytes with nonsense behind, and silence on all of them."""
    with Room() as room:
        workers = [room.worker(), room.worker()]
        streams = room.streams(workers, count=4)
        ports = [p for w in workers for p in listening_ports(w.process.pid)]
        dice, held, tried = random.Random(), [], 0
        until = time.time() + 3
        while time.time() < until:
            for port in ports:
                try:
                    s = socket.create_connection(("127.0.0.1", port), timeout=1)
                    s.sendall(dice.choice([b"", dice.randbytes(dice.randint(1, 64)), dice.randbytes(5000), bytes(64), b"\xff" * 300, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", dice.randbytes(8) + bytes(200)]))
                    tried += 1
                    held.append(s)
                except OSError:
                    pass
            while len(held) > 30:
                held.pop(0).close()
            time.sleep(0.01)
        for s in held:
            s.close()
        require(all(w.process.poll() is None for w in workers), "a worker is gone")
        result = streams.finish()
        return f"{tried} connections to {len(ports)} ports, {result['done']} requests meanwhile"


if __name__ == "__main__":
    main([delay_loss_and_repetition_change_no_byte, a_worker_with_a_long_cable_is_named, a_worker_with_slow_arithmetic_is_named, noise_on_every_port_changes_nothing])
