"""A laboratory for one test: an exporter of its own on a private socket, real programs under the library, and a client without it.

    def test_something(lab):
        leaf = lab.start(programs.thread_server, "leaf")
        lab.get(leaf, "/leaf/1")
        lab.expect("leaf SERVER GET /leaf/1 200")

Whatever a test starts, the laboratory ends."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

import tree

ROOT = Path(__file__).resolve().parents[2]
BUILD = (ROOT / os.environ.get("BUILD", "build")).resolve()
LIBRARY = BUILD / "libotshim.so"
OTSHIM = BUILD / "otshim"
PROGRAMS = Path(__file__).resolve().parent / "programs"

# OTSHIM_GOLDEN_BARE=1 runs every program without the library and looks at its answers only: is the program itself all right?
BARE = os.environ.get("OTSHIM_GOLDEN_BARE") == "1"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, seconds, what):
    """Polls; the value of the condition once it is true, else the test fails saying what it waited for."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)


def listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A program that the laboratory has started, with its output in a file."""

    def __init__(self, name, argv, env, directory, port=None):
        self.name, self.port = name, port
        self.output = directory / f"{name}.out"
        with open(self.output, "ab") as out:
            self.popen = subprocess.Popen(
                [str(a) for a in argv], env=env, cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        self.pid = self.popen.pid

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def tell(self, number):
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def stop(self, number=signal.SIGTERM, seconds=10):
        """To the whole group: some servers leave workers behind when only the master is told."""
        self.tell(number)
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        deadline = time.monotonic() + seconds
        while self.group_lives() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.tell(signal.SIGKILL)
        self.popen.wait()
        return self.popen.returncode

    def group_lives(self):
        try:
            os.killpg(self.pid, 0)
            return True
        except ProcessLookupError:
            return False

    def tail(self, lines=30):
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])


class KeptOpen:
    """One stream for several http.client.HTTPResponse, each of which would close it (and wants to make it from a socket)."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def makefile(self, *args):
        return self

    def close(self):
        pass


