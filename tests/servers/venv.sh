#!/usr/bin/env bash
# Outside clients in Python for the live tests: a virtual environment below the build folder given, with what the suite
# named needs (live_submit if none is), made when it is missing or out of date. Prints where it is.
set -euo pipefail
cd "$(dirname "$0")/../.."

suite="${2:-live_submit}"
venv="$1/$suite-venv"
wanted="tests/$suite/requirements.txt"
if [ ! -x "$venv/bin/python" ] || ! cmp -s "$wanted" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv" || { echo "python3 with venv is needed; on Debian: apt-get install python3-venv" >&2; exit 1; }
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted" >&2
    cp "$wanted" "$venv/requirements.txt"
fi
echo "$venv"
