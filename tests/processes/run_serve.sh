#!/bin/sh
# The server as its users meet it: official clients, /metrics read by Prometheus' own parser, requests drawn from the description, the page in Chromium, FFN workers that die. A part that cannot run here says why and fails.
set -eu
here=$(dirname "$0")/../serve
python=${TD_PYTHON:-python3}
fake=${TD_BINARY%/tandem}/tests/serve/serve_fake
"$python" "$here/clients_test.py" "$fake"
"$python" "$here/sessions_test.py" "$fake" --described
"$python" "$here/metrics_test.py" "$fake" "$TD_BINARY" --package
"$python" "$here/schema_test.py" "$fake" 90
"$python" "$here/page_test.py" "$fake"
"$python" "$here/soak.py" "$fake" --seconds 20
"$python" "$here/soak.py" "$TD_BINARY" --seconds 20
"$python" "$here/afd_test.py" "$TD_BINARY"
