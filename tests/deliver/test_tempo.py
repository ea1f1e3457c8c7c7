"""A real Tempo, where one is to be had: OTSHIM_TEST_TEMPO names the binary (2.4 or later). Skipped by name otherwise."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

TEMPO = os.environ.get("OTSHIM_TEST_TEMPO")
pytestmark = pytest.mark.skipif(not TEMPO, reason="OTSHIM_TEST_TEMPO names no Tempo binary")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


@pytest.fixture(scope="module")
def tempo(tmp_path_factory):
    where = tmp_path_factory.mktemp("tempo")
    ports = {name: free_port() for name in ("grpc", "http", "api", "internal")}
    (where / "tempo.yaml").write_text(f"""
server: {{http_listen_address: 127.0.0.1, grpc_listen_address: 127.0.0.1, http_listen_port: {ports["api"]}, grpc_listen_port: {ports["internal"]}}}
usage_report: {{reporting_enabled: false}}
distributor:
  receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{ports["grpc"]}"}}, http: {{endpoint: "127.0.0.1:{ports["http"]}"}}}}}}}}
ingester: {{lifecycler: {{address: 127.0.0.1}}}}
storage: {{trace: {{backend: local, local: {{path: {where}/traces}}, wal: {{path: {where}/wal}}}}}}
""")
    with open(where / "log", "wb") as log:
        process = subprocess.Popen([TEMPO, f"-config.file={where}/tempo.yaml", "-target=all"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                get(f"http://127.0.0.1:{ports['api']}/ready")
                break
            except (OSError, urllib.error.HTTPError):
                assert process.poll() is None, (where / "log").read_text()[-3000:]
                time.sleep(0.5)
        yield ports
    finally:
        process.kill()  # its orderly end takes half a minute, and its files go anyway
        process.wait()


@pytest.mark.parametrize("transport", ["grpc", "http"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_trace_comes_back(send, tempo, transport, compression):
    protocol = {"grpc": "grpc", "http": "http/protobuf"}[transport]
    result = send(f"http://127.0.0.1:{tempo[transport]}", 4000, 1, 400, OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
                  OTEL_EXPORTER_OTLP_COMPRESSION=compression)
    assert result["exported"] == 4000 and result["failures"] == 0 and result["log"] == []
    trace = json.loads(get(f"http://127.0.0.1:{tempo['api']}/api/traces/{result['trace_id']}"))
    spans = [span for batch in trace["batches"] for scope in batch["scopeSpans"] for span in scope["spans"]]
    assert sorted(span["name"] for span in spans) == ["GET", "GET", "GET", "GET /orders/{id}"]
