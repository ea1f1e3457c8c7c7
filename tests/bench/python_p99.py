"""What does a call cost a Python service whose interpreter is also kept busy by a thread that computes? The time a request takes, at the median
and at p99, without the library and with it.

    python_p99.py BUILD [--rounds N] [--seconds S] [--clients N] [--python PATH] [--loop asyncio|uvloop|both] [--json]

FastAPI on uvicorn; the endpoint awaits one httpx call to a server in this process, on a connection that is kept. If the library took the GIL for an
outbound call, it would wait for the busy thread up to five milliseconds each time (sys.getswitchinterval), and p99 would show it.

Bare and watched rounds take turns, each with a fresh server and the order changed from pair to pair; a ratio is of two neighbours, and what is
printed is the median of the ratios with the smallest and the largest: where these are far apart the machine was too noisy to say."""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def make_app():
    """The service: for uvicorn --factory."""
    import httpx
    from fastapi import FastAPI

    app = FastAPI()
    client = httpx.AsyncClient(timeout=30, verify=False)
    leaf = os.environ["LEAF"]

    def compute():
        while True:
            sum(range(1000))

    if os.environ["BUSY"] == "1":
        threading.Thread(target=compute, daemon=True).start()

    @app.get("/")
    async def call():
        return (await client.get(leaf)).text

    return app


# ---- one round


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Round:
    def __init__(self, options, loop, busy, watched, env):
        self.options, self.watched = options, watched
        self.port = free_port()
        self.argv = [options.python, "-m", "uvicorn", "--factory", "--app-dir", HERE, "--port", self.port, "--log-level", "warning",
                     "--no-access-log", f"--loop={loop}", "python_p99:make_app"]
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "OTSHIM_")) and k != "LD_PRELOAD"}
        self.env |= {"BUSY": "1" if busy else "0"} | (env if watched else {})

    async def measure(self):
        """The times of all requests, in milliseconds, sorted."""
        async with await asyncio.start_server(leaf, "127.0.0.1", 0) as server:
            self.env["LEAF"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            process = subprocess.Popen([str(a) for a in self.argv], env=self.env)
            try:
                await self.listening(process)
                await self.drive(time.monotonic() + 0.5)
                return sorted(await self.drive(time.monotonic() + self.options.seconds))
            finally:
                process.kill()
                process.wait()

    async def listening(self, process):
        for _ in range(600):
            try:
                (await asyncio.open_connection("127.0.0.1", self.port))[1].close()
                return
            except OSError:
                if process.poll() is not None:
                    sys.exit(f"uvicorn ended with status {process.returncode}")
                await asyncio.sleep(0.05)
        sys.exit("uvicorn did not listen within 30 seconds")

    async def drive(self, deadline):
        return [t for times in await asyncio.gather(*(self.client(deadline) for _ in range(self.options.clients))) for t in times]

    async def client(self, deadline):
        times = []
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while time.monotonic() < deadline:
            start = time.perf_counter()
            writer.write(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r")[0]))
            times.append((time.perf_counter() - start) * 1000)
        writer.close()
        return times


async def leaf(reader, writer):
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        pass  # the last: the round is over, and its loop with it
    finally:
        writer.close()


# ---- what it comes to


def percentile(times, part):
    return times[min(len(times) - 1, int(len(times) * part))]


def compare(options, loop, busy, env):
    pairs = []
    for number in range(options.rounds):
        order = (False, True) if number % 2 == 0 else (True, False)
        measured = {watched: asyncio.run(Round(options, loop, busy, watched, env).measure()) for watched in order}
        pairs.append({watched: {"p50": percentile(t, 0.5), "p99": percentile(t, 0.99), "rate": len(t) / options.seconds} for watched, t in measured.items()})
    result = {"loop": loop, "busy": busy, "rounds": options.rounds}
    for what in ("p50", "p99", "rate"):
        ratios = sorted(pair[True][what] / pair[False][what] for pair in pairs)
        result[what] = {"bare": statistics.median(pair[False][what] for pair in pairs), "watched": statistics.median(pair[True][what] for pair in pairs),
                        "ratio": statistics.median(ratios), "smallest": ratios[0], "largest": ratios[-1]}
    return result


def print_text(result):
    beside = "beside a busy thread" if result["busy"] else "alone"
    for what, unit in (("p50", "ms"), ("p99", "ms"), ("rate", "/s")):
        r = result[what]
        print(f"{result['loop']:<8} {beside:<21} {what:<5} bare {r['bare']:8.2f} {unit}   otshim {r['watched']:8.2f} {unit}   "
              f"ratio {r['ratio']:.3f}  ({r['smallest']:.3f} to {r['largest']:.3f} in {result['rounds']} pairs)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--python", help="with FastAPI, uvicorn, uvloop and httpx (BUILD/venv's)")
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "both"], default="both")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    build = Path(options.build).resolve()
    options.python = options.python or build / "venv" / "bin" / "python"
    with tempfile.TemporaryDirectory(prefix="otshim-bench-") as directory:
        env = {"OTSHIM_SOCKET": f"{directory}/otshim.sock"}
        exporter = subprocess.Popen([build / "otshim", "exporter"], env=os.environ | env | {"OTSHIM_HTTP": "off"}, stderr=subprocess.DEVNULL)
        env |= {"LD_PRELOAD": str(build / "libotshim.so")}
        try:
            time.sleep(0.5)
            for loop in ("asyncio", "uvloop") if options.loop == "both" else (options.loop,):
                for busy in (False, True):
                    result = compare(options, loop, busy, env)
                    print(json.dumps(result), flush=True) if options.json else print_text(result)
        finally:
            exporter.terminate()
            exporter.wait()


if __name__ == "__main__":
    main()
