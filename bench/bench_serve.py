#!/usr/bin/env python3
"""Load on `tandem serve` from an asynchronous client (standard library), beside `tandem bench` at the same batch in the same run.

    bench/bench_serve.py MODEL [--streams 1,4,16,64] [--tokens 64] [--repeat 3] [--least 0.97]

For each number of streams: so many streaming /v1/completions are opened at once; the clock runs while all of them do, as in `tandem bench`: from the moment the last one has its first
token until the first one ends. A stream's rate is its gaps within that time over the time from its own first token there to its own last: whole steps, whatever moment of a step the
limits fall in; the rates add up. Server and bench take turns, so that both see the same machine; the ratio is the median of the turns' ratios, the bench of a turn being the mean of
the runs before and after the server's. Prompts are token ids, different in every request: nothing is reused. The client runs on the same machine; how much of the processors it took
is a column. Prints one Markdown row a number of streams; exits with 1 when a ratio is below --least."""
import argparse
import asyncio
import json
import pathlib
import random
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "serve"))
from served import Server  # noqa: E402


class Stream(asyncio.Protocol):
    """One request; notes when every event came. Parses nothing while it is timed: an event is `data: ` at the beginning of a line."""

    def __init__(self, body):
        data = json.dumps(body).encode()
        self.request = b"POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(data), data)
        self.times, self.kept, self.done = [], [], asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.sent = time.perf_counter()
        transport.write(self.request)

    def data_received(self, data):
        now = time.perf_counter()
        self.kept.append(data)
        self.times.extend([now] * data.count(b"data: {"))

    def connection_lost(self, error):
        whole = b"".join(self.kept)
        if error or b"data: [DONE]" not in whole:
            self.done.set_exception(error or RuntimeError(whole[-500:].decode(errors="replace")))
        else:
            self.done.set_result(None)


async def load(port, streams, tokens, seed):
    draw, begun, cpu = random.Random(seed), time.perf_counter(), time.process_time()
    loop = asyncio.get_running_loop()
    started = [(await loop.create_connection(lambda: Stream({"prompt": [draw.randrange(3, 90), draw.randrange(3, 90)], "max_tokens": tokens + 1, "ignore_eos": True, "temperature": 0, "stream": True, "return_tokens": True,
                                                                 "seed": i}), "127.0.0.1", port))[1] for i in range(streams)]
    await asyncio.gather(*(s.done for s in started))
    for s in started:
        s.times.pop()  # the chunk with the finish reason carries no token
    first, end = max(s.times[0] for s in started), min(s.times[-1] for s in started)
    inside = [[t for t in s.times if first <= t <= end] for s in started]
    rate = sum((len(times) - 1) / (times[-1] - times[0]) for times in inside) if all(len(times) > 1 for times in inside) else None
    gaps = [b - a for s in started for a, b in zip(s.times, s.times[1:])]
    return {"rate": rate, "client": (time.process_time() - cpu) / (time.perf_counter() - begun), "ttft": [s.times[0] - s.sent for s in started], "gaps": gaps}


def bench(tandem, model, streams, tokens):
    answer = subprocess.run([*tandem, "bench", model, "--json", "--batch", str(streams), "--tokens", str(tokens), "--repeat", "1", "--prefill", "16"], capture_output=True, text=True, check=True).stdout
    return next(row["tokens_per_s"] for row in json.loads(answer) if row["phase"] == "decode")


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("model")
    ask.add_argument("--tandem", default="build/tandem")
    ask.add_argument("--streams", default="1,4,16,64")
    ask.add_argument("--tokens", type=int, default=64)
    ask.add_argument("--repeat", type=int, default=3)
    ask.add_argument("--least", type=float, default=0)
    o = ask.parse_args()
    low = 1e9
    print("| streams | `tandem bench` tokens/s | `tandem serve` tokens/s | ratio | first token p50 / p99 ms | between tokens p50 / p99 ms | client, of a core |\n| --- | --- | --- | --- | --- | --- | --- |")
    with Server([o.tandem, "serve", o.model], "--quiet") as server:
        asyncio.run(load(server.port, 2, 4, 0))
        for streams in map(int, o.streams.split(",")):
            direct, served, client, ttft, gaps = [bench([o.tandem], o.model, streams, o.tokens)], [], [], [], []
            for r in range(o.repeat):
                one = asyncio.run(load(server.port, streams, o.tokens, r * 1000 + streams))
                if one["rate"] is None:
                    sys.exit(f"bench_serve: of {streams} streams one ended before all had begun: expected more --tokens than {o.tokens}")
                served.append(one["rate"])
                client.append(one["client"])
                ttft += one["ttft"]
                gaps += one["gaps"]
                direct.append(bench([o.tandem], o.model, streams, o.tokens))
            ratios = [rate / ((before + after) / 2) for rate, before, after in zip(served, direct, direct[1:])]
            a, b, ratio = statistics.median(direct), statistics.median(served), statistics.median(ratios)
            low = min(low, ratio)
            print(f"| {streams} | {a:.1f} | {b:.1f} | {ratio:.3f} ({min(ratios):.2f} to {max(ratios):.2f}) | {1e3 * quantile(ttft, .5):.1f} / {1e3 * quantile(ttft, .99):.1f} | {1e3 * quantile(gaps, .5):.2f} / {1e3 * quantile(gaps, .99):.2f} | {statistics.median(client):.3f} |", flush=True)
    return 0 if low >= o.least else 1


if __name__ == "__main__":
    sys.exit(main())
