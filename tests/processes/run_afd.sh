#!/bin/sh
# Attention and FFN in separate processes on loopback: every ratio gives the bytes of one process, and workers die while requests stream.
set -eu
export TD_SOURCE="$PWD" TD_STREAMS="${TD_BINARY%/tandem}/tests/afd/afd_streams"
python3 tests/afd/ratios.py
python3 tests/afd/kill_loop.py --kills 20
