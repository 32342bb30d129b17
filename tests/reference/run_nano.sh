#!/bin/sh
# The shipped model: its training step's gradients, and its scores with this program: all held-out tasks of the repository, and of fresh held-out sets (NANO_SEEDS), in BF16 and in Q8_0.
set -eu
here=$(dirname "$0")/../..
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TD_SOURCE="$here" TD_NANO_EVERY=1
echo "-- nano: gradients of the training step against autograd"
"${TD_PYTHON:-python3}" "$here/models/nano/step.py"
"$(dirname "$TD_BINARY")/tests/test_nano"
for seed in ${NANO_SEEDS:-101 102 103}; do
    echo "-- nano: held-out set of seed $seed"
    "${TD_PYTHON:-python3}" "$here/models/nano/generate.py" --heldout "$folder/$seed.jsonl" --seed "$seed"
    TD_NANO_ITEMS="$folder/$seed.jsonl" "$(dirname "$TD_BINARY")/tests/test_nano"
done
