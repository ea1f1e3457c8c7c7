"""https, seen above OpenSSL: what is inside, the handshake, and a traceparent that goes in before the encryption."""

import re
import shutil
import socket
import ssl
import sys
from importlib.util import find_spec
from pathlib import Path

import programs
import pytest
import tls

BIN = Path(sys.executable).parent


@pytest.fixture
def authority(lab):
    return tls.Authority(lab.directory)


def https_server(lab, name, port):
    cert = tls.files(lab.directory)
    return [programs.SYSTEM_PYTHON, programs.PROGRAMS / "https_server.py", port, cert.chain, cert.key]


def uvicorn(loop):
    def start(lab, name, port):
        if any(find_spec(module) is None for module in ("uvicorn", "httpx", "fastapi", *(["uvloop"] if loop == "uvloop" else []))):
            pytest.skip(f"uvicorn, httpx, fastapi or {loop} is not installed")
        cert = tls.files(lab.directory)
        return [BIN / "uvicorn", "--app-dir", programs.PROGRAMS, "--port", port, "--log-level", "warning", "--loop", loop, "--ssl-keyfile", cert.key,
                "--ssl-certfile", cert.chain, "https_app:app"]

    return start


def nginx(upstream):
    def start(lab, name, port):
        cert = tls.files(lab.directory)
        http = f"""upstream backend {{ server 127.0.0.1:{upstream.port} max_fails=0; }}
            ssl_certificate {cert.chain}; ssl_certificate_key {cert.key};
            proxy_ssl_trusted_certificate {cert.authority}; proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name on;"""
        return programs.nginx(lab, name, port, http, "location / { proxy_pass https://backend; }", listen="ssl")

    return start


def get(authority, server, path):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:
        with authority.client().wrap_socket(plain, server_hostname="localhost") as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{server.port}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: s.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return answer


def handshakes(forest):
    return [s for s in forest.spans if s.name == "tls.handshake"] if forest else []


def test_blocking_sockets(lab, authority):
    leaf = lab.start(https_server, "leaf")
    front = lab.start(https_server, "front", env={"NEXT_URL": f"https://127.0.0.1:{leaf.port}"} | authority.env)
    get(authority, front, "/fetch/1")
    forest = lab.expect(
        """
        front SERVER GET /fetch/1 200
          front INTERNAL tls.handshake
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front INTERNAL tls.handshake
          front CLIENT GET https://127.0.0.1:{leaf}/leaf/1 200
            leaf SERVER GET /leaf/1 200
              leaf INTERNAL tls.handshake
        """
    )
    if forest:
        inbound, handshake, _ = sorted(handshakes(forest), key=lambda s: (s.service, s.start))
        assert "server.port" not in inbound.attributes and inbound.attributes["network.local.port"] == front.port
        assert handshake.attributes["tls.protocol.name"] == "tls" and handshake.attributes["tls.protocol.version"] == "1.3"
        assert handshake.attributes["tls.cipher"].startswith("TLS_") and handshake.attributes["tls.resumed"] is False
        assert handshake.attributes["server.port"] == leaf.port
        servers = [s for s in forest.spans if s.kind == "SERVER"]
        assert [s.attributes["url.scheme"] for s in servers] == ["https", "https"]
        assert all(s.attributes["client.address"] == "127.0.0.1" for s in servers)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_memory_bios(lab, authority, loop):
    """The session never sees a descriptor: asyncio and uvloop move the records."""
    leaf = lab.start(uvicorn(loop), "leaf")
    front = lab.start(uvicorn(loop), "front", env={"NEXT_URL": f"https://127.0.0.1:{leaf.port}"} | authority.env)
    get(authority, front, "/gather/1")
    forest = lab.expect(
        """
        front SERVER GET /gather/1 200
          front INTERNAL tls.handshake
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front INTERNAL tls.handshake
          front CLIENT GET https://127.0.0.1:{leaf}/leaf/1-1 200
            leaf SERVER GET /leaf/1-1 200
              leaf INTERNAL tls.handshake
          front CLIENT GET https://127.0.0.1:{leaf}/leaf/1-2 200
            leaf SERVER GET /leaf/1-2 200
        """
    )
    if forest:
        assert all(s.attributes["network.peer.address"] == "127.0.0.1" for s in forest.spans)


