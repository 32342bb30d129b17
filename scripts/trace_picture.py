#!/usr/bin/env python3
"""A window of a --trace file as an SVG: one band per lane, one colour per micro-batch. For docs; Perfetto shows the whole file.

usage: trace_picture.py trace.json out.svg [--from MS] [--length MS]      default: the last eighth of the file's middle step
"""
import argparse
import html
import json

COLOURS = ["#4878a8", "#d98032", "#5a9e5a", "#a05a9e"]
WIDTH, LEFT, ROW, GAP = 1180, 230, 22, 10


def lanes_of(events):
    names, processes = {}, {}
    for e in events:
        if e["ph"] == "M" and e["name"] == "thread_name":
            names[e["pid"], e["tid"]] = e["args"]["name"]
        if e["ph"] == "M" and e["name"] == "process_name":
            processes[e["pid"]] = e["args"]["name"]
    return names, processes


def window(spans, begin, length):
    if begin is not None:
        return begin * 1e3, (begin + length) * 1e3
    steps = sorted({s["args"]["step"] for s in spans})
    step = [s for s in spans if s["args"]["step"] == steps[len(steps) // 2]]
    start, stop = min(s["ts"] for s in step), max(s["ts"] + s["dur"] for s in step)
    middle = (start + stop) / 2
    size = length * 1e3 if length else (stop - start) / 8
    return middle - size / 2, middle + size / 2


def draw(events, begin, length):
    names, processes = lanes_of(events)
    spans = [e for e in events if e["ph"] == "X"]
    low, high = window(spans, begin, length)
    shown = [s for s in spans if s["ts"] < high and s["ts"] + s["dur"] > low]
    lanes = sorted({(s["pid"], s["tid"]) for s in shown})
    scale = (WIDTH - LEFT - 20) / (high - low)
    out, y, last = [], 30, None
    for pid, tid in lanes:
        if pid != last:
            y += GAP
            out.append(f'<text x="8" y="{y + 12}" font-weight="bold">{html.escape(processes.get(pid, str(pid)))}</text>')
            y += 18
            last = pid
        out.append(f'<text x="20" y="{y + 15}">{html.escape(names.get((pid, tid), str(tid)))}</text>')
        out.append(f'<rect x="{LEFT}" y="{y}" width="{WIDTH - LEFT - 20}" height="{ROW - 3}" fill="#f3f3f3"/>')
        for s in shown:
            if (s["pid"], s["tid"]) != (pid, tid):
                continue
            x, end = max(s["ts"], low), min(s["ts"] + s["dur"], high)
            micro = int(s["name"].rsplit(" ", 1)[1])
            faint = ' fill-opacity="0.25"' if s["cat"] == "wait" else ""
            title = f'{s["cat"]}: {s["name"]}, layer {s["args"]["layer"]}, {s["args"]["rows"]} rows, {s["dur"]:.0f} us'
            out.append(f'<rect x="{LEFT + (x - low) * scale:.1f}" y="{y}" width="{max((end - x) * scale, 0.6):.1f}" height="{ROW - 3}" fill="{COLOURS[micro % 4]}"{faint}><title>{title}</title></rect>')
        y += ROW
    ticks = []
    step = 10 ** max(len(str(int((high - low) / 5))) - 1, 0)
    while (high - low) / step > 12:
        step *= 2
    for i in range(int((high - low) / step) + 1):
        x = LEFT + i * step * scale
        ticks.append(f'<line x1="{x:.1f}" y1="26" x2="{x:.1f}" y2="{y}" stroke="#ddd"/><text x="{x + 2:.1f}" y="22">{i * step:.0f} us</text>')
    used = sorted({int(s["name"].rsplit(" ", 1)[1]) for s in shown})
    key = "".join(f'<rect x="{LEFT + 150 * i}" y="{y + 12}" width="14" height="14" fill="{COLOURS[m % 4]}"/><text x="{LEFT + 150 * i + 20}" y="{y + 24}">micro-batch {m}</text>' for i, m in enumerate(used))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 40}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
            + "".join(ticks) + "\n".join(out) + key + f'<text x="{LEFT + 150 * len(used)}" y="{y + 24}">pale: attention waits</text></svg>\n')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("trace")
    parser.add_argument("out")
    parser.add_argument("--from", dest="begin", type=float)
    parser.add_argument("--length", type=float, default=0)
    a = parser.parse_args()
    with open(a.trace, encoding="utf-8") as f:
        events = json.load(f)
    with open(a.out, "w", encoding="utf-8") as f:
        f.write(draw(events, a.begin, a.length))


if __name__ == "__main__":
    main()
