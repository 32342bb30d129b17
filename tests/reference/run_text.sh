#!/bin/sh
# Text against the reference libraries, as CI runs it: every code point, random tokenizers, constrained sampling. TD_BINARY the program, TD_PYTHON a Python with
# tests/requirements.txt, TD_SEED a seed (else the time). Under a minute.
set -eu
here=$(dirname "$0")
build=$(dirname "${TD_BINARY:-build/tandem}")
python=${TD_PYTHON:-python3}
seed=${TD_SEED:-$(date +%s)}
"$python" "$here/text_classes.py" "$build"
"$python" "$here/text_fuzz.py" "$build" "$seed" 15
"$python" "$here/text_grammars.py" "$build" "$seed" 15
