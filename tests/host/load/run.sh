#!/usr/bin/env bash
# Libraries that a program loads by dlopen, with and without RTLD_DEEPBIND: are their calls seen, and is the rest as without us?
#
#   tests/host/load/run.sh BUILD_DIR
set -uo pipefail
cd "$(dirname "$0")" || exit
build=$(cd ../../.. && realpath "${1:-build}")
work=$(mktemp -d)
cc=${CC:-gcc}
failures=0
trap 'kill "$server" 2>/dev/null; rm -rf "$work"' EXIT

check() # check NAME EXPECTED GOT
{
    if [ "$2" = "$3" ]; then
        echo "ok $1"
    else
        echo "FAIL $1: expected '$2', got '$3'"
        failures=$((failures + 1))
    fi
}

mkdir "$work/lib"
$cc -O1 -shared -fPIC -Wl,-z,lazy talk.c -o "$work/lib/libtalk.so" || exit
$cc -O1 -shared -fPIC -fno-plt -Wl,-z,relro,-z,now talk.c -o "$work/lib/libtalknow.so" || exit
$cc -O1 load.c -o "$work/load" -ldl -Wl,--enable-new-dtags,-rpath,"\$ORIGIN/lib" || exit

coproc PEER { exec /usr/bin/python3 answer.py; }
server=$PEER_PID
read -r port <&"${PEER[0]}"

for library in libtalk libtalknow; do
    for mode in lazy now deep deepnow; do
        said=$(env LD_PRELOAD="$build/libotshim.so" OTSHIM_SOCKET="$work/none.sock" "$work/load" $mode "$work/lib/$library.so" "$port")
        read -r -t 10 seen <&"${PEER[0]}"
        check "load-$mode-$library" "talked: yes, traceparent" "$said, $seen"
    done
    # The caller's RUNPATH and the error text of a missing library are libc's affair, with us as without us.
    for mode in lazy deep; do
        bare=$("$work/load" $mode $library.so "$port"; "$work/load" $mode no-such-library.so "$port"; "$work/load" $mode "$work/none.so" "$port")
        read -r -t 10 seen <&"${PEER[0]}"
        ours=$(export LD_PRELOAD="$build/libotshim.so" OTSHIM_SOCKET="$work/none.sock"
            "$work/load" $mode $library.so "$port"; "$work/load" $mode no-such-library.so "$port"; "$work/load" $mode "$work/none.so" "$port")
        read -r -t 10 seen <&"${PEER[0]}"
        check "load-runpath-$mode-$library" "$bare" "$ours"
    done
    off=$(env LD_PRELOAD="$build/libotshim.so" OTEL_SDK_DISABLED=true "$work/load" deep "$work/lib/$library.so" "$port")
    read -r -t 10 seen <&"${PEER[0]}"
    check "load-disabled-$library" "talked: yes, none" "$off, $seen"
done
exit $((failures > 0))
