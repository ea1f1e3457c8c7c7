#!/usr/bin/env bash
# The demo without a terminal: one tree over all three services and somebody else's, to scale and with the error marked, status 0, and nothing
# left behind; with the ports that it would like and with others. On a terminal: it stays until Ctrl-C, and ends with status 0 then.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
export BUILD=${1:-${BUILD:-build}}
tmp=$(mktemp -d)
holder=
trap '[ -z "$holder" ] || kill "$holder"; rm -rf "$tmp"' EXIT
failed=0

# check NAME COMMAND...
check()
{
    local name=$1
    shift
    if "$@"; then
        echo "ok $name"
    else
        echo "FAIL $name"
        failed=1
    fi
}

# check_trace NAME OUTPUT
check_trace()
{
    check "$1-one-trace-of-three-services" grep -q '14 spans, 3 services, 2 errors' "$2"
    check "$1-third-party" grep -qE '^app-a .*GET http://127\.0\.0\.1:[0-9]+/rates/SEK +200 .* 3[0-9]{2} ms' "$2"
    check "$1-sync-endpoint" grep -qE '^app-c .*GET /cpu_task .*200' "$2"
    check "$1-async-endpoint" grep -qE '^app-b .*GET /io_task .*200' "$2"
    check "$1-error-marked" grep -qE '^app-c .*GET /error .*(x|✗) 500' "$2"
}

mkdir "$tmp/1" "$tmp/2" "$tmp/3"
TMPDIR=$tmp/1 timeout 120 tests/demo/demo.sh </dev/null >"$tmp/output" 2>&1
status=$?
cat "$tmp/output"
check status-0 test "$status" = 0
check_trace plain "$tmp/output"
check no-files-left test -z "$(ls "$tmp/1")"
check no-colour-in-a-file test "$(grep -c $'\e' "$tmp/output")" = 0

# Somebody has the ports that the demo would like (somebody else may have had them the first time, too: then both runs are of this kind).
"$BUILD/venv/bin/python" -c '
import socket, time
held = []
for port in 8000, 8002, 8003, 4320:
    try:
        held.append(socket.create_server(("127.0.0.1", port)))
    except OSError:
        pass
print("held", flush=True)
time.sleep(300)' >"$tmp/held" &
holder=$!
until grep -q held "$tmp/held"; do sleep 0.1; done
TMPDIR=$tmp/2 timeout 120 tests/demo/demo.sh </dev/null >"$tmp/output" 2>&1
status=$?
kill "$holder"
holder=
cat "$tmp/output"
check taken-ports-status-0 test "$status" = 0
check_trace taken-ports "$tmp/output"

TMPDIR=$tmp/3 timeout 120 "$BUILD/venv/bin/python" tests/demo/terminal.py tests/demo/demo.sh >"$tmp/output" 2>&1
status=$?
cat "$tmp/output"
check terminal-until-ctrl-c test "$status" = 0
check terminal-no-files-left test -z "$(ls "$tmp/3")"
check terminal-says-what-next grep -q 'curl http://127.0.0.1:[0-9]*/chain' "$tmp/output"
exit $failed
