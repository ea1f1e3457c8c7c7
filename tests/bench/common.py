"""What the benchmarks share: programs that are started and ended, an exporter, nginx, load, and the clocks and memory of processes."""
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

BUILD = os.path.abspath(sys.argv[1])
QUICK = "--quick" in sys.argv
ROUNDS = 3 if QUICK else 7
SECONDS = 2 if QUICK else 5
LIBRARY = f"{BUILD}/libotshim.so"
NGINX_PROGRAM = shutil.which("nginx") or "/usr/sbin/nginx"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port, seconds=10):
    end = time.time() + seconds
    while time.time() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")


def cpu_ns(pid):
    """Time on a processor of a whole process, nanoseconds (/proc/PID/task/*/schedstat)."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total


def rss_mib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) / 1024


@contextlib.contextmanager
def running(argv, **kw):
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=kw.pop("stderr", subprocess.DEVNULL), **kw)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Exporter:
    def __init__(self, directory, endpoint=None):
        self.socket = f"{directory}/otshim.sock"
        self.port = free_port()
        env = dict(os.environ, OTSHIM_SOCKET=self.socket, OTSHIM_HTTP=f"127.0.0.1:{self.port}")
        for name in list(env):
            if name.startswith("OTEL_"):
                del env[name]
        if endpoint:
            env["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
        self.env = env

    def __enter__(self):
        self.process = subprocess.Popen([f"{BUILD}/otshim", "exporter"], env=self.env, stderr=subprocess.DEVNULL)
        wait_port(self.port)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)

    def metric(self, name):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5).read().decode()
        return sum(float(m) for m in re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.M))

    def preload(self):
        return dict(os.environ, LD_PRELOAD=LIBRARY, OTSHIM_SOCKET=self.socket, OTEL_SERVICE_NAME="bench")


def median_ratio(rows, name, base):
    return statistics.median(r[name] / r[base] for r in rows)


def spread(values, digits=3):
    """The median, and between which values the middle half of them lies: "0.971 (0.960 to 0.985)"."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def latencies(port, seconds, path, connections=4):
    """Milliseconds in which half of the requests, and 99 of 100, were answered."""
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{port}{path}"], capture_output=True,
                         text=True, check=True).stdout
    unit = {"us": 0.001, "ms": 1, "s": 1000}
    return [float(m[1]) * unit[m[2]] for m in (re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", out) for p in ("50", "99"))]


def wrk(port, seconds, path="/index.html", connections=16):
    """Requests per second, and how many there were."""
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True,
                         check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"not all answers were right:\n{out}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), int(re.search(r"(\d+) requests in", out).group(1))


NGINX = """worker_processes 1; daemon off; error_log stderr crit; pid {dir}/nginx.pid;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; sendfile on; tcp_nopush on; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; server {{ listen 127.0.0.1:{port}; root {dir}; }} }}
"""


@contextlib.contextmanager
def nginx_answering(home, log="off"):
    """nginx that answers everything with 200 and nothing more, on a port of its own: a backend for traces, or somebody to call."""
    os.makedirs(home, exist_ok=True)
    port = free_port()
    with open(f"{home}/nginx.conf", "w") as f:
        f.write(("user root;\n" if os.getuid() == 0 else "") + NGINX.format(dir=home, port=port).replace(
            f"root {home};", "client_max_body_size 20m; location / { return 200; }").replace("access_log off;", f"access_log {log};"))
    with running([NGINX_PROGRAM, "-p", home, "-c", f"{home}/nginx.conf"]):
        wait_port(port)
        yield port
