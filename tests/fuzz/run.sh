#!/bin/bash
# Runs every fuzz target that is built, two at a time.
#     tests/fuzz/run.sh [SECONDS]        seconds for each target, 60 by default
# The seed corpora (tests/fuzz/corpus/TARGET) are read, never written. An input that crashes a target is kept in $BUILD/fuzz/crashes
# and named; put it into the target's corpus with the fix. Status: 0, or 1 if any target failed.
set -u
cd "$(dirname "$0")/../.." || exit 2
seconds=${1:-60}
fuzz_dir=${BUILD:-build}/fuzz
crashes=$fuzz_dir/crashes
case $seconds in '' | *[!0-9]*) echo "usage: $0 [SECONDS]" >&2 && exit 2 ;; esac

targets=()
for target in "$fuzz_dir"/fuzz_*; do
    if [ -f "$target" ] && [ -x "$target" ]; then targets+=("$target"); fi
done
if [ ${#targets[@]} -eq 0 ]; then
    echo "no fuzz target in $fuzz_dir: make fuzz-build first" >&2
    exit 2
fi
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
mkdir -p "$crashes"

# One target; its line on stdout.
run_one() {
    local target=$1 name status runs inputs cover
    name=$(basename "$target")
    mkdir -p "$work/$name/corpus" "$work/$name/found"
    cp tests/fuzz/corpus/"$name"/* "$work/$name/corpus/" 2>/dev/null
    # A target that hangs is a failure too; -timeout is for one input, timeout(1) for a fuzzer that does not stop.
    timeout -k 5 $((seconds + 120)) "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=8192 \
        -print_final_stats=1 -artifact_prefix="$work/$name/found/" "$work/$name/corpus" >"$work/$name/log" 2>&1
    status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name/log")
    cover=$(grep -o 'cov: [0-9]*' "$work/$name/log" | tail -1)
    if [ $status -eq 0 ]; then
        echo "ok    $name: ${runs:-?} inputs in $seconds s, ${cover:-cov: ?}"
        return 0
    fi
    inputs=$(find "$work/$name/found" -type f -printf '%f ')
    for input in $inputs; do
        mv "$work/$name/found/$input" "$crashes/$name-$input"
        echo "CRASH $name: $crashes/$name-$input"
    done
    [ -n "$inputs" ] || echo "CRASH $name: status $status, no input saved"
    grep -m 3 -E 'ERROR: |SUMMARY: |runtime error' "$work/$name/log" | sed 's/^/      /'
    cp "$work/$name/log" "$crashes/$name.log"
    return 1
}

failed=0
pids=()
for target in "${targets[@]}"; do
    run_one "$target" &
    pids+=($!)
    if [ ${#pids[@]} -eq 2 ]; then
        for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
        pids=()
    fi
done
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
exit $failed
