#!/usr/bin/env python3
"""What may happen to workers, to real processes: hang, garbage, wrong secret, other model, nobody left, coming back, leaving, replacement of all, a slow one."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time

from afd import BINARY, MODEL, Room, free_port, main, require


def a_hung_worker_is_given_up_and_taken_back():
    with Room() as room:
        workers = [room.worker(), room.worker()]
        streams = room.streams(workers, count=8)
        for _ in range(3):
            for worker in workers:
                worker.stop()
                time.sleep(0.8)
                worker.go_on()
                time.sleep(0.4)
        result = streams.finish()
        require(result["workers"]["workers_lost"] >= 3, "nobody noticed that workers hung")
        return f"lost {result['workers']['workers_lost']} times, {result['done']} requests"


def with_a_replica_the_gap_is_short():
    """Both workers can compute everything: kill and stop of one cost at most a heartbeat deadline (300 ms here) and a step; late flights are doubled long before."""
    with Room() as room:
        workers = [room.worker(), room.worker()]
        streams = room.streams(workers, count=4, micro_batches=2)
        time.sleep(0.5)
        for _ in range(2):
            workers[0].stop()
            time.sleep(0.6)
            workers[0].go_on()
            time.sleep(0.6)
            workers[1].kill()
            time.sleep(0.3)
            workers[1].start()
            time.sleep(1.2)
        result = streams.finish()
        require(result["longest_gap_ms"] < 800, f"nobody got a token for {result['longest_gap_ms']} ms")
        return f"longest gap {result['longest_gap_ms']} ms"


def the_fallback_takes_over():
    with Room() as room:
        worker = room.worker()
        streams = room.streams([worker], count=4, options=["fallback"])
        time.sleep(0.3)
        worker.kill()
        time.sleep(0.7)
        result = streams.finish()
        require(result["workers"]["degraded"], "degraded is not shown")


def requests_wait_for_a_worker_that_comes_back():
    with Room() as room:
        worker = room.worker()
        streams = room.streams([worker], count=4)
        for _ in range(3):
            time.sleep(0.2)
            worker.kill()
            time.sleep(0.7)
            worker.start()
        result = streams.finish()
        return f"{result['done']} requests"


def without_anyone_requests_end_with_a_sentence():
    with Room() as room:
        worker = room.worker()
        streams = room.streams([worker], count=4, options=["wait=700"])
        time.sleep(0.2)
        worker.kill()
        start = time.time()
        time.sleep(0.2)
        result, code = streams.end(timeout=20)
        took = time.time() - start
        require(code == 1 and result["failed"] >= 4 and result["different"] == 0, f"expected failed requests, found {result}")
        require("nobody has" in streams.errors() or "waited" in streams.errors(), streams.errors())
        require(took < 6, f"it took {took:.1f} s")


def refusals_name_both_sides():
    with Room() as room:
        other_secret = os.path.join(room.folder.name, "other")
        with open(other_secret, "w") as f:
            f.write("quite another secret of this test")
        stranger = room.worker(secret=other_secret)
        result = room.run([stranger])
        require(result.returncode == 1 and b"secret" in result.stderr, result.stderr.decode())
        quantised = room.worker("--quant", "q8_0")
        result = room.run([quantised], "--wait-for-workers", "2000")
        require(result.returncode == 1 and result.stderr.count(b"fingerprint") + result.stderr.count(b" as ") >= 1, result.stderr.decode())
        changed = os.path.join(room.folder.name, "changed")
        shutil.copytree(MODEL, changed)
        with open(os.path.join(changed, "config.json")) as f:
            config = json.load(f)
        config["rope_theta"] = 10000.0
        with open(os.path.join(changed, "config.json"), "w") as f:
            json.dump(config, f)
        result = room.run([room.worker(model=changed)], "--wait-for-workers", "2000")
        require(result.returncode == 1 and result.stderr.count(b"fingerprint") >= 2, "another rope_theta: " + result.stderr.decode())
        half = room.worker("--experts", "0-3")
        result = room.run([half], "--wait-for-workers", "500")
        require(result.returncode == 1 and b"expert 4 of layer" in result.stderr, result.stderr.decode())
        result = room.run([room.worker("--encrypt")], "--wait-for-workers", "1500")
        require(result.returncode == 1, "an unencrypted client got in")


def a_worker_restarted_with_another_model_is_refused_while_requests_run():
    with Room() as room:
        workers = [room.worker(), room.worker()]
        streams = room.streams(workers, count=6)
        time.sleep(0.2)
        workers[0].kill()
        workers[0].options = ("--quant", "q8_0")
        workers[0].start()
        time.sleep(2.5)
        state = json.loads(room.workers_verb(streams.control, "--json").stdout)
        states = {w["address"]: w["state"] for w in state["workers"]}
        require(states[workers[0].address] in ("refused", "connecting") and state["degraded"], str(states))
        workers[0].kill()
        workers[0].options = ()
        workers[0].start()
        time.sleep(2.5)
        state = json.loads(room.workers_verb(streams.control, "--json").stdout)
        require(all(w["state"] == "ready" for w in state["workers"]), str(state["workers"]))
        streams.finish()


def garbage_costs_nothing():
    """Noise, half-open connections and a flood on the worker's port while requests stream."""
    with Room() as room:
        worker = room.worker()
        streams = room.streams([worker], count=4)
        stop = threading.Event()

        def noise(seed):
            held = []
            while not stop.is_set():
                try:
                    s = socket.create_connection(("127.0.0.1", worker.port), timeout=1)
                    s.settimeout(0.2)
                    if seed % 3 == 0:
                        s.sendall(os.urandom(3000))
                    elif seed % 3 == 1:
                        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    held.append(s)
                    if len(held) > 20:
                        held.pop(0).close()
                except OSError:
                    pass
                time.sleep(0.01)
            for s in held:
                s.close()

        threads = [threading.Thread(target=noise, args=(i,)) for i in range(3)]
        for t in threads:
            t.start()
        time.sleep(3)
        stop.set()
        for t in threads:
            t.join()
        require(worker.process.poll() is None, "the worker is gone")
        result = streams.finish()
        memory = json.loads(room.workers_verb(worker.address, "--json").stdout)["resident_mb"]
        require(memory < 120, f"the worker has grown to {memory} MB")
        return f"{result['done']} requests meanwhile, worker at {memory} MB"


