#!/usr/bin/env python3
"""Checks that the house's arrows only point down: which room may include which (ARCHITECTURE.md)."""
import pathlib
import re
import sys

ROOMS = {  # room -> rooms it may include
    "base": set(),
    "tensor": {"base"},
    "checkpoint": {"tensor", "base"},
    "kernel": {"tensor", "base"},
    "text": {"checkpoint", "tensor", "base"},
    "model": {"text", "checkpoint", "kernel", "tensor", "base"},
    "plan": {"model", "checkpoint", "kernel", "tensor", "base"},
    "ffn": {"model", "kernel", "tensor", "base"},
    "attention": {"model", "kernel", "tensor", "base"},
    "link": {"ffn", "model", "kernel", "tensor", "base"},
    "engine": {"link", "attention", "model", "text", "kernel", "tensor", "base"},
    "serve": {"text", "base"},
}
ENGINE_MAY_SEE_OF_LINK = {"link/link.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def faults(root):
    for path in sorted((root / "src").rglob("*.[ch]*")):
        room = path.relative_to(root / "src").parts[0]
        for target in INCLUDE.findall(path.read_text(encoding="utf-8")):
            other = target.split("/")[0]
            where = f"{path.relative_to(root)} includes {target}"
            if other not in ROOMS or "/" not in target:
                if target not in ("tandem.h",) and not (path.parent / target).exists():
                    yield f"{where}: not a room"
                continue
            if other != room and other not in ROOMS[room]:
                yield f"{where}: {room}/ may not see {other}/"
            if room == "engine" and other == "link" and target not in ENGINE_MAY_SEE_OF_LINK:
                yield f"{where}: engine/ may see only link/link.h"
            if room == "serve" and other == "text" and target == "text/tokenizer.h":
                yield f"{where}: serve/ sees no tensors"
    for path in sorted((root / "cli").glob("*.[ch]")):
        for target in INCLUDE.findall(path.read_text(encoding="utf-8")):
            if target.split("/")[0] in ROOMS and "/" in target and not target.startswith(("base/",)):
                yield f"{path.relative_to(root)} includes {target}: the command line talks to the public header"


def main():
    found = list(faults(pathlib.Path(sys.argv[1])))
    print("\n".join(found) if found else "the arrows point down")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
