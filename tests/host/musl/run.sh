#!/usr/bin/env bash
# The same libotshim.so under musl: its loader finds what we need of libc in itself, and every program of tests/host/proc behaves as
# without us and is traced.
#
#   tests/host/musl/run.sh BUILD_DIR
set -uo pipefail
cd "$(dirname "$0")/../../.." || exit

if ! command -v musl-gcc >/dev/null; then
    echo "skip musl: there is no musl-gcc"
    exit 0
fi
exec tests/host/proc/run.sh "${1:-build}" musl
