#!/usr/bin/env bash
# Form and suspicion: clang-format, clang-tidy, cppcheck and shellcheck over our own files. One "ok" or "FAIL" line a tool and file group.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

build_dir=${BUILD:-build}
jobs=$(nproc)
failed=0
log=$(mktemp)
macros=$(mktemp --suffix=.h)
trap 'rm -f "$log" "$macros"' EXIT

mapfile -t c_files < <(git ls-files '*.c' '*.h')
mapfile -t preload_sources < <(git ls-files 'preload/*.c')
mapfile -t exporter_sources < <(git ls-files 'exporter/*.c')
mapfile -t scripts < <(git ls-files '*.sh' .ci/run)

# verdict WHAT STATUS
verdict()
{
    if [ "$2" = 0 ]; then
        echo "ok $1"
    else
        cat "$log"
        echo "FAIL $1"
        failed=1
    fi
}

run()
{
    local what=$1
    shift
    if ! command -v "$1" >/dev/null; then
        echo "skip $what: $1 is not installed"
        return
    fi
    "$@" >"$log" 2>&1
    verdict "$what" $?
}

# clang-tidy. The bug-finding groups, as errors. Left out, and why:
#   bugprone-easily-swappable-parameters    (fd, len) and (start, end) are what system calls look like
#   bugprone-assignment-in-if-condition     `while ((n = read(...)) > 0)` is the idiom
#   bugprone-reserved-identifier            __read_chk and its like are libc's names, which we must define
#   bugprone-narrowing-conversions          covered by -Wconversion where it pays
#   bugprone-branch-clone                   cases of a switch that do the same for different reasons
#   bugprone-multi-level-implicit-pointer-conversion, bugprone-macro-parentheses    the X-macros of symbols.def
#   bugprone-signal-handler                 knows POSIX's list, not that a wrapper may be called in any handler
#   bugprone-sizeof-expression              takes `malloc(n * sizeof(*array_of_pointers))` for a slip
#   bugprone-implicit-widening-of-multiplication-result    products of two small constants, such as 64 * 1024
#   bugprone-too-small-loop-variable        keys of the wire format are uint16_t, the enum that bounds them is int
#   bugprone-not-null-terminated-result     text of the contract has a length and no terminator
#   bugprone-misplaced-widening-cast        (json_int_t)(a + b) of two size_t, both counts of things in memory
#   clang-analyzer-valist.Uninitialized     false alarms of clang 14 for every va_start on x86-64 (LLVM bug 41311)
#   clang-analyzer-security.insecureAPI.*   wants Annex K functions (memcpy_s), which glibc does not have
#   clang-analyzer-optin.performance.*      padding of structs whose layout is a contract
tidy_checks='-*,bugprone-*,clang-analyzer-*,-bugprone-easily-swappable-parameters,-bugprone-assignment-in-if-condition'
tidy_checks+=',-bugprone-reserved-identifier,-bugprone-narrowing-conversions,-bugprone-branch-clone,-bugprone-macro-parentheses'
tidy_checks+=',-bugprone-multi-level-implicit-pointer-conversion,-bugprone-signal-handler'
tidy_checks+=',-bugprone-sizeof-expression,-bugprone-implicit-widening-of-multiplication-result,-bugprone-too-small-loop-variable'
tidy_checks+=',-bugprone-not-null-terminated-result,-bugprone-misplaced-widening-cast,-clang-analyzer-valist.Uninitialized'
tidy_checks+=',-clang-analyzer-security.insecureAPI.*,-clang-analyzer-optin.performance.*'

# tidy WHAT "FLAGS" FILES...
tidy()
{
    local what=$1 flags=$2
    shift 2
    if ! command -v clang-tidy >/dev/null; then
        echo "skip $what: clang-tidy is not installed"
        return
    fi
    # shellcheck disable=SC2016  # for the inner shell
    printf '%s\n' "$@" | xargs -P "$jobs" -n 4 sh -c '
        checks=$1 flags=$2; shift 2
        exec clang-tidy --quiet --checks="$checks" --warnings-as-errors="*" "$@" -- $flags' sh "$tidy_checks" "$flags" \
        2>&1 | grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed|^Use -header-filter' >"$log"
    verdict "$what" "${PIPESTATUS[1]}"
}

common='-std=gnu11 -Iinclude -D_GNU_SOURCE -DOTSHIM_VERSION="lint"'
packages=$(pkg-config --cflags libcurl libprotobuf-c libmicrohttpd libdw libelf jansson libevent_core zlib 2>/dev/null || true)

run 'clang-format' clang-format --dry-run -Werror "${c_files[@]}"
run 'shellcheck' shellcheck --severity=warning "${scripts[@]}"
# cppcheck. Left out: unusedFunction and the style group (it sees one half of the tree at a time and knows no X-macros);
# missingInclude of system headers, which it does not look for. So it has to be told what their macros are.
cat >"$macros" <<'END'
#define ElfW(type) Elf64_##type
#define json_array_foreach(array, i, v) for (i = 0; i < json_array_size(array) && (v = json_array_get(array, i)); i++)
#define json_object_foreach(object, k, v) for (k = first_key(object); k && (v = json_object_get(object, k)); k = next_key(object, k))
END
cppcheck_half()
{
    local half=$1
    shift
    run "cppcheck $half" cppcheck -q -j "$jobs" --std=c11 --error-exitcode=1 --enable=warning,portability --inline-suppr \
        --suppress=missingIncludeSystem -Iinclude -I"$half" -D_GNU_SOURCE -D__x86_64__ -DOTSHIM_VERSION='"lint"' \
        --include="$macros" "$@"
}
cppcheck_half preload "${preload_sources[@]}"
cppcheck_half exporter "${exporter_sources[@]}"
# In the library also not UndefinedBinaryOperatorResult and CallAndMessage: the analyser does not see that a system call made by
# inline assembly fills its buffer, and calls it garbage.
exporter_checks=$tidy_checks
tidy_checks+=',-clang-analyzer-core.UndefinedBinaryOperatorResult,-clang-analyzer-core.CallAndMessage'
tidy 'clang-tidy preload' "$common -Ipreload" "${preload_sources[@]}"
tidy_checks=$exporter_checks
tidy 'clang-tidy exporter' "$common -Iexporter -I$build_dir/gen $packages" "${exporter_sources[@]}"
exit $failed
