"""`otshim exporter`: starting, refusing to start, stopping; the HTTP interface and its errors."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from conftest import OTSHIM, Exporter, clean_environment, otshim, wait_until
from producer import CLIENT, Process, HOST, METHOD, TARGET, now


def test_says_where_and_that_there_is_no_endpoint(exporter):
    line = exporter.log.read_text()
    assert exporter.socket in line
    assert "http://" + exporter.http in line
    assert "no endpoint set: traces are kept in memory only; set OTEL_EXPORTER_OTLP_ENDPOINT" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("endpoint, words", [("http://127.0.0.1:4317", "sending traces to http://127.0.0.1:4317 by gRPC"),
                                             ("http://127.0.0.1:4318", "sending traces to http://127.0.0.1:4318/v1/traces by HTTP/protobuf")])
def test_says_where_spans_go(tmp_path, endpoint, words):
    exporter = Exporter(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert words in exporter.log.read_text()
    assert exporter.stop() == 0


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGHUP, signal.SIGTERM], [signal.SIGPIPE, signal.SIGTERM],
                                     [signal.SIGTERM, signal.SIGTERM]])
def test_stops_in_order(tmp_path, signals):
    exporter = Exporter(tmp_path)
    for number in signals:
        exporter.process.send_signal(number)
    assert exporter.process.wait(10) == 0
    # a second signal means: at once; the next exporter finds the place free all the same
    assert signals == [signal.SIGTERM] * 2 or not os.path.exists(exporter.socket)


def test_bad_configuration_is_refused_line_by_line(tmp_path):
    env = clean_environment(OTSHIM_SOCKET="relative/path", OTSHIM_HTTP="nonsense", OTSHIM_TRACES="many", OTEL_EXPORTER_OTLP_ENDPOINT="ftp://x",
                            OTSHIM_LOG="loud")
    result = otshim("exporter", env=env, cwd=tmp_path)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    for name in ("OTSHIM_SOCKET", "OTSHIM_HTTP", "OTSHIM_TRACES", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTSHIM_LOG"):
        assert len([line for line in lines if name in line]) == 1, (name, lines)


def test_log_that_cannot_be_opened(tmp_path):
    result = otshim("exporter", env=clean_environment(OTSHIM_SOCKET=str(tmp_path / "s"), OTSHIM_LOG_FILE="/no/such/directory/log"))
    assert result.returncode == 2
    assert "OTSHIM_LOG_FILE" in result.stderr


def test_log_is_reopened(tmp_path):
    log = tmp_path / "log"
    exporter = Exporter(tmp_path, OTSHIM_LOG_FILE=str(log))
    log.rename(tmp_path / "log.1")
    exporter.process.send_signal(signal.SIGHUP)
    wait_until(log.exists)
    assert exporter.stop() == 0
    assert "stopping" in log.read_text()


def test_second_exporter_names_the_first(exporter):
    result = otshim("exporter", env={**exporter.env, "OTSHIM_HTTP": "127.0.0.1:0"})
    assert result.returncode == 1
    assert "pid %d" % exporter.process.pid in result.stderr
    assert exporter.socket in result.stderr
    # and has done the first no harm
    assert exporter.get("/healthz")[0] == 200
    Process(exporter.socket).close()


def test_http_port_in_use(exporter, tmp_path):
    result = otshim("exporter", env={**exporter.env, "OTSHIM_SOCKET": str(tmp_path / "other.sock")})
    assert result.returncode == 1
    assert exporter.http.split(":")[1] in result.stderr
    assert "OTSHIM_HTTP" in result.stderr
    assert not (tmp_path / "other.sock").exists()


def test_http_off(tmp_path):
    env = clean_environment(OTSHIM_SOCKET=str(tmp_path / "s"), OTSHIM_HTTP="off")
    reader, writer = os.pipe()
    process = subprocess.Popen([OTSHIM, "exporter", "--ready-fd", str(writer)], env=env, stderr=subprocess.PIPE, pass_fds=[writer], text=True)
    os.close(writer)
    with os.fdopen(reader) as ready:
        assert json.loads(ready.readline()) == {"socket": str(tmp_path / "s"), "http": None}
    process.terminate()
    assert "OTSHIM_HTTP=off" in process.communicate(timeout=10)[1]
    assert process.returncode == 0


# ---- HTTP ---------------------------------------------------------------------------------------------------------------------------


def test_healthz(exporter):
    status, headers, body = exporter.get("/healthz")
    assert (status, body) == (200, "ok\n")
    assert headers["Content-Type"].startswith("text/plain")


def test_metrics(exporter):
    process = Process(exporter.socket)
    process.span(1, 1, attributes=[(METHOD, "GET"), (TARGET, "/")])
    process.count(1, 7)  # OTSHIM_COUNT_DROPPED_FULL
    wait_until(lambda: "otshim_exporter_spans_received_total 1\n" in exporter.get("/metrics")[2])
    status, headers, body = exporter.get("/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'otshim_library_dropped_total{reason="ring_full"} 7\n' in body
    assert 'otshim_exporter_hellos_total{result="accepted"} 1\n' in body
    # every sample has a HELP and a TYPE before it, nothing comes twice
    seen, declared = set(), {}
    for line in body.splitlines():
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            assert (what, name) not in declared
            declared[what, name] = rest
            continue
        assert re.fullmatch(r'[a-z_]+(\{[a-z_]+="[^"]*"\})? [0-9.]+', line), line
        name = re.split(r"[ {]", line)[0]
        assert ("HELP", name) in declared and declared["TYPE", name] in ("counter", "gauge")
        assert line.split(" ")[0] not in seen
        seen.add(line.split(" ")[0])
        assert name.endswith("_total") == (declared["TYPE", name] == "counter")
    process.close()


@pytest.mark.parametrize("path, status, words", [
    ("/nope", 404, "/api/traces"), ("/api/traces/", 400, "32 hexadecimal digits"), ("/api/traces/xyz", 400, "32 hexadecimal digits"),
    ("/api/traces/" + "a" * 33, 400, "32 hexadecimal digits"), ("/api/traces/" + "a" * 32, 404, "OTSHIM_TRACES"),
    ("/api/traces?limit=x", 400, "limit=x"), ("/api/traces?limit=-1", 400, "limit=-1"), ("/api/traces?since=99999999999999999999", 400, "since"),
    ("/api/traces?min_duration=fast", 400, "100ms"), ("/api/traces?error=perhaps", 400, "perhaps"),
    ("/api/traces?servcie=a", 400, "service, min_duration, error, limit and since"), ("/api/status?x=1", 400, "unknown parameter"),
    ("/api/traces%00x", None, None), ("/%1b%5d0;owned%07", 404, "\\x1b]0;owned\\x07"), ("/../../etc/passwd", 404, None)])
def test_errors_help(exporter, path, status, words):
    answered, headers, body = exporter.get(path)
    if status is not None:
        assert answered == status
    if answered != 200 and headers["Content-Type"].startswith("application/json"):
        message = json.loads(body)["error"]
        assert words is None or words in message


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_only_reading(exporter, method):
    status, headers, body = exporter.get("/api/traces", method=method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert method in json.loads(body)["error"]


def test_head(exporter):
    status, headers, body = exporter.get("/api/status", method="HEAD")
    assert (status, body) == (200, "")
    assert int(headers["Content-Length"]) > 0


def test_no_other_origin_may_read(exporter):
    for path in ("/", "/api/traces", "/api/status", "/metrics"):
        _, headers, _ = exporter.get(path, headers={"Origin": "http://evil.example", "Host": "evil.example"})
        assert headers["Access-Control-Allow-Origin"] is None
        assert "evil" not in str(headers)


def test_keep_alive_and_garbage(exporter):
    host, port = exporter.http.split(":")
    with socket.create_connection((host, int(port))) as connection:
        for _ in range(3):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += connection.recv(4096)
            assert b"200 OK" in answer
    for garbage in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"\0" * 100000):
        with socket.create_connection((host, int(port))) as connection:
            connection.settimeout(10)
            try:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                pass
    assert exporter.get("/healthz")[0] == 200


def test_traces_of_the_api(exporter):
    start = now() - 10**9
    app = Process(exporter.socket, service="app-a")
    app.span(0xA1, 1, start=start, duration=10**8, attributes=[(METHOD, "GET"), (TARGET, "/chain"), (HOST, "app-a:8000")])
    app.span(0xA1, 2, parent=1, kind=CLIENT, start=start + 10**7, duration=10**7, status=503,
             attributes=[(METHOD, "GET"), (TARGET, "/io_task"), (HOST, "app-b:8002")])
    app.span(0xA2, 3, start=start + 5 * 10**8, duration=10**6, attributes=[(METHOD, "POST"), (TARGET, "/x?q=1")])
    traces = wait_until(lambda: len(exporter.json("/api/traces")) == 2 and exporter.json("/api/traces"))
    assert [trace["traceId"] for trace in traces] == ["%032x" % 0xA2, "%032x" % 0xA1]
    chain = traces[1]
    assert chain["rootTitle"] == "GET /chain"
    assert chain["rootService"] == "app-a" and chain["services"] == ["app-a"]
    assert (chain["spanCount"], chain["errorCount"], chain["rootSeen"]) == (2, 1, True)
    assert chain["durationNs"] == 10**8
    assert abs(int(chain["startTimeUnixNano"]) - time.time_ns()) < 60 * 10**9
    assert [t["traceId"] for t in exporter.json("/api/traces?error=true")] == [chain["traceId"]]
    assert [t["traceId"] for t in exporter.json("/api/traces?min_duration=50ms")] == [chain["traceId"]]
    assert exporter.json("/api/traces?service=app-b") == []
    assert len(exporter.json("/api/traces?limit=1")) == 1
    assert exporter.json("/api/traces?since=%d" % max(t["sequence"] for t in traces)) == []
    document = exporter.json("/api/traces/" + chain["traceId"])
    spans = [span for r in document["resourceSpans"] for s in r["scopeSpans"] for span in s["spans"]]
    assert sorted(span["spanId"] for span in spans) == ["%016x" % 1, "%016x" % 2]
    assert "GET /chain" in exporter.get("/")[2]
    app.close()


def test_page_escapes(exporter):
    app = Process(exporter.socket, service="<script>alert(1)</script>")
    app.span(0xB1, 1, attributes=[(METHOD, "GET"), (TARGET, "/<img src=x onerror=alert(1)>\x1b[2J")])
    wait_until(lambda: exporter.json("/api/traces"))
    _, headers, body = exporter.get("/")
    assert "<script>" not in body and "<img" not in body and "\x1b" not in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    app.close()


def test_recent_traces_are_bounded(tmp_path):
    exporter = Exporter(tmp_path, OTSHIM_TRACES="5")
    app = Process(exporter.socket)
    for i in range(50):
        app.span(i + 1, 1, attributes=[(METHOD, "GET"), (TARGET, "/%d" % i)])
    wait_until(lambda: "otshim_exporter_spans_received_total 50\n" in exporter.get("/metrics")[2])
    traces = exporter.json("/api/traces?limit=0")
    assert [t["rootTitle"] for t in traces] == ["GET /%d" % i for i in (49, 48, 47, 46, 45)]
    app.close()
    assert exporter.stop() == 0


def test_never_traces_itself(tmp_path):
    """Started with the library preloaded, as in a shell that exports LD_PRELOAD."""
    from conftest import LIBRARY
    if not LIBRARY.exists():
        pytest.skip("libotshim.so is not built")
    exporter = Exporter(tmp_path, LD_PRELOAD=str(LIBRARY))
    for _ in range(5):
        assert exporter.get("/healthz")[0] == 200
    assert exporter.json("/api/status")["processes"] == []
    assert exporter.json("/api/traces") == []
    assert exporter.stop() == 0
