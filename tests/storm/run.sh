#!/usr/bin/env bash
# The storm (see storm.py) as tests/run.sh starts it: the short one. `make storm` runs the long one.
#
#   tests/storm/run.sh BUILD_DIR [ARGUMENT...]      arguments of storm.py; without any: --short
set -euo pipefail
cd "$(dirname "$0")/../.."
BUILD=$(realpath "${1:-build}")
export BUILD
shift $(($# > 0))
venv=$BUILD/venv-storm
if [ $# = 0 ]; then
    set -- --short
    venv=$BUILD/venv
fi
if [ ! -x "$venv/bin/pytest" ]; then
    echo "run.sh: $venv is not there: run tests/deps.sh all, or tests/deps.sh storm, first" >&2
    exit 1
fi
exec "$venv/bin/python" tests/storm/storm.py "$@"
