#!/bin/sh
# The references of every family, as CI runs them: TD_BINARY the program, TD_PYTHON a Python with tests/requirements.txt.
set -eu
exec "${TD_PYTHON:-python3}" "$(dirname "$0")/../test_families.py" "$@"
