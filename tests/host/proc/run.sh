#!/usr/bin/env bash
# Waiting, names, threads and processes of a traced program, compared with the same program untraced:
#
#   tests/host/proc/run.sh BUILD_DIR [musl]
#
# musl: the same programs, built for that C library, with the very same libotshim.so (tests/host/musl/run.sh).
# No exporter is needed: what is looked at is what the program sees, and the traceparent that its requests carry.
set -uo pipefail
cd "$(dirname "$0")/../../.." || exit

build_dir=$(realpath "${1:-build}")
lib=$build_dir/libotshim.so
src=tests/host/proc
libc=${2:-glibc}
bin=$build_dir/tests/host/proc-$libc
work=$(mktemp -d)
failures=0
export OTSHIM_SOCKET=$work/no-exporter.sock RES_OPTIONS='timeout:1 attempts:1'
unset TRACEPARENT TRACESTATE LD_PRELOAD
parent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
mkdir -p "$bin"

ok()
{
    echo "ok $1"
}
fail()
{
    echo "FAIL $1: $2"
    failures=$((failures + 1))
}

# same NAME PROGRAM...: output and exit status as without us
same()
{
    local name=$1 bare_status=0 status=0
    shift
    timeout 120 "$@" </dev/null >"$work/bare" 2>"$work/bare.err" || bare_status=$?
    LD_PRELOAD=$lib timeout 120 "$@" </dev/null >"$work/traced" 2>"$work/traced.err" || status=$?
    if [ "$bare_status" = 126 ] || [ "$bare_status" = 127 ]; then
        fail "$name" "cannot be run"
    elif [ "$bare_status" != "$status" ]; then
        fail "$name" "exit status $status, untraced $bare_status: $(tail -n 3 "$work/traced.err" | tr '\n' ' ')"
    elif ! diff "$work/bare" "$work/traced" >"$work/diff" || ! diff "$work/bare.err" "$work/traced.err" >>"$work/diff"; then
        fail "$name" "differs: $(head -n 6 "$work/diff" | tr '\n' ' ')"
    else
        ok "$name"
    fi
}

# prints NAME EXPECTED PROGRAM...: that is what it says under the library
prints()
{
    local name=$1 expected=$2 status=0
    shift 2
    LD_PRELOAD=$lib timeout 120 "$@" </dev/null >"$work/traced" 2>"$work/traced.err" || status=$?
    if diff <(printf '%s\n' "$expected") "$work/traced" >"$work/diff"; then
        ok "$name"
    else
        fail "$name" "status $status: $(head -n 8 "$work/diff" | tr '\n' ' ')"
    fi
}

# ---- build, and the server that answers with the traceparent it got --------------------------------------------------------------------
flags=(-Wall -Wextra -Wno-nonnull -Wno-stringop-overflow -Wno-clobbered -Wno-unused-value -O2)
build()
{
    if [ "$libc" = musl ]; then
        musl-gcc "${flags[@]}" -idirafter /usr/include -idirafter "/usr/include/$(uname -m)-linux-gnu" "$src/$1.c" -o "$bin/$1" "${@:2}"
    else
        ${CC:-gcc} "${flags[@]}" "$src/$1.c" -o "$bin/$1" -lpthread "${@:2}"
    fi || fail build "$1"
}
for program in origin environment exec_fails descriptors fork_storm waits turns calls inherit; do
    build $program
done
build resolve -rdynamic
build leaves -shared -fPIC
if [ "$libc" = glibc ]; then
    build versions
    for program in threads throws pool; do
        ${CXX:-g++} "${flags[@]}" -Wno-missing-field-initializers $src/$program.cc -o "$bin/$program" -lpthread || fail build $program
    done
fi

coproc ORIGIN { exec "$bin/origin"; }
# shellcheck disable=SC2153  # coproc makes it
origin_pid=$ORIGIN_PID
trap 'kill "$origin_pid" 2>/dev/null; rm -rf "$work"' EXIT
read -r ORIGIN_PORT <&"${ORIGIN[0]}"
export ORIGIN_PORT

