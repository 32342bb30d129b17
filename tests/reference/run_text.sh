#!/bin/sh
# Text against the reference libraries, as CI runs it: tokenizers, every code point, templates, constrained sampling. TD_BINARY the program, TD_PYTHON a Python with
# tests/requirements.txt, TD_SEED a seed (else the time). About three minutes.
set -eu
here=$(dirname "$0")
build=$(dirname "${TD_BINARY:-build/tandem}")
python=${TD_PYTHON:-python3}
seed=${TD_SEED:-$(date +%s)}
"$python" "$here/text_classes.py" "$build"
"$python" -W ignore "$here/text_fuzz.py" "$build" "$seed" 45
"$python" "$here/text_grammars.py" "$build" "$seed" 15