def test_nginx_to_an_https_upstream(lab, authority):
    leaf = lab.start(https_server, "leaf")
    front = lab.start(nginx(leaf), "front")
    get(authority, front, "/leaf/1")
    forest = lab.expect(
        """
        front SERVER GET /leaf/1 200
          front INTERNAL tls.handshake
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front INTERNAL tls.handshake
          front CLIENT GET https://backend/leaf/1 200
            leaf SERVER GET /leaf/1 200
              leaf INTERNAL tls.handshake
        """
    )
    if forest:
        names = {s.attributes.get("tls.client.server_name") for s in handshakes(forest) if s.service == "front"}
        assert names == {"localhost"}  # of the client that asked, and of the upstream that was asked


def test_curl(lab, authority):
    """Two requests on one connection; curl's sockets are its own, below a BIO of its making."""
    leaf = lab.start(https_server, "leaf")
    done = lab.run([programs.need("curl"), "-sS", "--http1.1", leaf.url("/echo").replace("http:", "https:"),
                    leaf.url("/leaf/2").replace("http:", "https:")], "shell", env=authority.env)
    assert re.fullmatch(rb"\['00-[0-9a-f]{32}-[0-9a-f]{16}-01'\]ok /leaf/2\n", done.stdout) and done.stderr == b""
    lab.expect(
        """
        shell CLIENT GET https://127.0.0.1:{leaf}/echo 200
          shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          shell INTERNAL tls.handshake
          leaf SERVER GET /echo 200
            leaf INTERNAL tls.handshake

        shell CLIENT GET https://127.0.0.1:{leaf}/leaf/2 200
          leaf SERVER GET /leaf/2 200
        """
    )


def test_a_certificate_that_nobody_vouches_for(lab, authority):
    leaf = lab.start(https_server, "leaf")
    done = lab.run([programs.need("curl"), "-sS", leaf.url("/leaf/1").replace("http:", "https:")], "shell")
    assert done.returncode == 60 and b"certificate" in done.stderr
    forest = lab.expect(
        """
        shell INTERNAL tcp.connect 127.0.0.1:{leaf}
          shell INTERNAL tls.handshake ERROR tls_handshake_failed

        leaf INTERNAL tls.handshake ERROR tls_handshake_failed
        """
    )
    if forest:
        said = {s.service: s.message for s in handshakes(forest)}
        assert said["shell"] == "unable to get local issuer certificate" and "unknown ca" in said["leaf"]


RUBY = """
require "net/http"
http = Net::HTTP.new("127.0.0.1", ARGV[0].to_i)
http.use_ssl = true
http.ca_file = ENV["SSL_CERT_FILE"]
puts http.get("/leaf/1").body
"""

PHP = """
$curl = curl_init("https://127.0.0.1:" . $argv[1] . "/leaf/1");
curl_setopt($curl, CURLOPT_CAINFO, getenv("SSL_CERT_FILE"));
curl_exec($curl);
"""


@pytest.mark.parametrize("command", [["ruby", "-e", RUBY], ["php", "-r", PHP, "--"]], ids=["ruby", "php-curl"])
def test_other_languages(lab, authority, command):
    leaf = lab.start(https_server, "leaf")
    if command[0] == "php" and not shutil.which("php"):
        pytest.skip("php is not installed")
    done = lab.run([programs.need(command[0]), *command[1:], leaf.port], "client", env=authority.env)
    assert done.stdout == b"ok /leaf/1\n", done.stderr
    lab.expect(
        """
        client CLIENT GET https://127.0.0.1:{leaf}/leaf/1 200
          client INTERNAL tcp.connect 127.0.0.1:{leaf}
          client INTERNAL tls.handshake
          leaf SERVER GET /leaf/1 200
            leaf INTERNAL tls.handshake
        """
    )
