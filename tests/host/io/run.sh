#!/bin/sh
# run.sh BUILD_DIR - the library must not show: I/O compared call by call, injection cut at every byte, descriptors in every state.
# Prints "ok NAME" or "FAIL NAME: why" for each check; exits 1 if one failed.
set -u
build=$(cd "${1:?usage: run.sh BUILD_DIR}" && pwd) || exit 2
here=$(cd "$(dirname "$0")" && pwd)
lib=$build/libotshim.so
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
failed=0

# The hand-over of a ring must find nobody: results do not depend on an exporter that happens to run here.
OTSHIM_SOCKET=$tmp/none.sock
export OTSHIM_SOCKET
unset OTEL_PROPAGATORS OTEL_SDK_DISABLED OTSHIM_EXCLUDE LD_PRELOAD TRACEPARENT TRACESTATE

ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $2"; failed=1; }

compile() {
    ${CC:-cc} -std=gnu11 -O1 -g -D_GNU_SOURCE -w "$@" || { echo "FAIL compile: $*"; exit 1; }
}
compile "$here/matrix.c" -o "$tmp/matrix"
compile "$here/inject.c" -o "$tmp/inject" -ldl
compile "$here/life.c" -o "$tmp/life" -lpthread
compile "$here/streams.c" -o "$tmp/streams" -lnghttp2 -ldl
compile -shared -fPIC "$here/short.c" -o "$tmp/short.so" -ldl

# ---- every call, bare and preloaded: the same results and errnos ----------------------------------------------------------------------
for family in tcp4 tcp6 unix; do
    if [ $family = tcp6 ] && [ ! -e /proc/net/if_inet6 ]; then
        echo "skip matrix $family: no IPv6"
        continue
    fi
    timeout 120 "$tmp/matrix" $family >"$tmp/bare" 2>&1 || { fail "matrix $family" "the bare run failed"; continue; }
    LD_PRELOAD=$lib timeout 120 "$tmp/matrix" $family >"$tmp/preloaded" 2>&1 ||
        { fail "matrix $family" "the preloaded run ended with $?"; continue; }
    if diff "$tmp/bare" "$tmp/preloaded" >"$tmp/diff"; then
        ok "matrix $family ($(wc -l <"$tmp/bare") results)"
    else
        fail "matrix $family" "$(grep -c '^[<>]' "$tmp/diff") lines differ, first: $(sed -n 1,3p "$tmp/diff" | tr '\n' ' ')"
    fi
done

# ---- injection ------------------------------------------------------------------------------------------------------------------------------
for mode in tcp unix tcp-short unix-short tcp-partial unix-partial fastcgi-tcp fastcgi-tcp-short fastcgi-unix-short; do
    case $mode in *short) preload="$lib $tmp/short.so" ;; *) preload=$lib ;; esac
    if LD_PRELOAD=$preload timeout 120 "$tmp/inject" $mode >"$tmp/out" 2>&1; then
        ok "inject $mode ($(tail -1 "$tmp/out"))"
    else
        fail "inject $mode" "$(grep FAIL "$tmp/out" || echo "ended with $?")"
    fi
done

# ---- HTTP/2: cut at every byte --------------------------------------------------------------------------------------------------------
if ! LD_PRELOAD=$tmp/short.so timeout 60 "$tmp/streams" 0 >"$tmp/out" 2>&1; then
    fail "http2" "the bare run failed: $(tail -1 "$tmp/out")"
else
    LD_PRELOAD="$lib $tmp/short.so" timeout 120 "$tmp/streams" 1 >"$tmp/out" 2>&1 || failed=1
    head -50 "$tmp/out"
fi

# ---- descriptors ----------------------------------------------------------------------------------------------------------------------------
for case in $("$tmp/life"); do
    if ! timeout 60 "$tmp/life" "$case" >"$tmp/out" 2>&1; then
        fail "life $case" "the bare run failed: $(tail -1 "$tmp/out")"
    elif LIFE_TRACED=1 LD_PRELOAD=$lib timeout 60 "$tmp/life" "$case" >"$tmp/out" 2>&1; then
        ok "life $case $(tail -1 "$tmp/out")"
    else
        fail "life $case" "$(tail -1 "$tmp/out")"
    fi
done

# The same without injection: nothing but the program's bytes.
for case in peek dup_chains reuse; do
    if OTEL_PROPAGATORS=none LD_PRELOAD=$lib timeout 60 "$tmp/life" "$case" >"$tmp/out" 2>&1; then
        ok "life $case, OTEL_PROPAGATORS=none"
    else
        fail "life $case, OTEL_PROPAGATORS=none" "$(tail -1 "$tmp/out")"
    fi
done
exit $failed
