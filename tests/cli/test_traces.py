"""`otshim traces`, `otshim trace`, `otshim status`: what a person sees, and the same as JSON."""

import json
import os
import re
import signal
import subprocess

import pytest
from conftest import OTSHIM, TIMEOUT, clean_environment, otshim, wait_until
from producer import CLIENT, CONNECT, DNS, DNS_QUESTION, FAILED, HOST, METHOD, PEER_NAME, TARGET, Process, now

CHAIN, SLOW = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x4BF9AAAA000000000000000000000002
MS = 10**6


@pytest.fixture
def filled(exporter):
    """Two services, two traces: a chain with a failure, and a slow one."""
    start = now() - 10**9
    a, b = Process(exporter.socket, "app-a"), Process(exporter.socket, "app-b", executable="/usr/bin/\x1b[31mred")
    a.span(CHAIN, 1, start=start, duration=100 * MS, status=502, attributes=[(METHOD, "GET"), (TARGET, "/chain"), (HOST, "app-a:8000")])
    a.span(CHAIN, 2, parent=1, kind=DNS, start=start + 5 * MS, duration=MS, status=0, attributes=[(DNS_QUESTION, "app-b")])
    a.span(CHAIN, 3, parent=1, kind=CLIENT, start=start + 10 * MS, duration=50 * MS, attributes=[(METHOD, "GET"), (TARGET, "/io"), (HOST, "app-b:8002")])
    b.span(CHAIN, 4, parent=3, start=start + 12 * MS, duration=40 * MS, rule=1, attributes=[(METHOD, "GET"), (TARGET, "/io"), (HOST, "app-b:8002")])
    a.span(CHAIN, 5, parent=1, kind=CONNECT, start=start + 70 * MS, duration=MS, status=0, error=111, end=FAILED, attributes=[(PEER_NAME, "app-c")])
    b.span(SLOW, 6, start=start + 200 * MS, duration=700 * MS, attributes=[(METHOD, "POST"), (TARGET, "/\x1b[2Jslow\x07"), (HOST, "b")])
    b.count(9, 3)  # OTSHIM_COUNT_NOT_INJECTED
    wait_until(lambda: sum(t["spanCount"] for t in exporter.json("/api/traces")) == 6)
    yield exporter
    a.close()
    b.close()


def rows(result):
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_traces_newest_first(filled):
    heading, slow, chain = rows(filled.otshim("traces"))
    assert heading.split() == ["TRACE", "START", "DURATION", "SPANS", "SERVICE", "REQUEST"]
    assert re.fullmatch(r"4bf9aaaa0000  \d\d:\d\d:\d\d     700 ms      1  app-b             POST /\\x1b\[2Jslow\\x07", slow)
    assert re.fullmatch(r"4bf92f3577b3  \d\d:\d\d:\d\d     100 ms      5  app-a             ✗ GET /chain", chain)


@pytest.mark.parametrize("args, expected", [
    (["--service", "app-a"], ["4bf92f3577b3"]), (["-s", "app-b"], ["4bf9aaaa0000", "4bf92f3577b3"]), (["--min-duration", "101ms"], ["4bf9aaaa0000"]),
    (["--error"], ["4bf92f3577b3"]), (["--limit", "1"], ["4bf9aaaa0000"]), (["-n", "0"], ["4bf9aaaa0000", "4bf92f3577b3"]),
    (["-s", "app-b", "-e", "-d", "50ms", "-n", "5"], ["4bf92f3577b3"])])
def test_filters(filled, args, expected):
    assert [line.split()[0] for line in rows(filled.otshim("traces", *args))[1:]] == expected
    found = json.loads(filled.otshim("traces", "--json", *args).stdout)
    assert [trace["traceId"][:12] for trace in found] == expected


def test_no_match(filled):
    result = filled.otshim("traces", "--service", "nobody & sons/?")
    assert (result.returncode, result.stdout) == (0, "")
    assert "no trace matches" in result.stderr


def test_no_traces_yet(exporter):
    assert "no traces yet" in exporter.otshim("traces").stderr
    assert exporter.otshim("traces", "--json").stdout == "[]\n"
    result = exporter.otshim("trace", "latest")
    assert result.returncode == 1
    assert "no trace yet" in result.stderr


