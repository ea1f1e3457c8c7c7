#!/usr/bin/env bash
# CPython lives and dies as it does without us: each case of cases.py, several times, on the system's Python.
#
#   tests/host/python/run.sh BUILD_DIR
#
# OTSHIM_RUNS: how often (2); OTSHIM_PYTHONS: on which interpreters, separated by blanks (/usr/bin/python3, and build/venv-storm's for gevent).
# A case that the bare interpreter cannot do every time either is no verdict on us: "skip", with both counts.
set -uo pipefail
cd "$(dirname "$0")" || exit
build=$(cd ../../.. && realpath "${1:-build}")
runs=${OTSHIM_RUNS:-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset LD_PRELOAD OTEL_SDK_DISABLED OTSHIM_EXCLUDE TRACEPARENT TRACESTATE OTEL_PROPAGATORS
export OTSHIM_SOCKET=$work/none.sock
failures=0

# failed LIBRARY RUNS COMMAND...: sets $bad to how many runs failed, $status and $last to what the last of them left
failed()
{
    local library=$1 count=$2 i
    shift 2
    bad=0
    for ((i = 0; i < count; i++)); do
        LD_PRELOAD=$library timeout 60 "$@" >"$work/out" 2>&1 </dev/null
        status=$?
        [ $status = 77 ] && return
        if [ $status != 0 ] || [ "$(tail -n 1 "$work/out")" != "done" ]; then
            bad=$((bad + 1))
            last="status $status: $(tail -n 2 "$work/out" | tr '\n' ' ')"
        fi
    done
}

try() # try PYTHON CASE
{
    local bare name
    name="python $2, $("$1" -c 'import platform; print(platform.python_version())')"
    failed "" $(((runs + 1) / 2)) "$1" cases.py "$2"
    bare=$bad
    if [ "$status" = 77 ]; then
        echo "skip $name: $(tail -n 1 "$work/out")"
        return
    fi
    failed "$build/libotshim.so" "$runs" "$1" cases.py "$2"
    if [ $bad = 0 ]; then
        echo "ok $name ($runs runs)"
    elif [ "$bare" != 0 ]; then
        echo "skip $name: $bad of $runs failed, and $bare of $(((runs + 1) / 2)) without us; $last"
    else
        echo "FAIL $name: $bad of $runs, the last with $last"
        failures=$((failures + 1))
    fi
}

for python in ${OTSHIM_PYTHONS:-/usr/bin/python3}; do
    for case in $("$python" cases.py); do
        with=$python
        if [ "$case" = greenlets ] && [ -z "${OTSHIM_PYTHONS:-}" ] && ! "$python" -c 'import gevent' 2>/dev/null && [ -x "$build/venv-storm/bin/python" ]; then
            with=$build/venv-storm/bin/python
        fi
        try "$with" "$case"
    done
done
exit $((failures > 0))
