#!/usr/bin/env python3
"""Two and three "hosts": network namespaces joined by veth, so that a cable can be pulled. Needs root and ip(8); says so and passes as skipped otherwise."""
import json
import os
import subprocess
import sys
import time

from afd import Room, main, require

TCP = {"UCX_TLS": "tcp"}  # namespaces of one kernel would still find shared memory


def ip(*arguments, check=True):
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


class Hosts:
    """Namespaces td-a (10.77.1.1 and 10.77.2.1), td-f1 (10.77.1.2), td-f2 (10.77.2.2)."""

    def __init__(self):
        self.tag = str(os.getpid() % 100000)
        self.a, self.f = f"tda{self.tag}", [f"tdf{self.tag}-1", f"tdf{self.tag}-2"]

    def __enter__(self):
        ip("netns", "add", self.a)
        ip("-n", self.a, "link", "set", "lo", "up")
        for i, f in enumerate(self.f, 1):
            near, far = f"n{self.tag}{i}", f"f{self.tag}{i}"
            ip("netns", "add", f)
            ip("link", "add", near, "type", "veth", "peer", "name", far)
            ip("link", "set", near, "netns", self.a)
            ip("link", "set", far, "netns", f)
            ip("-n", self.a, "addr", "add", f"10.77.{i}.1/24", "dev", near)
            ip("-n", f, "addr", "add", f"10.77.{i}.2/24", "dev", far)
            for name, device in ((self.a, near), (f, far), (f, "lo")):
                ip("-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *unused):
        for name in (self.a, *self.f):
            ip("netns", "del", name, check=False)

    def cable(self, number, state):
        ip("-n", self.a, "link", "set", f"n{self.tag}{number}", state)


def on(name):
    return ("ip", "netns", "exec", name)


def a_pulled_cable_is_noticed_and_mended():
    with Hosts() as hosts, Room() as room:
        workers = [room.worker(port=7401, host=f"10.77.{i}.2", prefix=on(f), env=TCP) for i, f in enumerate(hosts.f, 1)]
        streams = room.streams(workers, count=8, prefix=on(hosts.a), env=TCP)
        for number in (1, 2, 1):
            time.sleep(0.5)
            hosts.cable(number, "down")
            time.sleep(3)
            hosts.cable(number, "up")
            time.sleep(3)
        result = streams.finish()
        require(result["workers"]["workers_lost"] >= 3, f"the cut was noticed {result['workers']['workers_lost']} times")
        return f"{result['done']} requests, lost {result['workers']['workers_lost']} times, {result['workers']['retries']} flights repeated"


def one_host_is_enough_for_the_same_bytes():
    with Hosts() as hosts, Room() as room:
        worker = room.worker(port=7401, host="10.77.1.2", prefix=on(hosts.f[0]), env=TCP)
        there = room.run([worker], prefix=on(hosts.a), env=TCP)
        require(there.returncode == 0, there.stderr.decode())
        require(there.stdout == room.run(None).stdout, "other bytes over veth")


def a_worker_on_another_network_joins():
    """UCX is started for the networks that are known then, here only the host's own; another comes later, and soon has everything to do."""
    with Hosts() as hosts, Room() as room:
        first = room.worker(port=7401, host="127.0.0.1", prefix=on(hosts.a), env=TCP)
        streams = room.streams([first], count=8, prefix=on(hosts.a), env=TCP)
        time.sleep(0.5)
        second = room.worker(port=7401, host="10.77.2.2", prefix=on(hosts.f[1]), env=TCP)
        added = room.workers_verb(streams.control, "--add", second.address, prefix=on(hosts.a))
        require(added.returncode == 0, added.stderr)
        until, state = time.time() + 20, ""
        while state != "ready" and time.time() < until:
            time.sleep(0.1)
            told = json.loads(room.workers_verb(streams.control, "--json", prefix=on(hosts.a)).stdout)
            state = next(w["state"] for w in told["workers"] if w["address"] == second.address)
        require(state == "ready", f"the worker on the second network is {state} after 20 s: {told}")
        first.kill()
        time.sleep(2)
        result = streams.finish()
        return f"{result['done']} requests, lost {result['workers']['workers_lost']} times"


if __name__ == "__main__":
    probe = subprocess.run(["ip", "netns", "add", "tdprobe"], capture_output=True) if os.geteuid() == 0 else None
    if probe is None or probe.returncode != 0:
        print("skipped: needs root and ip netns")
        sys.exit(77)
    ip("netns", "del", "tdprobe")
    main([a_pulled_cable_is_noticed_and_mended, one_host_is_enough_for_the_same_bytes, a_worker_on_another_network_joins])