def test_follow(filled):
    process = subprocess.Popen([OTSHIM, "traces", "--follow", "--min-duration", "1us"], env=filled.env, stdout=subprocess.PIPE, text=True)
    assert "TRACE" in process.stdout.readline()
    app = Process(filled.socket, "later")
    app.span(0xC1, 1, duration=MS, attributes=[(METHOD, "GET"), (TARGET, "/later")])
    assert "GET /later" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 0
    app.close()


# ---- one trace ----------------------------------------------------------------------------------------------------------------------


def test_waterfall(filled):
    lines = rows(filled.otshim("trace", "4bf92f35", COLUMNS="100"))
    assert re.fullmatch(r"trace 4bf92f3577b34da6a3ce929d0e0e4736  \d\d:\d\d:\d\d  100 ms  5 spans, 2 services, 2 errors", lines[0])
    tree = [re.sub(r"\s+[▌▐█]+\s+", "  ", line) for line in lines[1:]]
    assert [re.sub(r" {2,}", "  ", line) for line in tree] == [
        "app-a  GET /chain  ✗ 502  100 ms",
        "app-a  ├─ dns.lookup app-b  1.00 ms",
        "app-a  ├─ GET http://app-b:8002/io  200  50.0 ms",
        "app-b  │  └─ GET /io  200  40.0 ms",
        "app-a  └─ tcp.connect app-c:9000  ✗  1.00 ms",
        "  ✗ connection refused",
    ]
    assert all(len(line) <= 100 for line in lines)
    # to scale: the call takes half of the request
    whole, half = lines[1].count("█"), lines[3].count("█") + (lines[3].count("▌") + lines[3].count("▐")) / 2
    assert abs(half / whole - 0.5) < 0.06


@pytest.mark.parametrize("width", [40, 60, 80, 133, 250])
def test_width(filled, width):
    for line in rows(filled.otshim("trace", "latest", COLUMNS=str(width)))[1:]:
        assert len(line) <= max(width, 45)


def test_without_utf8(filled):
    result = filled.otshim("trace", "4bf92f35", LC_ALL="C")
    assert result.stdout.isascii()
    assert "|  `- GET /io" in result.stdout and "#" in result.stdout and "x 502" in result.stdout


def test_no_color_without_a_terminal(filled):
    for args in (["trace", "4bf92f35"], ["traces"], ["status"]):
        assert "\x1b" not in filled.otshim(*args, CLICOLOR_FORCE="1", TERM="xterm-256color").stdout


def on_terminal(args, env):
    """What the command writes to a terminal 90 columns wide."""
    import fcntl
    import pty
    import struct
    import termios
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(OTSHIM, [str(OTSHIM), *args], env)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 90, 0, 0))
    output = b""
    try:
        while chunk := os.read(fd, 65536):
            output += chunk
    except OSError:
        pass
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()


