#!/usr/bin/env bash
# Programs that speak TLS behave as without the library: SSL_write in all its modes (write.c), gnutls_record_send, repeated and corked (gnutls.c);
# output, exit status and error texts of curl (OpenSSL) and wget (GnuTLS); Python's own ssl tests are run by hand (tests/host/python).
#
#   tests/host/tls/run.sh BUILD_DIR
set -uo pipefail
cd "$(dirname "$0")" || exit
build=$(cd ../../.. && realpath "${1:-build}")
work=$(mktemp -d)
cc=${CC:-gcc}
failures=0 server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$work"' EXIT

check() # check NAME EXPECTED GOT
{
    if [ "$2" = "$3" ]; then
        echo "ok $1"
    else
        echo "FAIL $1: expected '$2', got '$3'"
        failures=$((failures + 1))
    fi
}

cd "$work" || exit
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout key.pem -out cert.pem -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>openssl.log || { cat openssl.log; exit 1; }
$cc -std=gnu11 -O1 -Wall -Wextra "$OLDPWD/write.c" -o write -lssl -lcrypto -lpthread || exit
$cc -std=gnu11 -O1 -Wall -Wextra "$OLDPWD/gnutls.c" -o gnutls -lgnutls -lpthread || exit

watched=(env LD_PRELOAD="$build/libotshim.so" OTSHIM_SOCKET="$work/none.sock")
for program in write gnutls; do
    timeout 120 ./$program 0 cert.pem key.pem | sed 's/^ok /ok bare-/; s/^FAIL /FAIL bare-/; s/ (.*//'
    failures=$((failures + PIPESTATUS[0]))
    timeout 120 "${watched[@]}" ./$program 1 cert.pem key.pem
    failures=$((failures + $?))
done

# curl: an answer of a megabyte, a certificate that nobody vouches for, a wrong name, a server that resets in the middle of a record
coproc PEER { exec /usr/bin/python3 "$OLDPWD/peer.py" cert.pem key.pem; }
server=$PEER_PID
read -r port <&"${PEER[0]}"
for what in "/big --cacert cert.pem" "/small --cacert cert.pem" "/small" "/cut --cacert cert.pem" "/reset --cacert cert.pem" \
    "/big --cacert cert.pem --tls-max 1.2" "/small --cacert cert.pem --resolve other:$port:127.0.0.1"; do
    read -r path options <<<"$what"
    host=localhost
    [[ $options == *other* ]] && host=other
    # shellcheck disable=SC2086  # options are words
    bare=$(curl -sS --http1.1 $options "https://$host:$port$path" -w '%{http_code} %{size_download} %{ssl_verify_result}' 2>&1 | cksum; echo "${PIPESTATUS[0]}")
    # shellcheck disable=SC2086
    ours=$("${watched[@]}" curl -sS --http1.1 $options "https://$host:$port$path" -w '%{http_code} %{size_download} %{ssl_verify_result}' 2>&1 | cksum; echo "${PIPESTATUS[0]}")
    check "curl-${what// /-}" "$bare" "$ours"
done

for what in "/big --ca-certificate=cert.pem" "/small --ca-certificate=cert.pem" "/small" "/cut --tries=1 --ca-certificate=cert.pem" \
    "/reset --tries=1 --ca-certificate=cert.pem" "/big --ca-certificate=cert.pem --secure-protocol=TLSv1_2"; do
    read -r path options <<<"$what"
    # shellcheck disable=SC2086
    bare=$(wget -nv -O - $options "https://localhost:$port$path" 2>wget.bare | cksum; echo "${PIPESTATUS[0]}"; sed 's/^[-0-9]* [:0-9]* //' wget.bare)
    # shellcheck disable=SC2086
    ours=$("${watched[@]}" wget -nv -O - $options "https://localhost:$port$path" 2>wget.ours | cksum; echo "${PIPESTATUS[0]}"; sed 's/^[-0-9]* [:0-9]* //' wget.ours)
    check "wget-${what// /-}" "$bare" "$ours"
done
[ "$failures" = 0 ]
