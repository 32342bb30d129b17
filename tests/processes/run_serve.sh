#!/bin/sh
# The server as its users meet it: official clients, the page in Chromium. Exit 77 of a part means: skipped, with its reason.
set -eu
here=$(dirname "$0")/../serve
python=${TD_PYTHON:-python3}
fake=${TD_BINARY%/tandem}/tests/serve/serve_fake
for part in clients_test.py page_test.py; do
    "$python" "$here/$part" "$fake" || [ $? = 77 ]
done
