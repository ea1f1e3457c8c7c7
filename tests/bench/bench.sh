#!/usr/bin/env bash
# make bench: builds the load programs and runs bench.py. Ratios of medians, measured in turn in one run; never part of a test.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
mkdir -p "$build/bench"
cc=${CC:-gcc}
$cc -O2 -shared -fPIC tests/bench/noop.c -o "$build/bench/noop.so" -ldl
$cc -O2 tests/bench/file_cost.c -o "$build/bench/file_cost"
$cc -O2 tests/bench/spawn_cost.c -o "$build/bench/spawn_cost"
make -s "BUILD=$build" "$build/libpreload.a"
$cc -O2 -std=gnu11 -Iinclude -Ipreload tests/bench/span_flood.c "$build/libpreload.a" -ldl -lpthread -o "$build/bench/span_flood"
exec /usr/bin/python3 tests/bench/bench.py "$build" "$@"