# ---- the same as untraced -----------------------------------------------------------------------------------------------------------------
same waits "$bin/waits"
same names "$bin/resolve"
same exec-fails "$bin/exec_fails"
same calls "$bin/calls"
if [ "$libc" = glibc ]; then
    same threads "$bin/threads"
    same exception-ends-process "$bin/throws"
    same symbol-versions-work "$bin/versions" try
    same python-subprocess /usr/bin/python3 $src/children.py
    # Which definition a reference gets
    expected='pthread_cond_wait libotshim.so
dlsym pthread_cond_wait libotshim.so
posix_spawn libotshim.so
pthread_create libotshim.so
sem_wait libotshim.so
read libotshim.so'
    if [ "$(uname -m)" = x86_64 ]; then
        expected+='
pthread_cond_wait of GLIBC_2.2.5 libc.so.6
pthread_cond_timedwait of GLIBC_2.2.5 libc.so.6
posix_spawn of GLIBC_2.2.5 libc.so.6
pthread_create of GLIBC_2.2.5 libotshim.so'
    fi
    prints symbol-versions "$expected
dlerror: none" "$bin/versions"
fi

# ---- descriptors of children ----------------------------------------------------------------------------------------------------------------
prints descriptors 'at first: watched
vfork, _exit: 11 watched
vfork, exec: 0 watched
vfork, exec fails: 13 watched
vfork in vfork: 21 watched
fork in vfork: 32 watched
fork: 14 watched
posix_spawn: 0 watched
system: 3 watched
popen: 4 watched' "$bin/descriptors"

# ---- whose request is it -----------------------------------------------------------------------------------------------------------------------
prints inheritance 'here: ours
child, before it waits: ours
child, after cond: other
child, before it waits: ours
child, after sem: other
child, before it waits: ours
child, after sem, posted: other
child, before it waits: ours
child, after futex: other
child, before it waits: ours
child, after futex wake: ours
child, before it waits: ours
child, after nothing, created by a child: ours
here, still: ours
here, after the response: other
child, before it waits: other
child, after nothing, with nothing to inherit: other' "$bin/inherit"

prints meaning-of-waits 'no wait: ours
poll listener + own: other
poll inbound + own: other
poll inbound alone: other
poll own idle connection, timeout 0: ours
poll inbound alone, timeout 0: ours
poll inbound to write: ours
poll unwatched: ours
poll nothing: ours
select listener + own: other
select listener: other
select inbound to write: ours
select own idle connection, timeout 0: ours
epoll listener + own: other
epoll own + wake-up: other
own call, select: ours
own call, poll with a wake-up pipe: ours
own call, epoll: ours' "$bin/waits" meaning

prints turns 'one event: ours
... and a second call: ours
two events: other
no timer can be due: ours
a timer may be due: other
timeout 0: other
a fixed tick: other
another connection is closed: other
another request in the same turn: other
a wake-up is read: other
a thread that does nothing: ours
a thread that wakes the loop: other
a thread that adds to the set: other
a thread that has a loop, too: other
accepted and read, blocking: ours
accepted and read, not blocking: other
made blocking and read: ours
made not blocking and read: other
blocking, in the loop'\''s set: other
poll, one event: ours
poll, two events: other
select, one event: ours
select, two events: other' "$bin/turns"

[ "$libc" = glibc ] && prints pool-under-load '0 wrong of 1440' "$bin/pool"

status=0
said=$(timeout 20 env LD_PRELOAD="$lib:$bin/leaves" "$bin/resolve" leave 2>&1) || status=$?
if [ "$status" = 0 ] && [ "$(sort -u <<<"$said")" = "left, after that: ours" ]; then
    ok name-lookup-left-by-longjmp
else
    fail name-lookup-left-by-longjmp "status $status: $said"
