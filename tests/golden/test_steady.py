"""In the steady state there is nothing of ours: no system call, no thread, no descriptor.

The same program with the same requests, once bare and once under the library with an exporter listening. strace counts system calls
between the warm-up and the end; what is counted must be the same, by name and by number."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import lab as laboratory
import pytest
import programs
from lab import fetch, wait_for

pytestmark = pytest.mark.skipif(laboratory.BARE, reason="needs the library")

REQUESTS = 300
# Calls that the same requests need more or less of, as time goes: two packets seen by one wait or by two.
TIMING = {"epoll_wait", "epoll_pwait", "poll", "restart_syscall", "readv", "accept4"}
# A request that gets a traceparent goes out by sendmsg, whichever of these the program called: one call for one call.
WRITES = {"write", "writev", "send", "sendto", "sendmsg"}
# Once for each new thread, and once for each page of memory that a request was sent from.
ONCE = {"getrandom", "gettid"}
FEW = {"futex": 4}
CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def strace_works():
    if not shutil.which("strace"):
        return False
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True)
    return done.returncode == 0


def members(process):
    """The pids of a program and of all that it has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getpgid(int(entry.name)) == process.pid:
                    found.append(int(entry.name))
            except ProcessLookupError:
                pass
    return sorted(found)


def ask(server, paths):
    """On one connection that is kept alive."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for path in paths:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
    connection.close()


def system_calls(lab, process, path):
    """{name: how many} for REQUESTS requests."""
    log = lab.directory / "strace.log"
    log.unlink(missing_ok=True)
    attach = [word for pid in members(process) for word in ("-p", str(pid))]
    tracer = subprocess.Popen(["strace", "-f", "-o", log, *attach], stderr=subprocess.PIPE, text=True)
    try:
        for _ in members(process):
            assert "attached" in tracer.stderr.readline()
        ask(process, [path] * REQUESTS)
        time.sleep(0.2)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=10)
    # "1234 read(3, ..." ; "<... read resumed>" is the second half of one
    names = re.findall(r"^\d+ +([a-z0-9_]+)\(", log.read_text(errors="replace"), re.MULTILINE)
    calls = Counter("any write" if name in WRITES else name for name in names)
    if CLOCK.exists() and CLOCK.read_text().strip() not in ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"):
        calls.pop("clock_gettime", None)  # this machine's clock cannot be read without a system call
    return calls


def belongings(process):
    """What each process of the program holds: its threads, and its descriptors by kind."""
    held = []
    for pid in members(process):
        names = Counter()
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                names[re.sub(r"\[\d+\]|/tmp/[^ ]*", "", os.readlink(fd))] += 1
            except FileNotFoundError:
                pass
        held.append((len(os.listdir(f"/proc/{pid}/task")), names))
    return held


FILES = {"small.txt": b"twenty-two bytes here\n"}

# name: (program, options, path); {leaf} is the port of an untraced server behind it
SERVERS = {
    "nginx-files": (programs.nginx_files, {"files": FILES}, "/small.txt"),
    "nginx-proxy": (programs.nginx_proxy, {"upstreams": ["leaf"]}, "/leaf/1"),
    "nginx-proxy-keepalive": (programs.nginx_proxy, {"upstreams": ["leaf"], "keepalive": True}, "/leaf/1"),
    "c-threads": (programs.thread_server, {}, "/leaf/1"),
    "c-threads-calling": (programs.thread_server, {}, "/fetch/1?url=http%3A%2F%2F127.0.0.1%3A{leaf}%2Fleaf%2F1"),
    "haproxy": (programs.haproxy, {"upstream": "leaf"}, "/leaf/1"),
}


@pytest.mark.parametrize("which", SERVERS)
def test_nothing_of_ours(lab, which):
    if not strace_works():
        pytest.skip("strace cannot trace here")
    program, options, path = SERVERS[which]
    leaf = lab.start(programs.thread_server, "leaf", traced=False)
    path = path.replace("{leaf}", str(leaf.port))
    options = {k: leaf if v == "leaf" else [leaf] if v == ["leaf"] else v for k, v in options.items()}
    calls, held = {}, {}
    for how in ("bare", "traced"):
        process = lab.start(program, "front", traced=how == "traced", **options)
        ask(process, [path] * 50)
        if how == "traced":
            wait_for(lambda: len(lab.spans()) >= 50, 10, "the first 50 spans")
        calls[how] = system_calls(lab, process, path)
        held[how] = belongings(process)
        process.stop()
        lab.processes.remove(process)
        shutil.rmtree(lab.directory / "site", ignore_errors=True)
    wait_for(lambda: len([s for s in lab.spans() if s.kind == "SERVER"]) == 50 + REQUESTS, 10, "the spans of all requests")
    assert held["traced"] == held["bare"]
    differences = {}
    for name in calls["bare"] | calls["traced"]:
        bare, traced = calls["bare"][name], calls["traced"][name]
        slack = REQUESTS // 3 if name in TIMING else FEW.get(name, 0 if bare == 0 else 2)
        if name in ONCE:
            slack = calls["bare"]["clone3"] + calls["bare"]["clone"]
        if traced > bare + slack:
            differences[name] = f"{bare} -> {traced}"
    assert not differences, f"system calls for {REQUESTS} requests, bare -> traced: {differences}"
