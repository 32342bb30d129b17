#!/usr/bin/env python3
"""Writes a file's bytes as a C header: embed.py INPUT OUTPUT NAME."""
import sys

data = open(sys.argv[1], "rb").read()
name = sys.argv[3]
with open(sys.argv[2], "w", encoding="ascii") as out:
    out.write(f"/* made from {sys.argv[1].rsplit('/', 1)[-1]} by embed.py */\n#include <stddef.h>\n")
    out.write(f"static const unsigned char {name}[] = {{\n")
    for i in range(0, len(data), 24):
        out.write(",".join(str(b) for b in data[i:i + 24]) + ",\n")
    out.write(f"0}};\nstatic const size_t {name}_bytes = {len(data)};\n")
