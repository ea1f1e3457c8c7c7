#!/usr/bin/env bash
# Programs of Node.js print the same, end in the same way, and see nothing of us, with the library as without it.
#
#   tests/host/node/run.sh BUILD_DIR [NODE]
set -uo pipefail
cd "$(dirname "$0")" || exit
build=$(cd ../../.. && realpath "${1:-build}")
node=${2:-node}
failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! command -v "$node" >/dev/null; then
    echo "skip node: it is not installed"
    exit
fi

watched=(env LD_PRELOAD="$build/libotshim.so" OTSHIM_SOCKET="$work/none.sock")

# ran NAME COMMAND...: its output, errors and status, process ids left out
ran()
{
    {
        timeout 30 "$@" </dev/null
        echo "status $?"
    } 2>&1 | sed -E 's/\(node:[0-9]+\)/(node:PID)/; s/^\[[0-9]+:0x[0-9a-f]+\]/[PID]/'
}

# same NAME COMMAND...
same()
{
    local name=$1
    shift
    ran "$@" >"$work/bare"
    ran "${watched[@]}" "$@" >"$work/ours"
    if cmp -s "$work/bare" "$work/ours"; then
        echo "ok node-$name"
    else
        echo "FAIL node-$name: without the library (<) and with it (>):"
        diff "$work/bare" "$work/ours" | head -n 8
        failures=$((failures + 1))
    fi
}

# supported OPTION: not every version has every option
supported()
{
    "$node" "$@" -e 0 >"$work/out" 2>&1
}

echo 'globalThis.required = true;' >"$work/required.js"
echo 'const = ;' >"$work/syntax.js"
echo 'import http from "http"; const s = http.createServer((q, r) => r.end("x")).listen(0, () => { console.log(typeof require, Object.keys(globalThis)); s.close(); });' >"$work/module.mjs"

for end in exit throw reject later; do
    same "$end" "$node" facts.js $end
done
same options env NODE_OPTIONS="--max-old-space-size=123 --require $work/required.js" "$node" facts.js exit
same arguments "$node" --stack-trace-limit=7 --no-addons facts.js exit
same no-eval "$node" --disallow-code-generation-from-strings facts.js exit
same pending-deprecation "$node" --pending-deprecation facts.js exit
same frozen "$node" --frozen-intrinsics facts.js exit
for permission in --permission --experimental-permission; do
    if supported $permission --allow-fs-read=*; then
        allowed=("$permission" '--allow-fs-read=*')
        supported "${allowed[@]}" --allow-net && allowed+=(--allow-net)
        same permission "$node" "${allowed[@]}" facts.js exit
        break
    fi
done
same module "$node" "$work/module.mjs"
same syntax "$node" "$work/syntax.js"
same evaluated "$node" -e 'require("net").createServer().listen(0, function () { console.log(process.execArgv, process.argv.length); this.close(); })'
same bad-option env NODE_OPTIONS=--no-such-option "$node" -e 0
same rejected-port "$node" -e 'require("http").createServer().listen({ host: "127.0.0.1", port: 0 }, function () { require("http").createServer().listen(this.address().port, "127.0.0.1").on("error", (e) => { console.log(e.code); process.exit(4); }) })'

# shellcheck disable=SC2016  # for the inner shell
# Fifty starts of a server that answers one request; none may crash, or answer otherwise.
bad=0
"${watched[@]}" bash -c 'for i in $(seq 50); do "$0" facts.js exit >/dev/null 2>&1; echo $?; done' "$node" >"$work/statuses"
bad=$(grep -cvx 3 "$work/statuses")
if [ "$bad" = 0 ] && [ "$(wc -l <"$work/statuses")" = 50 ]; then
    echo "ok node-starts"
else
    echo "FAIL node-starts: $(sort "$work/statuses" | uniq -c | tr '\n' ' ')"
    failures=$((failures + 1))
fi
exit $((failures > 0))