def a_worker_leaves_in_peace():
    with Room() as room:
        workers = [room.worker(), room.worker()]
        streams = room.streams(workers, count=8)
        time.sleep(0.3)
        require(workers[0].leave() == 0, "SIGTERM: exit status is not 0")
        time.sleep(0.5)
        result = streams.finish()
        require(result["workers"]["workers_lost"] == 0, "a worker that left is counted as lost")


def all_workers_are_replaced_while_requests_run():
    with Room() as room:
        workers = [room.worker(), room.worker()]
        streams = room.streams(workers, count=8)
        for i in range(4):
            fresh = room.worker()
            added = room.workers_verb(streams.control, "--add", fresh.address)
            require(added.returncode == 0, added.stderr)
            until = time.time() + 5
            while time.time() < until:
                state = json.loads(room.workers_verb(streams.control, "--json").stdout)
                if any(w["address"] == fresh.address and w["state"] == "ready" for w in state["workers"]):
                    break
                time.sleep(0.05)
            old = workers.pop(0)
            drained = room.workers_verb(streams.control, "--drain", old.address)
            require(drained.returncode == 0, drained.stderr)
            until = time.time() + 5
            while time.time() < until:
                state = json.loads(room.workers_verb(streams.control, "--json").stdout)
                if all(w["address"] != old.address for w in state["workers"]):
                    break
                time.sleep(0.05)
            require(all(w["address"] != old.address for w in state["workers"]), f"{old.address} was not let go: {state['workers']}")
            require(old.leave() == 0, "the old worker did not end in peace")
            workers.append(fresh)
        refused = room.workers_verb(streams.control, "--drain", workers[0].address)
        require(refused.returncode == 0, refused.stderr)
        time.sleep(0.5)
        refused = room.workers_verb(streams.control, "--drain", workers[1].address)
        require(refused.returncode == 1 and "nobody else" in refused.stderr, "the last worker could be drained: " + refused.stdout + refused.stderr)
        result = streams.finish()
        require(result["workers"]["workers_lost"] == 0, "a drained worker is counted as lost")
        return f"{result['done']} requests over 4 replacements"


def an_address_that_is_no_worker_is_explained():
    """Its own control address: it knows the secret, but never says what workers say. The reason stays to be read while it is tried again."""
    with Room() as room:
        workers = [room.worker()]
        streams = room.streams(workers, count=4)
        added = room.workers_verb(streams.control, "--add", streams.control)
        require(added.returncode == 0, added.stderr)
        until, entry = time.time() + 12, {}
        while time.time() < until and "control address" not in entry.get("why", ""):
            state = json.loads(room.workers_verb(streams.control, "--json").stdout)
            entry = next(w for w in state["workers"] if w["address"] == streams.control)
            time.sleep(0.2)
        require("control address" in entry["why"] and entry["state"] != "ready", f"not explained: {entry}")
        result = streams.finish()
        require(result["workers"]["workers_lost"] == 0, "the address counts as a lost worker")
        return f"{result['done']} requests meanwhile; {entry['state']}: {entry['why']}"