fi

# ---- fork storm -----------------------------------------------------------------------------------------------------------------------------------
if ! LD_PRELOAD=$lib timeout 120 "$bin/fork_storm" </dev/null >"$work/answers" 2>"$work/err"; then
    fail fork-storm "$(cat "$work/err")"
elif [ "$(wc -l <"$work/answers")" != 600 ]; then
    fail fork-storm "$(wc -l <"$work/answers") answers of 600"
elif grep -qx -- - "$work/answers"; then
    fail fork-storm "$(grep -cx -- - "$work/answers") exchanges of children were not traced"
elif [ -n "$(cut -d- -f3 "$work/answers" | sort | uniq -d)" ]; then
    fail fork-storm "children made the same span id"
elif [ -n "$(cut -d- -f2 "$work/answers" | sort | uniq -d)" ]; then
    fail fork-storm "children made the same trace id"
else
    ok "fork-storm ($(cat "$work/err"))"
fi

# ---- the environment of new programs ----------------------------------------------------------------------------------------------------------------
# What `env` in the new program sees: the untraced run's, in its order, then exactly what we say here.
environment()
{
    local function=$1 kind=$2 how=$3 with=$4 status=0 bare=0 name="environment-$1-$2-$3-$4"
    local -x TRACEPARENT
    unset TRACEPARENT
    [ "$with" = parent ] && export TRACEPARENT=$parent
    timeout 20 "$bin/environment" "$function" "$kind" "$how" </dev/null >"$work/bare" 2>&1 || bare=$?
    [ "$bare" = 4 ] && return # this function takes no environment
    LD_PRELOAD=$lib timeout 20 "$bin/environment" "$function" "$kind" "$how" </dev/null >"$work/traced" 2>&1 || status=$?
    {
        local drop='^$' passed=
        [ "$with" = parent ] || [ "$how" = request ] && drop='^TRACE(PARENT|STATE)='
        tr '\0' '\n' <"$work/bare" | grep -vE "$drop"
        case $kind in
        inherit) passed="LD_PRELOAD=$lib" ;;
        own | parent | huge | null) [ "$function $kind" = "fexecve null" ] || passed="LD_PRELOAD=$lib
OTSHIM_SOCKET=$OTSHIM_SOCKET" ;;
        esac
        [ -n "$passed" ] && echo "$passed"
        if [ "$function $kind" = "fexecve null" ]; then
            : # refused by glibc, passed on by musl, in either case as it is
        elif [ "$how" = request ]; then
            echo "TRACEPARENT=00-4bf92f3577b34da6a3ce929d0e0e4736-SPAN-01"
        elif [ "$with" = parent ]; then
            echo "TRACEPARENT=$parent"
        fi
    } | sort >"$work/expected"
    tr '\0' '\n' <"$work/traced" | sed -E 's/^(TRACEPARENT=00-4bf92f3577b34da6a3ce929d0e0e4736-)[0-9a-f]{16}-01$/\1SPAN-01/' | sort >"$work/seen"
    if [ "$status" != "$bare" ]; then
        fail "$name" "exit status $status, untraced $bare"
    elif ! diff "$work/expected" "$work/seen" >"$work/diff"; then
        fail "$name" "$(head -n 6 "$work/diff" | tr '\n' ' ')"
    else
        counted=$((counted + 1))
    fi
}

counted=0 failed_before=$failures
functions=(execve execv execvp execvpe execl execlp execle fexecve posix_spawn posix_spawnp)
[ "$libc" = glibc ] && functions+=(execveat)
for function in "${functions[@]}"; do
    for kind in inherit own preload parent huge null dropped; do
        for how in direct fork vfork request; do
            environment "$function" $kind $how none
            [ $how = request ] || environment "$function" $kind $how parent
        done
    done
done
[ "$failures" = "$failed_before" ] && ok "environment of new programs ($counted ways)"

[ "$failures" = 0 ]
