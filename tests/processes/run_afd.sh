#!/bin/sh
# Attention and FFN in separate processes: every ratio gives the bytes of one process; workers die, hang, change, leave and come; hot experts outlive their worker; bad networks, noise, pulled cables (where namespaces can be made).
set -eu
export TD_SOURCE="$PWD" TD_STREAMS="${TD_BINARY%/tandem}/tests/afd/afd_streams"
python3 tests/afd/ratios.py
python3 tests/afd/failures.py
python3 tests/afd/replicas.py
python3 tests/afd/weather.py
python3 tests/afd/hosts.py || [ $? -eq 77 ]
python3 tests/afd/kill_loop.py --kills 20
