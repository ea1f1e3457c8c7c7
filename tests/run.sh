#!/usr/bin/env bash
# Every test there is, after `make all`. `make check` runs it; so does CI.
#
#   tests/run.sh [SUITE...]     unit host cli deliver tsan golden lint fuzz, ...; all of them without arguments
#
# Each suite's output goes to build/test-logs/SUITE.log, failures are shown. The last line has the counts of all of them:
#
#   N passed, N failed, N skipped
#
# What a suite is made of is found by name, so that adding a test is adding a file. A suite speaks one of three ways: cmocka, pytest,
# or lines that begin with "ok", "FAIL" (or "CRASH") or "skip". The timing-sensitive suites run alone, the fuzzers two at a time at the end,
# FUZZ_SECONDS (60) each.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

build_dir=${BUILD:-build}
export BUILD=$build_dir
logs=$build_dir/test-logs
python=$build_dir/venv/bin/python
fuzz_seconds=${FUZZ_SECONDS:-60}
jobs=$(nproc)
mkdir -p "$logs"

passed=0 failed=0 skipped=0

# report NAME LOG OK FAIL SKIP SECONDS
report()
{
    passed=$((passed + $3)) failed=$((failed + $4)) skipped=$((skipped + $5))
    printf '%-24s %4d passed, %d failed, %d skipped  (%d s)\n' "$1" "$3" "$4" "$5" "$6"
    [ "$4" = 0 ] && return
    echo "---- what failed in $1 (all of it: $2)"
    grep -nE '^(FAIL|CRASH|not ok)|^\[  FAILED  \]|^(FAILED|ERROR) |[Ss]anitizer|error:|^E  ' "$2" | tail -n 40
    echo "---- its last lines"
    tail -n 25 "$2"
    echo "----"
}

count()
{
    grep -cE "$1" "$2" || true
}

# run NAME COMMAND...: counts the lines of cmocka and those that begin with ok, FAIL or skip. A command that fails without naming what
# failed is a failure all the same, and so is one that tests nothing.
run()
{
    local name=$1 log=$logs/$1.log start=$SECONDS status=0 ok bad skip
    shift
    "$@" >"$log" 2>&1 || status=$?
    ok=$(count '^(ok\b|\[       OK \])' "$log")
    skip=$(count '^(skip\b|\[  SKIPPED \] [A-Za-z_0-9]+$)' "$log")
    # cmocka names each failure where it happens and once more in its summary
    bad=$(grep -E '^(FAIL|CRASH|not ok)\b|^\[  FAILED  \] [A-Za-z_0-9]+$' "$log" | sort -u | wc -l)
    if [ "$status" != 0 ] && [ "$bad" = 0 ]; then
        echo "FAIL $name ended with status $status" >>"$log"
        bad=1
    elif [ $((ok + bad + skip)) = 0 ]; then
        echo "FAIL $name tested nothing" >>"$log"
        bad=1
    fi
    report "$name" "$log" "$ok" "$bad" "$skip" $((SECONDS - start))
}

# pytest NAME DIRECTORY
pytest()
{
    local name=$1 log=$logs/$1.log start=$SECONDS status=0 summary ok bad skip
    "$python" -m pytest -p no:cacheprovider -rfEs --no-header -q --durations=10 "$2" >"$log" 2>&1 || status=$?
    summary=$(grep -E '^(=+ )?[0-9]+ [a-z]+.* in [0-9.]+s' "$log" | tail -n 1)
    ok=$(number_before passed "$summary") skip=$(number_before skipped "$summary")
    bad=$(($(number_before failed "$summary") + $(number_before 'errors?' "$summary")))
    if [ "$status" != 0 ] && [ "$bad" = 0 ]; then
        bad=1
    fi
    grep '^SKIPPED' "$log"
    report "$name" "$log" "$ok" "$bad" "$skip" $((SECONDS - start))
}

# The number in "3 failed, 58 passed, 1 skipped in 20.1s"
number_before()
{
    local number
    number=$(printf '%s' "$2" | grep -oE "[0-9]+ $1" | grep -oE '[0-9]+' | head -n 1)
    echo "${number:-0}"
}

# build NAME TARGET: false if it cannot be built, which counts as a failure
build()
{
    local log=$logs/build-$1.log start=$SECONDS
    make -k -j"$jobs" BUILD="$build_dir" "$2" >"$log" 2>&1 && return
    report "build-$1" "$log" 0 1 0 $((SECONDS - start))
    return 1
}

suite_unit()
{
    local program
    build unit unit
    for program in "$build_dir"/tests/unit/test_*; do
        [ -x "$program" ] && [ -f "$program" ] && run "$(basename "$program")" timeout 300 "$program"
    done
}

suite_host()
{
    local script
    for script in tests/host/*/run.sh; do
        [ -x "$script" ] && run "host-$(basename "$(dirname "$script")")" timeout 600 "$script" "$build_dir"
    done
    for script in tests/host/*.sh; do
        [ -x "$script" ] && run "host-$(basename "$script" .sh)" timeout 300 "$script" "$build_dir"
    done
}

# A directory of tests with a run.sh, with pytest files, or both.
directory_suite()
{
    [ -x "tests/$1/run.sh" ] && run "$1" timeout 900 "tests/$1/run.sh" "$build_dir"
    compgen -G "tests/$1/test_*.py" >/dev/null && pytest "$1-pytest" "tests/$1"
}

suite_golden()
{
    pytest golden tests/golden
}

suite_lint()
{
    run lint tests/lint.sh
}

suite_fuzz()
{
    build fuzz fuzz-build
    run fuzz tests/fuzz/run.sh "$fuzz_seconds"
}

# The suites that need more than their directory say how above; any other directory of tests is one by its name.
is_suite()
{
    declare -F "suite_$1" >/dev/null || [ -x "tests/$1/run.sh" ] || compgen -G "tests/$1/test_*.py" >/dev/null
}

suites=(unit host)
for directory in tests/*/; do
    name=$(basename "$directory")
    case $name in unit | host | golden | fuzz) ;; *) is_suite "$name" && suites+=("$name") ;; esac
done
suites+=(golden lint fuzz)

[ $# = 0 ] && set -- "${suites[@]}"
for suite in "$@"; do
    if ! is_suite "$suite"; then
        echo "run.sh: there is no suite '$suite': ${suites[*]}" >&2
        exit 2
    fi
    if declare -F "suite_$suite" >/dev/null; then
        "suite_$suite"
    else
        directory_suite "$suite"
    fi
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
