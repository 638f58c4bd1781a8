#!/usr/bin/env bash
# Outside clients in Python for the live tests: a virtual environment below the build folder given, made when it is missing
# or out of date. Prints where it is.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv="$1/live-venv"
if [ ! -x "$venv/bin/python" ] || ! cmp -s tests/live_submit/requirements.txt "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv" || { echo "python3 with venv is needed; on Debian: apt-get install python3-venv" >&2; exit 1; }
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/live_submit/requirements.txt >&2
    cp tests/live_submit/requirements.txt "$venv/requirements.txt"
fi
echo "$venv"
