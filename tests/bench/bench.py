"""make bench: what otshim costs, as ratios measured side by side in one run.

Each comparison runs its variants in turn (A B C A B C ...), so that a machine whose speed drifts moves all of them; medians of the
per-round ratios are printed, with the absolute figures beside them for orientation only.
"""
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time

import fastapi_cost
from common import (BUILD, LIBRARY, NGINX, NGINX_PROGRAM, ROUNDS, SECONDS, QUICK, Exporter, cpu_ns, free_port, median_ratio, nginx_answering, rss_mib,
                    running, wait_port, wrk)


@contextlib.contextmanager
def nginx(directory, name, env):
    port = free_port()
    home = f"{directory}/{name}"
    os.makedirs(home, exist_ok=True)
    os.chmod(home, 0o755)
    with open(f"{home}/index.html", "w") as f:
        f.write("twenty-two bytes here\n")
    with open(f"{home}/nginx.conf", "w") as f:
        f.write(("user root;\n" if os.getuid() == 0 else "") + NGINX.format(dir=home, port=port))
    with running([NGINX_PROGRAM, "-p", home, "-c", f"{home}/nginx.conf"], env=env) as process:
        wait_port(port)
        children = open(f"/proc/{process.pid}/task/{process.pid}/children").read().split()
        yield port, int(children[0])


def bench_nginx(directory):
    print(f"nginx, 1 worker, 22-byte static file, keep-alive, wrk -c16, {ROUNDS} rounds of {SECONDS} s each, in turn")
    with Exporter(directory) as exporter, nginx(directory, "bare", dict(os.environ)) as bare, nginx(
            directory, "noop", dict(os.environ, LD_PRELOAD=f"{BUILD}/bench/noop.so")) as noop, nginx(
                directory, "otshim", exporter.preload()) as otshim:
        servers = {"bare": bare, "noop": noop, "otshim": otshim}
        for port, _ in servers.values():
            wrk(port, 1)
        before, rows, requests_traced = exporter.metric("otshim_exporter_spans_received_total"), [], 0
        for _ in range(ROUNDS):
            row = {}
            for name, (port, pid) in servers.items():
                cpu = cpu_ns(pid)
                rate, requests = wrk(port, SECONDS)
                row[name], row[name + "_cpu"] = rate, (cpu_ns(pid) - cpu) / requests
                requests_traced += requests if name == "otshim" else 0
            rows.append(row)
        time.sleep(1)
        received = exporter.metric("otshim_exporter_spans_received_total") - before
        for name in servers:
            rate = statistics.median(r[name] for r in rows)
            cpu = statistics.median(r[name + "_cpu"] for r in rows)
            print(f"  {name:8} {rate:10.0f} requests/s   ratio to bare {median_ratio(rows, name, 'bare'):.3f}   "
                  f"{cpu:7.0f} ns CPU/request   +{cpu - statistics.median(r['bare_cpu'] for r in rows):.0f} ns")
        print(f"  spans received / requests made under otshim: {received:.0f} / {requests_traced}")


def bench_file():
    print("read and write of one byte on a plain descriptor (ns a call, median of alternating runs)")
    rows = []
    for _ in range(ROUNDS):
        row = {}
        for name, env in (("bare", dict(os.environ)), ("otshim", dict(os.environ, LD_PRELOAD=LIBRARY, OTSHIM_SOCKET="/nonexistent/s"))):
            out = subprocess.run([f"{BUILD}/bench/file_cost", "2000000"], env=env, capture_output=True, text=True, check=True).stdout.split()
            row[name, "read"], row[name, "write"] = float(out[1]), float(out[3])
        rows.append(row)
    for call in ("read", "write"):
        bare, ours = (statistics.median(r[n, call] for r in rows) for n in ("bare", "otshim"))
        added = statistics.median(r["otshim", call] - r["bare", call] for r in rows)
        print(f"  {call:6} bare {bare:.1f}  otshim {ours:.1f}  added {added:+.1f} ns")


def bench_spawn():
    print("starting /bin/true (µs a start, median of alternating runs of 300)")
    rows = []
    for _ in range(ROUNDS):
        row = {}
        for name, library in (("bare", "-"), ("noop", f"{BUILD}/bench/noop.so"), ("otshim", LIBRARY)):
            row[name] = float(subprocess.run([f"{BUILD}/bench/spawn_cost", "300", library, "/bin/true"], capture_output=True, text=True, check=True).stdout)
        rows.append(row)
    for name in ("bare", "noop", "otshim"):
        added = statistics.median(r[name] - r["bare"] for r in rows)
        print(f"  {name:8} {statistics.median(r[name] for r in rows):7.1f}   added {added:+.1f} µs")


def bench_exporter(directory):
    seconds = 3 if QUICK else 10
    print(f"exporter: CPU and memory at a given rate, {seconds} s each")
    with nginx_answering(f"{directory}/sink") as port:
        for what, endpoint in (("kept in memory only", None), ("delivered by HTTP/protobuf, gzip off", f"http://127.0.0.1:{port}")):
            for rate in (10000, 100000):
                with tempfile.TemporaryDirectory() as private, Exporter(private, endpoint) as exporter:
                    cpu, start = cpu_ns(exporter.process.pid), time.time()
                    flood = subprocess.run([f"{BUILD}/bench/span_flood", str(rate), str(seconds)], env=dict(
                        os.environ, OTSHIM_SOCKET=exporter.socket, OTEL_SERVICE_NAME="flood"), capture_output=True, text=True, check=True).stdout.strip()
                    time.sleep(2)
                    spans = exporter.metric("otshim_exporter_spans_received_total")
                    exported = exporter.metric("otshim_exporter_spans_exported_total")
                    used = (cpu_ns(exporter.process.pid) - cpu) / 1e9
                    dropped = exporter.metric("otshim_exporter_spans_dropped_total") + exporter.metric("otshim_process_records_dropped_total")
                    print(f"  {rate:7}/s {what:40} {used / (time.time() - start) * 100:5.1f} % of a core, {spans / used if used else 0:9.0f} spans per CPU second, "
                          f"{rss_mib(exporter.process.pid):6.1f} MiB; received {spans:.0f}, exported {exported:.0f}, dropped {dropped:.0f}; producer: {flood}")


def bench_p99():
    """Needs what the tests need (tests/deps.sh test)."""
    if not os.path.exists(f"{BUILD}/venv/bin/uvicorn"):
        print("p99 of a Python service: left out, there is no FastAPI in build/venv")
        return
    print("p99 of a Python service beside a thread that computes (FastAPI on uvicorn, one outbound call; paired rounds)")
    subprocess.run([f"{BUILD}/venv/bin/python", os.path.join(os.path.dirname(__file__), "python_p99.py"), BUILD, "--rounds", "3" if QUICK else "7"], check=True)


def main():
    with tempfile.TemporaryDirectory(prefix="otshim-bench-") as directory:
        os.chmod(directory, 0o755)
        chosen = [a for a in sys.argv[2:] if not a.startswith("-")] or ["nginx", "file", "spawn", "exporter", "fastapi", "p99"]
        for name in chosen:
            {"nginx": lambda: bench_nginx(directory), "file": bench_file, "spawn": bench_spawn, "exporter": lambda: bench_exporter(directory),
             "fastapi": lambda: fastapi_cost.bench(directory), "p99": bench_p99}[name]()
            print()


if __name__ == "__main__":
    main()
