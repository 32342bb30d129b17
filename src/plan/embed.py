#!/usr/bin/env python3
"""Turns a text file into a C string literal: embed.py NAME IN OUT. Keeps the data files readable and the program one file."""
import sys

name, source, out = sys.argv[1:4]
text = open(source, encoding="utf-8").read()
lines = ("\"" + line.replace("\\", "\\\\").replace("\"", "\\\"") + "\\n\"" for line in text.splitlines())
with open(out, "w", encoding="utf-8") as f:
    f.write(f"/* made from {source.split('/')[-1]} by embed.py */\nextern const char {name}[];\nconst char {name}[] =\n" + "\n".join(lines) + ";\n")
