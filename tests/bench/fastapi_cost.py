"""FastAPI on uvicorn: bare, under otshim, and with what one would pick instead, OpenTelemetry's own agent for Python.

Every variant sends its spans by OTLP (HTTP/protobuf) to the same kind of place: an nginx that answers 200. otshim by way of its exporter, whose
processor time is taken from the same machine. The agent is as it comes (opentelemetry-instrument, the instrumentations of FastAPI, httpx and
requests), but for its metrics and logs, which are off: traces are what is compared."""
import contextlib
import os
import statistics

from common import (BUILD, QUICK, Exporter, cpu_ns, free_port, latencies, nginx_answering, rss_mib, running, spread, wait_port, wrk)

BIN = f"{BUILD}/venv-bench/bin"
HERE = os.path.dirname(os.path.abspath(__file__))
AGENT = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
         "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": "bench"}
CONNECTIONS = 16
ROUNDS, SECONDS = 7 if QUICK else 25, 1  # many and short: a machine that others use, too, changes its speed from second to second


@contextlib.contextmanager
def uvicorn(loop, env, before=()):
    port = free_port()
    argv = [*before, f"{BIN}/uvicorn", "--app-dir", HERE, "--port", str(port), "--loop", loop, "--log-level", "warning", "--no-access-log",
            "fastapi_app:app"]
    with running(argv, env=env) as process:
        wait_port(port, 30)
        yield port, process.pid


def posts(log):
    with open(log) as f:
        return sum(line.startswith("POST") or '"POST' in line for line in f)


def measure(servers, path):
    """Rounds, in turn: {variant: requests per second, variant_cpu: ns of the server's processes a request}."""
    rows, requests_of = [], dict.fromkeys(servers, 0)
    for port, _ in servers.values():
        wrk(port, 1, path, CONNECTIONS)
    for round_number in range(ROUNDS):
        row = {}
        order = list(servers)
        for name in order[round_number % len(order):] + order[:round_number % len(order)]:
            port, pid = servers[name]
            cpu = cpu_ns(pid)
            row[name], requests = wrk(port, SECONDS, path, CONNECTIONS)
            row[name + "_cpu"] = (cpu_ns(pid) - cpu) / requests
            requests_of[name] += requests
        rows.append(row)
    return rows, requests_of


def report(rows, servers):
    """By throughput, and by the server's own processor time, whose inverse is what one core could do at most: that is less disturbed by others."""
    for name in servers:
        rate, cpu = (statistics.median(r[name + what] for r in rows) for what in ("", "_cpu"))
        print(f"    {name:7} {rate:7.0f} requests/s {cpu / 1000:8.1f} µs CPU a request", end="")
        if name != "bare":
            print(f"   of bare: {spread([r[name] / r['bare'] for r in rows])}, by CPU {spread([r['bare_cpu'] / r[name + '_cpu'] for r in rows])}", end="")
        print()
    print(f"    otshim's of the agent's: {spread([r['otshim'] / r['agent'] for r in rows], 2)}, by CPU {spread([r['agent_cpu'] / r['otshim_cpu'] for r in rows], 2)}")


def bench_loop(directory, loop):
    with nginx_answering(f"{directory}/leaf-{loop}") as leaf, nginx_answering(f"{directory}/agent-{loop}", f"{directory}/agent-{loop}.log") as agents, \
            nginx_answering(f"{directory}/otshims-{loop}") as otshims, \
            Exporter(directory, f"http://127.0.0.1:{otshims}") as exporter:
        base = dict(os.environ, LEAF=f"http://127.0.0.1:{leaf}/", PYTHONDONTWRITEBYTECODE="1")
        agent_env = base | AGENT | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{agents}"}
        with uvicorn(loop, base) as bare, uvicorn(loop, base | exporter.preload()) as otshim, \
                uvicorn(loop, agent_env, [f"{BIN}/opentelemetry-instrument"]) as agent:
            servers = {"bare": bare, "otshim": otshim, "agent": agent}
            for path in ("/hello", "/call"):
                before = exporter.metric("otshim_exporter_spans_received_total")
                rows, requests = measure(servers, path)
                print(f"  {loop}, GET {path}{' (one call out, httpx)' if path == '/call' else ''}")
                report(rows, servers)
                received = exporter.metric("otshim_exporter_spans_received_total") - before
                print(f"    spans of otshim a request: {received / requests['otshim']:.2f} (with those of the warm-up)")
            print("  memory of the server, MiB: " + ", ".join(f"{name} {rss_mib(pid):.0f}" for name, (_, pid) in servers.items())
                  + f"; otshim's exporter {rss_mib(exporter.process.pid):.0f}")
        print(f"  batches that the agent has delivered: {posts(f'{directory}/agent-{loop}.log')}")


def bench_busy(directory, loop):
    """What a lock-free look at the interpreter is worth: nothing of ours waits for its lock, which a computing thread gives up every 5 ms."""
    with nginx_answering(f"{directory}/leaf-busy-{loop}") as leaf, Exporter(directory) as exporter:
        base = dict(os.environ, LEAF=f"http://127.0.0.1:{leaf}/", PYTHONDONTWRITEBYTECODE="1", BUSY="1")
        with uvicorn(loop, base) as bare, uvicorn(loop, base | exporter.preload()) as otshim:
            servers = {"bare": bare[0], "otshim": otshim[0]}
            rows = {name: [] for name in servers}
            for port in servers.values():
                latencies(port, 1, "/call")
            for round_number in range(ROUNDS):
                for name in sorted(servers, reverse=round_number % 2 == 1):
                    rows[name].append(latencies(servers[name], SECONDS, "/call"))
        print(f"  {loop}, GET /call beside a thread that computes, wrk -c4: latency in ms, median of the rounds (middle half)")
        for name, got in rows.items():
            for number, what in enumerate(("p50", "p99")):
                print(f"    {name:7} {what} {spread([row[number] for row in got], 1)}", end="\n" if number else "")


def bench(directory):
    print(f"FastAPI on uvicorn (httptools), 1 process, wrk -c{CONNECTIONS}, {ROUNDS} rounds of {SECONDS} s each, in turn; median (middle half)")
    for loop in ("asyncio", "uvloop"):
        bench_loop(directory, loop)
        bench_busy(directory, loop)
