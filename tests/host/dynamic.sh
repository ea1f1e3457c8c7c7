#!/usr/bin/env bash
# What the dynamic linker will ask of a machine that preloads libotshim.so, and what programs will find in it:
#
#   tests/host/dynamic.sh BUILD_DIR
#
# A preloaded object with an unmet dependency stops every program from starting, so anything new in here is a failure.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

build_dir=${1:-build}
lib=$build_dir/libotshim.so
cc=${CC:-gcc}
failures=0

# verdict NAME WHAT_IS_WRONG: nothing wrong is ok
verdict()
{
    if [ -z "$2" ]; then
        echo "ok $1"
    else
        echo "FAIL $1: $(tr -s '\n ' ' ' <<<"$2")"
        failures=$((failures + 1))
    fi
}

# The third argument of SYMBOL, the first of VERSIONED
table()
{
    printf '#define %s\n#include "preload/interpose/%s"\n' "$1" "$2" | "$cc" -E -P -I. -x c - | grep -o '@[^@]*@' | tr -d '@'
}

if [ ! -r "$lib" ]; then
    echo "FAIL dynamic: there is no $lib"
    exit 1
fi
dynamic=$(readelf -dW "$lib")
symbols=$(readelf --dyn-syms -W "$lib" | awk '$1 ~ /^[0-9]+:$/ && NF >= 8')
undefined=$(awk '$7 == "UND" { print $5, $8 }' <<<"$symbols")
# A definition's version also shows as an absolute symbol of that name.
defined=$(awk '$7 != "UND" && $7 != "ABS" { print $8 }' <<<"$symbols")

verdict needed "$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic" | grep -vxE 'libc\.so\.6|libdl\.so\.2|libpthread\.so\.0')"

verdict versions "$(grep -oE '@+GLIBC_[0-9.]+' <<<"$undefined" | tr -d '@' | sort -u | awk -F'[_.]' '$2 != 2 || $3 > 17 { print }')"
verdict versions-private "$(grep -E '@.*GLIBC_PRIVATE|@+[^G@]' <<<"$undefined")"

# Before glibc 2.34 these live in other libraries than libc: strong, they would be an unmet dependency there.
verdict weak "$(awk '$1 != "WEAK" { print $2 }' <<<"$undefined" | grep -E '^(pthread_|sem_|dl(open|sym|vsym|close|error|addr|info)|shm_|timer_|clock_nanosleep|mq_)' |
    grep -vE '^pthread_(self|equal|sigmask|mutex_(lock|unlock|init|destroy)|cond_|attr_(init|destroy)|getaffinity_np|setcancelstate)')"

# glibc has them, musl has not; each would stop a program there. (glibc-only names that we import on purpose: none.)
verdict glibc-only "$(awk '$1 != "WEAK" { print $2 }' <<<"$undefined" | sed 's/@.*//' | grep -E '_chk$|^__(register_atfork|isoc|libc_|strto|fdelt|longjmp)|^(secure_getenv_|gnu_get|mallinfo|backtrace)')"

verdict exports "$(diff <(table 'SYMBOL(family, ret, name, params) @name@' symbols.def | sort) <(sed 's/@.*//' <<<"$defined" | sort) | grep "^[<>]" |
    sed 's/^</missing/; s/^>/unexpected/')"

verdict export-versions "$(diff <(table 'VERSIONED(name, version) @name version@' versions.def | sed 's/\([^ ]*\) \(.*\)/\1@@\2/' | sort) \
    <(grep '@' <<<"$defined" | sort) | grep '^[<>]')"

# The README's table of what is watched names each symbol once, under "What is watched": the interposed, and those of TLS libraries.
watched()
{
    table 'SYMBOL(family, ret, name, params) @name@' symbols.def
    for room in openssl.def gnutls.def; do
        table 'WRAPPED(ret, name, params) @name@' $room
        table 'WRAPPED_OPTIONAL(ret, name, params) @name@' $room
    done
    echo BIO_write
}
verdict readme "$(diff <(watched | sort) \
    <(sed -n '/^## What is watched/,/^| traffic/p' README.md | grep -o '`[A-Za-z_0-9]*`' | tr -d '`' | grep -vxE 'traceparent|tracestate' | sort) | grep '^[<>]')"
verdict textrel "$(grep -E 'TEXTREL' <<<"$dynamic")"
verdict bind-now "$(grep -qE 'BIND_NOW|NOW' <<<"$dynamic" || echo 'lazily bound')"
verdict stack "$(readelf -lW "$lib" | awk '$1 == "GNU_STACK" && $(NF - 1) ~ /E/ { print "executable" }')"
verdict relro "$(readelf -lW "$lib" | grep -q GNU_RELRO || echo none)"
verdict writable-code "$(readelf -lW "$lib" | awk '$1 == "LOAD" && /RWE/ { print "a segment that is writable and executable" }')"
verdict tls "$(awk '$8 ~ /__tls_get_addr/ { print $8 }' <<<"$symbols")"
verdict soname "$(grep -q 'SONAME.*\[libotshim.so\]' <<<"$dynamic" || echo missing)"
verdict rpath "$(grep -E 'RPATH|RUNPATH' <<<"$dynamic")"

[ "$failures" = 0 ]
