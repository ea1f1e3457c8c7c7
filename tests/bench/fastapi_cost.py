"""FastAPI on uvicorn: bare, under otshim, and with what one would pick instead, OpenTelemetry's own agent for Python.

Every variant sends its spans by OTLP (HTTP/protobuf) to the same kind of place: an nginx that answers 200. otshim by way of its exporter, whose
processor time is taken from the same machine. The agent is as it comes (opentelemetry-instrument, the instrumentations of FastAPI, httpx and
requests), but for its metrics and logs, which are off: traces are what is compared."""
import contextlib
import os
import statistics

from common import (BUILD, ROUNDS, SECONDS, Exporter, cpu_ns, free_port, nginx_answering, rss_mib, running, spread, wait_port, wrk)

BIN = f"{BUILD}/venv-bench/bin"
HERE = os.path.dirname(os.path.abspath(__file__))
AGENT = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
         "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": "bench"}
CONNECTIONS = 16


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
    for name in servers:
        rate = statistics.median(r[name] for r in rows)
        cpu = statistics.median(r[name + "_cpu"] for r in rows)
        added = statistics.median(r[name + "_cpu"] - r["bare_cpu"] for r in rows)
        compared = f"   otshim/agent {spread(rows, 'otshim', 'agent')}" if name == "agent" else ""
        print(f"    {name:7} {rate:8.0f} requests/s   ratio to bare {spread(rows, name, 'bare')}   {cpu / 1000:6.1f} µs CPU a request, {added / 1000:+6.1f} µs{compared}")


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


def bench(directory):
    print(f"FastAPI on uvicorn (httptools), 1 process, wrk -c{CONNECTIONS}, {ROUNDS} rounds of {SECONDS} s each, in turn; median (smallest to largest)")
    for loop in ("asyncio", "uvloop"):
        bench_loop(directory, loop)
