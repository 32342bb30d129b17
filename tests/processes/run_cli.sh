#!/bin/sh
exec python3 tests/processes/cli.py