class Lab:
    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="otshim-golden-"))
        self.directory.chmod(0o755)  # servers that give up root (nginx, Apache) must reach the exporter's socket
        self.socket = self.directory / "otshim.sock"
        self.http = free_port()
        self.exporter = None
        self.exporter_env = {}
        self.processes = []
        self.receivers = []
        self.ports = {}
        self.seen = {}

    # ---- the exporter

    def start_exporter(self, **env):
        """Again with the same settings if there are none given: that is a restart."""
        if BARE:
            return
        self.exporter_env = env or self.exporter_env
        settings = self.base_env() | {
            "OTSHIM_SOCKET": str(self.socket),
            "OTSHIM_HTTP": f"127.0.0.1:{self.http}",
            "OTSHIM_TRACES": "20000",
        }
        self.exporter = Process("exporter", [OTSHIM, "exporter"], settings | self.exporter_env, self.directory)
        wait_for(lambda: self.exporter.popen.poll() is not None or self.healthy(), 10, "the exporter")
        assert self.exporter.popen.poll() is None, f"the exporter did not start:\n{self.exporter.tail()}"

    def healthy(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.http}/healthz", timeout=5).status == 200
        except OSError:
            return False

    def deliver_to(self, receiver):
        """A fresh exporter that sends to this receiver."""
        self.receivers.append(receiver)
        if self.exporter:
            self.exporter.stop()
        self.start_exporter(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL=receiver.protocol)
        return receiver.received

    def ask_exporter(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=10) as answer:
            return answer.read().decode()

    def spans(self):
        """All spans that the exporter has in memory, by way of its API; a trace that has not changed is not asked for again."""
        fresh = {}
        for trace in json.loads(self.ask_exporter("/api/traces?limit=0")):
            key = (self.exporter.pid, trace["traceId"], trace["sequence"])
            fresh[key] = self.seen.get(key) or tree.spans_of(json.loads(self.ask_exporter(f"/api/traces/{trace['traceId']}")))
        self.seen = fresh
        return [span for spans in fresh.values() for span in spans]

    def metrics(self):
        """The exporter's own counters: {"name{labels}": value}."""
        lines = [l.rsplit(" ", 1) for l in self.ask_exporter("/metrics").splitlines() if l and not l.startswith("#")]
        return {name: float(value) for name, value in lines}

    # ---- programs

    def base_env(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.directory), "LANG": "C.UTF-8", "TMPDIR": str(self.directory)}

    def traced_env(self, service, **env):
        traced = {} if BARE else {"LD_PRELOAD": str(LIBRARY), "OTSHIM_SOCKET": str(self.socket), "OTEL_SERVICE_NAME": service}
        return self.base_env() | traced | env

    def start(self, program, name, traced=True, env=None, ready=20, **options):
        """program(lab, name, port, **options) says what to run; waits until it listens."""
        port = free_port()
        argv = program(self, name, port, **options)
        environment = self.traced_env(name, **(env or {})) if traced else self.base_env() | (env or {})
        process = Process(name, argv, environment, self.directory, port)
        self.processes.append(process)
        self.ports[port] = name
        wait_for(lambda: process.popen.poll() is not None or listening(port), ready, f"{name} to listen")
        assert process.popen.poll() is None, f"{name} did not start:\n{process.tail()}"
        return process

    def run(self, argv, service, env=None, timeout=20):
        """A client program, from start to end."""
        return subprocess.run(
            [str(a) for a in argv],
            env=self.traced_env(service, **(env or {})),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
        )

    def file(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path

    # ---- the client, without the library

    def get(self, server, path, status=200, headers=None, method="GET", body=None):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers={"Connection": "close"} | (headers or {}))
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        assert answer.status == status, f"{method} {path} of {server.name}: {answer.status}, expected {status}\n{text}\n{server.tail()}"
        return text

    def converse(self, server, pieces, answers, pause=0.0):
        """Raw bytes on one connection, each piece in a send of its own `pause` seconds apart; without a pause, all in one. Returns the
        (status, body) of so many answers."""
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces if pause else [b"".join(pieces)]:
                s.sendall(piece)
                time.sleep(pause)
            stream = KeptOpen(s.makefile("rb"))
            got = []
            for _ in range(answers):
                answer = http.client.HTTPResponse(stream)
                answer.begin()
                got.append((answer.status, answer.read()))
            return got

    def storm(self, server, path, ids, concurrency=8):
        """Concurrent requests; ID in the path becomes each id."""
        with ThreadPoolExecutor(concurrency) as pool:
            return list(pool.map(lambda ident: self.get(server, path.replace("ID", ident)), ids))

    # ---- what came of it

    def expect(self, text, show=(), seconds=10, source=None, last=True):
        """The whole of what was traced is exactly this. Then ends the programs and looks again: nothing may come late."""
        if BARE:
            return None
        source = source or self.spans
        expected = tree.dedent(text)
        forest = self.await_text(expected, show, seconds, source)
        if last:
            self.stop_programs()
            time.sleep(0.3)
            forest = self.await_text(expected, show, 0, source)
        mistakes = forest.mistakes()
        assert not mistakes, "\n".join(mistakes)
        return forest

    def await_text(self, expected, show, seconds, source):
        deadline = time.monotonic() + seconds
        while True:
            forest = tree.Forest(source())
            got = forest.render(self.ports, show).replace(str(self.directory), "{dir}")
            if got == expected:
                return forest
            if time.monotonic() >= deadline:
                pytest.fail(f"not the trace that was expected:\n{tree.difference(expected, got)}\n{self.story()}", pytrace=False)
            time.sleep(0.05)

    def expect_each(self, text, ids, seconds=15, without=(), may_lack_parents=False):
        """One trace for each id, and it is this one with ID replaced. `without`: names of spans to leave out of the comparison (a
        connection that is kept alive is made for one of many requests). `may_lack_parents`: the program hands requests from thread to
        thread, so that some calls may stand alone. A span under another id's request is never all right."""
        self.expect_each_of([(text, ident) for ident in ids], seconds, without, may_lack_parents)

    def expect_each_of(self, texts, seconds=15, without=(), may_lack_parents=False):
        """The same for (trace, id)s."""
        if BARE:
            return
        wanted = sorted(tree.dedent(text).replace("ID", ident) for text, ident in texts)
        lines = sum(len(t.split("\n")) for t in wanted)
        deadline = time.monotonic() + seconds
        while True:
            forest = tree.Forest([s for s in self.spans() if s.name not in without])
            got = sorted(tree.Forest(list(spans_below(root))).render(self.ports) for root in forest.roots)
            complete = sum(len(t.split("\n")) for t in got) >= lines if may_lack_parents else got == wanted
            if complete or time.monotonic() >= deadline:
                break
            time.sleep(0.1)
        wrong = [t for t in got if len(set(re.findall(r"\bid-\d+\b", t))) > 1]
        assert not wrong, f"{len(wrong)} of {len(wanted)} traces mix requests, such as:\n{wrong[0]}"
        lone = [t for t in got if t not in wanted]
        missing = [t for t in wanted if t not in got]
        if may_lack_parents:
            print(f"{len(missing)} of {len(wanted)} requests have calls without a parent")
            assert complete and (may_lack_parents == "all" or len(missing) < len(wanted)), f"spans are missing, or no call has a parent, such as:\n{got[0]}"
        else:
            assert got == wanted, "\n".join(
                [f"{len(missing)} of {len(wanted)} traces are missing, {len(lone)} others are there.", "missing, such as:"]
                + missing[:1] + ["", "unexpected, such as:"] + lone[:2] + [self.story()]
            )
        assert not forest.mistakes()

    def story(self):
        told = []
        for process in self.processes + ([self.exporter] if self.exporter else []):
            if process.tail():
                told.append(f"---- output of {process.name}\n{process.tail(15)}")
        return "\n".join(told)

    # ---- the end

    def stop_programs(self):
        for process in reversed(self.processes):
            process.stop()

    def close(self):
        self.stop_programs()
        if self.exporter:
            status = self.exporter.stop()
            output = self.exporter.tail(60)
        for receiver in self.receivers:
            receiver.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.exporter:
            assert status == 0, f"the exporter ended with status {status}:\n{output}"


def spans_below(root):
    yield root
    for child in root.children:
        yield from spans_below(child)


def ids(count):
    return [f"id-{n}" for n in range(count)]


def fetch(*urls, ident="1"):
    """The path by which our test programs are asked to call others."""
    return f"/fetch/{ident}?" + "&".join("url=" + quote(url, safe="") for url in urls)
