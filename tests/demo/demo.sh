#!/usr/bin/env bash
# Three small unmodified FastAPI services under the library, somebody else's service that they call, a few requests, and the trace that comes
# of them.
#
#   make demo            the same with everything it needs installed and built
#
# With a terminal it stays up until Ctrl-C, to be played with; without one it ends after showing the trace. The traces also go to
# OTEL_EXPORTER_OTLP_ENDPOINT if that is set. All that it starts ends with it, and it leaves no file behind.
set -euo pipefail
cd "$(dirname "$0")/../.."

build_dir=$(realpath "${BUILD:-build}")
otshim=$build_dir/otshim
library=$build_dir/libotshim.so
python=$build_dir/venv/bin/python
dir=$(mktemp -d "${TMPDIR:-/tmp}/otshim-demo.XXXXXX")
export OTSHIM_SOCKET=$dir/otshim.sock
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
unset OTEL_SDK_DISABLED OTEL_TRACES_SAMPLER OTEL_TRACES_SAMPLER_ARG OTEL_PROPAGATORS OTSHIM_EXCLUDE
pids=()
at_ctrl_c=130

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
else
    bold='' dim='' plain=''
fi

step()
{
    printf '%s%s%s %s\n' "$bold" "$1" "$plain" "$2"
}

# What went wrong, with the last words of the program that did it.
fail()
{
    printf 'demo: %s\n' "$1" >&2
    if [ -n "${2:-}" ] && [ -s "$dir/$2.log" ]; then
        printf 'demo: the last lines of %s:\n' "$2" >&2
        tail -n 15 "$dir/$2.log" >&2
    fi
    exit 1
}

