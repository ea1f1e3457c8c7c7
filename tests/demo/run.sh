#!/usr/bin/env bash
# The demo without a terminal: one tree over all three services with the error marked, status 0, and nothing left behind.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
export BUILD=${1:-${BUILD:-build}}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
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

TMPDIR=$tmp timeout 120 tests/demo/demo.sh </dev/null >"$tmp/output" 2>&1
status=$?
cat "$tmp/output"
check status-0 test "$status" = 0
check one-trace-of-three-services grep -q '13 spans, 3 services, 2 errors' "$tmp/output"
check calls-of-chain grep -qE '^app-c .*GET /cpu_task .*200' "$tmp/output"
check error-marked grep -qE '^app-c .*GET /error .*(x|✗) 500' "$tmp/output"
check no-files-left test "$(ls "$tmp")" = output
check no-colour-in-a-file test "$(grep -c $'\e' "$tmp/output")" = 0
exit $failed
