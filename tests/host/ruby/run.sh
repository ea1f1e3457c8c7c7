#!/bin/sh
# run.sh BUILD_DIR - Ruby must not notice: what programs see and print with the library is what they see and print without it.
# Prints "ok NAME" or "FAIL NAME: why" for each check; exits 1 if one failed.
set -u
build=$(cd "${1:?usage: run.sh BUILD_DIR}" && pwd) || exit 2
here=$(cd "$(dirname "$0")" && pwd)
lib=$build/libotshim.so
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
failed=0

OTSHIM_SOCKET=$tmp/none.sock
export OTSHIM_SOCKET
unset OTEL_PROPAGATORS OTEL_SDK_DISABLED OTSHIM_EXCLUDE LD_PRELOAD TRACEPARENT TRACESTATE RUBYOPT

if ! command -v ruby >/dev/null; then
    echo "skip ruby: it is not installed"
    exit 0
fi

ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $2"; failed=1; }

# run OUTPUT COMMAND...: with its exit status at the end
run() {
    out=$1
    shift
    timeout 60 "$@" >"$tmp/$out" 2>"$tmp/$out.err" </dev/null
    echo "status $?" >>"$tmp/$out"
}

# ---- a server, and what may be done to it: cases.rb ----------------------------------------------------------------------------------------
compare() {
    name=$1 wanted=$2
    shift 2
    run bare ruby "$@"
    LD_PRELOAD=$lib run watched ruby "$@"
    if ! grep -qx 'status 0' "$tmp/bare"; then
        fail "$name" "the bare run failed: $(tail -n 3 "$tmp/bare.err" | tr '\n' ' ')"
    elif ! diff "$tmp/bare" "$tmp/watched" >"$tmp/diff"; then
        fail "$name" "$(head -n 4 "$tmp/diff" | tr '\n' ' ')$(tail -n 3 "$tmp/watched.err" | tr '\n' ' ')"
    elif [ "$(($(tail -n 1 "$tmp/watched.err") - $(tail -n 1 "$tmp/bare.err")))" != "$wanted" ]; then
        fail "$name" "not $wanted methods are watched: $(tail -n 1 "$tmp/bare.err") TracePoints without, $(tail -n 1 "$tmp/watched.err") with"
    else
        ok "$name"
    fi
}

for case in $(ruby "$here/cases.rb"); do
    case $case in
    *+) compare "ruby ${case%+}" 2 "$here/cases.rb" "${case%+}" ;;
    methods_in_c) compare "ruby $case" 1 "$here/cases.rb" "$case" ;; # one that is made and cannot be enabled
    one_method_in_c) compare "ruby $case" 2 "$here/cases.rb" "$case" ;;
    *) compare "ruby $case" 0 "$here/cases.rb" "$case" ;;
    esac
done
if ruby --yjit -e 1 2>/dev/null; then
    for case in requests the_ways_out the_programs_own_trace methods_that_come_later; do
        compare "ruby --yjit $case" 2 --yjit "$here/cases.rb" $case
    done
fi

# ---- programs that are no servers -----------------------------------------------------------------------------------------------------------
same() {
    name=$1
    shift
    run bare "$@"
    LD_PRELOAD=$lib run watched "$@"
    if diff "$tmp/bare" "$tmp/watched" >"$tmp/diff" && diff "$tmp/bare.err" "$tmp/watched.err" >"$tmp/diff"; then
        ok "$name"
    else
        fail "$name" "$(head -n 4 "$tmp/diff" | tr '\n' ' ')"
    fi
}

echo 'def broken(' >"$tmp/broken.rb"
same "ruby -v" ruby -v
same "ruby --disable-gems" ruby --disable-gems -w -e 'p ARGV, $LOADED_FEATURES, ENV["RUBYOPT"]' a b
same "ruby, its children" ruby -e 'system("ruby", "-e", "p ENV[%(RUBYOPT)], $$ > 0; exit 4"); p $?.exitstatus; puts `ruby -e "p 1"`; exec("ruby", "-e", "p ARGV", "x")'
same "ruby, a syntax error" ruby "$tmp/broken.rb"
same "ruby -c" ruby -c "$here/cases.rb"
same "ruby, an error at the end" ruby -e 'at_exit { puts "bye" }; raise ArgumentError, "no"'
same "ruby, exit" ruby -e 'exit 3'
same "ruby, abort" ruby -e 'abort "so be it"'
same "ruby, a signal" ruby -e 'Process.kill(:TERM, $$); sleep 5'
same "ruby, RUBYOPT" env RUBYOPT=-w ruby -e 'p ENV["RUBYOPT"], $-w; def a; b = 1; end'
same "gem" gem environment gemdir
! command -v bundle >/dev/null || same "bundle" bundle --version
! command -v irb >/dev/null || same "irb" sh -c 'echo "1 + 1" | irb -f --noprompt'

# ---- fifty starts -----------------------------------------------------------------------------------------------------------------------------
i=0
while [ $i -lt 50 ] && LD_PRELOAD=$lib ruby "$here/cases.rb" requests >"$tmp/out" 2>"$tmp/err"; do i=$((i + 1)); done
if [ $i = 50 ]; then ok "ruby, 50 servers started"; else fail "ruby, 50 servers started" "number $i: $(tail -n 3 "$tmp/err" | tr '\n' ' ')"; fi
exit $failed