def test_color_on_a_terminal(filled):
    status, output = on_terminal(["trace", "4bf92f35"], {**filled.env, "TERM": "xterm"})
    assert status == 0
    assert "\x1b[1;31m✗ 502\x1b[0m" in output
    for env in ({"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_terminal(["trace", "4bf92f35"], {**filled.env, **env})[1]


def test_hostile_text_never_drives_the_terminal(filled):
    for args in (["traces"], ["trace", "latest"], ["trace", "latest", "--verbose"], ["status"], ["trace", "latest", "--json"], ["status", "--json"],
                 ["traces", "--json"]):
        status, output = on_terminal(args, {**filled.env, "TERM": "xterm", "NO_COLOR": "1"})
        assert status == 0
        assert "\x1b" not in output and "\x07" not in output


def test_verbose(filled):
    output = filled.otshim("trace", "4bf92f35", "--verbose").stdout
    assert "http.request.method = GET" in output
    assert "server.address = app-b" in output


def test_trace_as_json(filled):
    document = json.loads(filled.otshim("trace", "4BF92F35", "--json").stdout)
    spans = {span["spanId"]: span for r in document["resourceSpans"] for s in r["scopeSpans"] for span in s["spans"]}
    assert len(spans) == 5
    assert spans["%016x" % 4]["parentSpanId"] == "%016x" % 3
    services = [a["value"]["stringValue"] for r in document["resourceSpans"] for a in r["resource"]["attributes"] if a["key"] == "service.name"]
    assert sorted(services) == ["app-a", "app-b"]


def test_latest_of_a_service(filled):
    assert "4bf9aaaa" in filled.otshim("trace", "latest").stdout
    assert "4bf92f35" in filled.otshim("trace", "latest", "--service", "app-a").stdout
    result = filled.otshim("trace", "latest", "--service", "nobody")
    assert result.returncode == 1 and "nobody" in result.stderr


def test_trace_that_is_not_there(filled):
    result = filled.otshim("trace", "0123456789")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no trace 0123456789..." in result.stderr


def test_ambiguous_prefix(filled):
    result = filled.otshim("trace", "4bf9")
    assert result.returncode == 1
    assert "2 traces begin with 4bf9" in result.stderr


def test_many_spans(exporter):
    app = Process(exporter.socket)
    for i in range(1, 463):
        app.span(0xD1, i, parent=int(i > 1), kind=CLIENT if i > 1 else 1, duration=MS, attributes=[(METHOD, "GET"), (TARGET, "/%d" % i), (HOST, "h")])
    wait_until(lambda: [t["spanCount"] for t in exporter.json("/api/traces")] == [462])
    output = exporter.otshim("trace", "latest").stdout
    assert "… 411 more spans" in output
    assert len(output.splitlines()) == 53
    assert len(exporter.otshim("trace", "latest", "--all").stdout.splitlines()) == 463
    app.close()


# ---- status -------------------------------------------------------------------------------------------------------------------------


def test_status(filled):
    output = filled.otshim("status").stdout
    assert "pid %d" % filled.process.pid in output
    assert filled.socket in output
    assert "6 received" in output
    assert "set OTEL_EXPORTER_OTLP_ENDPOINT" in output
    assert "3 outbound requests that could carry no traceparent" in output
    assert re.search(r"^ +%d  app-a +4 +0 +0 " % os.getpid(), output, re.M)
    assert re.search(r"^ +%d  app-b +2 +3 +0 " % os.getpid(), output, re.M)


def test_status_as_json(filled):
    status = json.loads(filled.otshim("status", "--json").stdout)
    assert status["pid"] == filled.process.pid
    assert status["spans"]["received"] == 6
    assert status["library"]["not_injected"] == 3
    assert status["export"] == {"endpoint": None, "protocol": None, "requests": 0, "retries": 0, "failures": 0, "lastSuccessUnixNano": None,
                                "lastError": None}
    assert {(p["service"], p["spans"], p["pid"]) for p in status["processes"]} == {("app-a", 4, os.getpid()), ("app-b", 2, os.getpid())}
    assert status["rates"]["windowSeconds"] > 0


def test_status_nothing_connected(exporter):
    output = exporter.otshim("status").stdout
    assert "none connected" in output
    assert re.search(r"^lost\n +nothing$", output, re.M)


def test_last_export_error_in_words(tmp_path):
    from conftest import Exporter
    exporter = Exporter(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="50", OTSHIM_SHUTDOWN_TIMEOUT="200")
    app = Process(exporter.socket)
    app.span(0xE1, 1, attributes=[(METHOD, "GET"), (TARGET, "/")])
    error = wait_until(lambda: exporter.json("/api/status")["export"]["lastError"])
    assert "127.0.0.1:9" in error["message"]
    output = exporter.otshim("status").stdout
    assert re.search(r"^last error .*127\.0\.0\.1:9.* ago\)$", output, re.M)
    assert re.search(r"^queue +1 of ", output, re.M)
    assert exporter.stop() == 0
    app.close()


# ---- not an exporter ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer, words", [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "is no otshim exporter"), (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "is no otshim exporter"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer as it should"), (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "302"),
    (b"HTTP/1.1 500 X\r\nContent-Length: 26\r\n\r\n{\"error\": \"\\u001b[2Joops\"}", "\\x1b[2Joops"), (b"", "does not answer as it should")])
def test_something_else_answers(answer, words):
    import socket
    import threading
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            for _ in range(3):
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
        threading.Thread(target=serve, daemon=True).start()
        address = "127.0.0.1:%d" % server.getsockname()[1]
        for args in (["status"], ["traces"], ["trace", "latest"]):
            result = otshim(*args, env=clean_environment(OTSHIM_HTTP=address))
            assert result.returncode == 1
            assert words in result.stderr, result.stderr
            assert "\x1b" not in result.stderr
