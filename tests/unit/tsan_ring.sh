#!/bin/sh
# The ring under ThreadSanitizer: eight producers and a consumer, and some dozen hand-overs with four writers. Built from the sources, since
# the library's own flags (no libc interposition, initial-exec) are not the sanitizer's. RING_RECORDS: records per thread.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}/tsan
cc=${TSAN_CC:-clang}
mkdir -p "$build"
export RING_RECORDS="${RING_RECORDS:-20000}"
export TSAN_OPTIONS="halt_on_error=1 exitcode=66 ${TSAN_OPTIONS:-}"
sources="preload/span/ring.c preload/span/identity.c preload/span/memory.c preload/span/hello.c preload/span/handover.c preload/span/span.c
preload/span/inflight.c preload/span/runtimes.c preload/span/stack.c preload/base/base.c preload/base/config.c preload/context/sampler.c"
for test in test_preload_ring test_preload_attach; do
    # shellcheck disable=SC2086 # a list of files
    "$cc" -std=gnu11 -g -O1 -fsanitize=thread -Wall -Wno-unknown-warning-option -Wno-tsan -D_GNU_SOURCE -DOTSHIM_VERSION='"tsan"' \
        -Iinclude -Ipreload "tests/unit/$test.c" $sources -lcmocka -lpthread -ldl -o "$build/$test"
    "$build/$test"
done
