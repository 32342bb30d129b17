#!/bin/sh
exec python3 tests/processes/terminal.py
