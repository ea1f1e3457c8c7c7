#!/bin/sh
# ThreadSanitizer on what is shared between threads and processes: the library's ring and its hand-over (tests/unit/tsan_ring.sh), then its
# producer against the exporter's reader. Usage: tests/tsan/run.sh [BUILD]
set -eu
cd "$(dirname "$0")/../.."
BUILD=${1:-${BUILD:-build}}
export BUILD
cc=${TSAN_CC:-clang}
mkdir -p "$BUILD/tsan"
export TSAN_OPTIONS="halt_on_error=1 exitcode=66 ${TSAN_OPTIONS:-}"
"$cc" -std=gnu11 -g -O1 -fsanitize=thread -Wall -Wno-unknown-warning-option -Wno-tsan -D_GNU_SOURCE -Iinclude -Ipreload -Iexporter \
    tests/unit/tsan_ring_reader.c preload/span/ring.c exporter/ingest/ring_reader.c exporter/ingest/receipt.c -lpthread \
    -o "$BUILD/tsan/ring_reader"
"$BUILD/tsan/ring_reader"
tests/unit/tsan_ring.sh