def a_slow_worker_is_named_and_its_work_doubled():
    """One of two workers is stopped for 90 of every 100 ms."""
    with Room() as room:
        workers = [room.worker(), room.worker()]
        streams = room.streams(workers, count=4)
        until = time.time() + 4
        while time.time() < until:
            workers[0].stop()
            time.sleep(0.09)
            workers[0].go_on()
            time.sleep(0.01)
        state = json.loads(room.workers_verb(streams.control, "--json").stdout)
        result = streams.finish()
        return f"straggler {state['straggler']}, {result['workers']['retries']} flights repeated, {result['done']} requests"


def a_port_in_use_is_a_sentence():
    with Room() as room:
        worker = room.worker()
        second = subprocess.run([BINARY, "worker", MODEL, "--listen", worker.address, "--secret-file", room.secret], capture_output=True, text=True, timeout=20)
        require(second.returncode == 1 and "listen" in second.stderr, second.stderr)
        nobody = room.workers_verb(f"127.0.0.1:{free_port()}")
        require(nobody.returncode == 1 and nobody.stderr.startswith("tandem:"), nobody.stderr)


def workers_are_reached_by_name():
    """Names are looked up beside the decoding thread; a control client waits for its one."""
    with Room() as room:
        worker = room.worker(host="localhost")
        expected, found = room.run(None), room.run([worker])
        require(found.returncode == 0 and found.stdout == expected.stdout, found.stderr.decode())
        shown = room.workers_verb(worker.address)
        require(shown.returncode == 0, shown.stderr)
        nobody = subprocess.run([BINARY, "run", MODEL, "-q", "-p", "Once", "-n", "4", "--ffn", "no.such.host.invalid:7400", "--secret-file", room.secret, "--wait-for-workers", "500"], capture_output=True, text=True, timeout=60)
        require(nobody.returncode == 1 and "no.such.host.invalid:7400" in nobody.stderr, nobody.stderr)
        return nobody.stderr.strip()[-200:]


def users_of_one_host_work_together():
    """Those of other users cannot share memory: by TCP. Copies, because the checkout may lie where others cannot look."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return "SKIPPED: needs root and setpriv(1)"
    with Room() as room:
        os.chmod(room.folder.name, 0o755)
        os.chmod(room.secret, 0o644)
        program, model = os.path.join(room.folder.name, "tandem"), os.path.join(room.folder.name, "model")
        shutil.copy(BINARY, program)
        shutil.copytree(MODEL, model)
        for path in pathlib.Path(model).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.chmod(model, 0o755)
        port = free_port()
        user = lambda number: ["setpriv", "--reuid", str(number), "--regid", str(number), "--clear-groups"]
        worker = room.start([*user(61001), program, "worker", model, "--listen", f"127.0.0.1:{port}", "--secret-file", room.secret, "-t", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        require(worker.stdout.readline().startswith(b"ready"), "the worker did not start")
        command = [program, "run", model, "-v", "-p", "Once upon a time", "-n", "40", "--temp", "0", "--ffn", f"127.0.0.1:{port}", "--secret-file", room.secret, "--wait-for-workers", "5000"]
        expected = room.run(None, tokens=40, model=MODEL).stdout
        for who in (user(61002), [], user(61001)):
            done = subprocess.run([*who, *command, "--ignore-eos", "-c", "1024"], capture_output=True, timeout=60)
            lanes = done.stderr.decode()
            require(done.returncode == 0 and done.stdout == expected, f"as {who[2:3] or 'root'}: {lanes[-500:]}")
            require(("posix" in lanes) == (who == user(61001)), f"as {who[2:3] or 'root'}: lanes {lanes[-500:]}")
        return "another user and root by TCP, the same user by shared memory"


if __name__ == "__main__":
    main([users_of_one_host_work_together, workers_are_reached_by_name, a_hung_worker_is_given_up_and_taken_back, with_a_replica_the_gap_is_short, the_fallback_takes_over, requests_wait_for_a_worker_that_comes_back, without_anyone_requests_end_with_a_sentence, refusals_name_both_sides,
          a_worker_restarted_with_another_model_is_refused_while_requests_run, garbage_costs_nothing, a_worker_leaves_in_peace, all_workers_are_replaced_while_requests_run, an_address_that_is_no_worker_is_explained,
          a_slow_worker_is_named_and_its_work_doubled, a_port_in_use_is_a_sentence])
