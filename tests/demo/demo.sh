#!/usr/bin/env bash
# Three small unmodified services under the library, a few requests, and the trace that comes of them.
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

# Runs at every end, wanted or not: the services first, then the exporter, so that their last spans have somebody to go to.
clean_up()
{
    local status=$? n
    trap - EXIT
    trap '' INT TERM
    for ((n = ${#pids[@]} - 1; n >= 0; n--)); do
        kill "${pids[n]}" 2>/dev/null || true
    done
    for ((n = ${#pids[@]} - 1; n >= 0; n--)); do
        wait "${pids[n]}" 2>/dev/null || true
    done
    rm -rf "$dir"
    exit "$status"
}
trap clean_up EXIT
trap 'echo; exit "$at_ctrl_c"' INT
trap 'exit 143' TERM

for file in "$otshim" "$library" "$python"; do
    [ -e "$file" ] || fail "$file is not there: run \`make demo\`, which installs and builds what is missing"
done

# Free ports, all held at once so that they differ.
read -r http_port a b c < <("$python" - <<'END'
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(s.getsockname()[1] for s in held))
END
)
export OTSHIM_HTTP=127.0.0.1:$http_port

alive()
{
    kill -0 "$1" 2>/dev/null
}

# await NAME PID URL: until it answers
await()
{
    local n
    for ((n = 0; n < 300; n++)); do
        curl -sf -o /dev/null --max-time 5 --noproxy '*' "$3" && return
        alive "$2" || fail "$1 did not start" "$1"
        sleep 0.1
    done
    fail "$1 did not answer on $3 within 30 seconds" "$1"
}

start_exporter()
{
    "$otshim" exporter >"$dir/exporter.log" 2>&1 &
    pids+=($!)
    await exporter $! "http://$OTSHIM_HTTP/healthz"
}

# start_service NAME PORT OTHER_PORT OTHER_PORT
start_service()
{
    local base=http://127.0.0.1
    env PEERS="$base:$2,$base:$3,$base:$4" OTEL_SERVICE_NAME="$1" LD_PRELOAD="$library" PYTHONDONTWRITEBYTECODE=1 \
        "$python" -m gunicorn --chdir tests/demo --bind "127.0.0.1:$2" --workers 2 --threads 2 --no-control-socket app:app \
        >"$dir/$1.log" 2>&1 &
    pids+=($!)
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
start_exporter
[ -z "${OTEL_EXPORTER_OTLP_ENDPOINT:-}" ] || echo "   it sends the traces on to $OTEL_EXPORTER_OTLP_ENDPOINT"

step '2.' "three Flask services, unmodified: ${dim}LD_PRELOAD=libotshim.so gunicorn app:app${plain}"
start_service app-a "$a" "$b" "$c"
start_service app-b "$b" "$a" "$c"
start_service app-c "$c" "$a" "$b"
for name in app-a app-b app-c; do
    case $name in app-a) port=$a pid=${pids[1]} ;; app-b) port=$b pid=${pids[2]} ;; *) port=$c pid=${pids[3]} ;; esac
    await "$name" "$pid" "http://127.0.0.1:$port/"
done

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