# The services first, then the exporter, so that their last spans have somebody to go to.
stop_all()
{
    local n
    for ((n = ${#pids[@]} - 1; n >= 0; n--)); do
        kill "${pids[n]}" 2>/dev/null || true
    done
    for ((n = ${#pids[@]} - 1; n >= 0; n--)); do
        wait "${pids[n]}" 2>/dev/null || true
    done
    pids=()
}

# Runs at every end, wanted or not.
clean_up()
{
    local status=$?
    trap - EXIT
    trap '' INT TERM
    stop_all
    rm -rf "$dir"
    exit "$status"
}
trap clean_up EXIT
trap 'echo; exit "$at_ctrl_c"' INT
trap 'exit 143' TERM

for file in "$otshim" "$library" "$python"; do
    [ -e "$file" ] || fail "$file is not there: run \`make demo\`, which installs and builds what is missing"
done

# Four ports for the services and one for the exporter, in $ports: those that one would expect, or any others where one of them is taken.
choose_ports()
{
    read -r -a ports < <("$python" - "$@" <<'END'
import socket, sys

def take(wanted):
    try:
        return socket.create_server(("127.0.0.1", wanted))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))

held = [take(int(port)) for port in sys.argv[1:]]  # all at once, so that they differ
print(*(s.getsockname()[1] for s in held))
END
    )
}

# start NAME COMMAND...: in the background, its output in NAME.log; $! is its process
start()
{
    local log=$dir/$1.log
    shift
    PYTHONDONTWRITEBYTECODE=1 "$@" >"$log" 2>&1 </dev/null &
    pids+=($!)
}

# start_service NAME PORT OTHER_PORT OTHER_PORT RATES_PORT
start_service()
{
    local base=http://127.0.0.1
    start "$1" env PEERS="$base:$2,$base:$3,$base:$4" RATES="$base:$5" OTEL_SERVICE_NAME="$1" LD_PRELOAD="$library" \
        "$python" -m uvicorn --app-dir tests/demo --host 127.0.0.1 --port "$2" app:app
}

# await NAME PID WORDS: until its log has the words by which it says that it listens. False: its port was taken meanwhile.
await()
{
    local n
    for ((n = 0; n < 300; n++)); do
        grep -qs "$3" "$dir/$1.log" && return
        if ! kill -0 "$2" 2>/dev/null; then
            grep -qsi "already in use" "$dir/$1.log" && return 1
            fail "$1 did not start" "$1"
        fi
        sleep 0.1
    done
    fail "$1 did not start within 30 seconds" "$1"
}

start_all()
{
    local a=${ports[0]} b=${ports[1]} c=${ports[2]} rates=${ports[3]}
    export OTSHIM_HTTP=127.0.0.1:${ports[4]}
    start exporter "$otshim" exporter
    await exporter "${pids[0]}" "http://$OTSHIM_HTTP" || return
    start third-party "$python" tests/demo/third_party.py "$rates"
    start_service app-a "$a" "$b" "$c" "$rates"
    start_service app-b "$b" "$a" "$c" "$rates"
    start_service app-c "$c" "$a" "$b" "$rates"
    await third-party "${pids[1]}" ready && await app-a "${pids[2]}" 'running on' && await app-b "${pids[3]}" 'running on' &&
        await app-c "${pids[4]}" 'running on'
}

# ask SERVICE URL
ask()
{
    curl -s -o "$dir/answer" --max-time 20 --noproxy '*' "$2" || fail "$1 did not answer $2" "$1"
}

# The id of the newest trace of /chain, and how many spans of it have come: "ID SPANS".
newest_chain()
{
    "$otshim" traces --json 2>"$dir/trace.log" | "$python" -c '
import json, sys
for trace in json.load(sys.stdin):
    if trace["rootSeen"] and trace["rootTitle"].endswith("/chain"):
        print(trace["traceId"], trace["spanCount"])
        break'
}

# A trace has no last span by which one could tell that it is complete: it is shown once nothing has been added for a while.
show_trace()
{
    local n found before=''
    for ((n = 0; n < 40; n++)); do
        found=$(newest_chain 2>>"$dir/trace.log" || true)
        if [ -n "$found" ] && [ "$found" = "$before" ]; then
            "$otshim" trace "${found% *}"
            return
        fi
        before=$found
        sleep 0.5
    done
    fail "the trace of /chain did not arrive within 20 seconds" trace
}

step '1.' "an exporter: ${dim}otshim exporter${plain}"
[ -z "${OTEL_EXPORTER_OTLP_ENDPOINT:-}" ] || echo "   it sends the traces on to $OTEL_EXPORTER_OTLP_ENDPOINT"
step '2.' "three FastAPI services, unmodified: ${dim}LD_PRELOAD=libotshim.so uvicorn app:app${plain}"
choose_ports 8000 8001 8002 8003 4320
for ((attempt = 0; attempt < 3; attempt++)); do
    start_all && break
    stop_all # a port that was free is taken by now
    choose_ports 0 0 0 0 0
done
[ "$attempt" -lt 3 ] || fail 'no free ports could be had on 127.0.0.1'
a=${ports[0]} b=${ports[1]} c=${ports[2]}

step '3.' "a few requests: ${dim}curl http://127.0.0.1:$a/chain${plain}"
ask app-a "http://127.0.0.1:$a/io_task"
ask app-b "http://127.0.0.1:$b/cpu_task"
ask app-c "http://127.0.0.1:$c/random_status"
ask app-a "http://127.0.0.1:$a/chain"
echo
show_trace

if [ -t 0 ] && [ -t 1 ]; then
    cat <<END

${bold}Everything is still running, until Ctrl-C. To try next, in another terminal:${plain}

    curl http://127.0.0.1:$a/chain    ${dim}or /io_task /cpu_task /random_status /error, on ports $a $b $c${plain}

    export OTSHIM_SOCKET=$OTSHIM_SOCKET OTSHIM_HTTP=$OTSHIM_HTTP
    $otshim traces    ${dim}what came in, newest first${plain}
    $otshim status    ${dim}who is connected, and how it goes${plain}

    http://$OTSHIM_HTTP/    ${dim}the same in a browser${plain}
END
    at_ctrl_c=0
    # a signal interrupts wait, and an unexpected end of one of the services is told
    wait -n "${pids[@]}" || true
    fail 'one of the programs has ended by itself' exporter
fi
