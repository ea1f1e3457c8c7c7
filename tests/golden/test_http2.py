"""HTTP/2: h2c and over TLS, both sides, and gRPC on top of it. Each stream is a request of its own."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import lab as laboratory
import programs
import pytest
import tls

BIN = Path(sys.executable).parent


def nginx_http2(leaf, encrypted):
    def start(lab, name, port):
        cert = tls.files(lab.directory)
        http = f"""upstream backend {{ server 127.0.0.1:{leaf.port} max_fails=0; }}
            ssl_certificate {cert.chain}; ssl_certificate_key {cert.key};"""
        # the leaf is asked without the client's traceparent: what nginx sends is nginx's
        location = """location / { proxy_pass http://backend; proxy_set_header traceparent ""; }
            location /here { return 200 "$http_traceparent\\n"; }"""
        return programs.nginx(lab, name, port, http, location, listen="ssl http2" if encrypted else "http2")

    return start


def test_curl_through_nginx(lab):
    """Over TLS, two requests on one connection."""
    authority = tls.Authority(lab.directory)
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(nginx_http2(leaf, True), "front")
    url = front.url("").replace("http:", "https:")
    done = lab.run([programs.need("curl"), "-sS", "--http2", url + "/leaf/1", url + "/here"], "shell", env=authority.env)
    assert re.fullmatch(rb"ok /leaf/1\n00-[0-9a-f]{32}-[0-9a-f]{16}-01\n", done.stdout), done
    forest = lab.expect(
        """
        shell CLIENT GET https://127.0.0.1:{front}/leaf/1 200
          shell INTERNAL tcp.connect 127.0.0.1:{front}
          shell INTERNAL tls.handshake
          front SERVER GET /leaf/1 200
            front INTERNAL tls.handshake
            front INTERNAL tcp.connect 127.0.0.1:{leaf}
            front CLIENT GET http://backend/leaf/1 200
              leaf SERVER GET /leaf/1 200

        shell CLIENT GET https://127.0.0.1:{front}/here 200
          front SERVER GET /here 200
        """
    )
    if forest:
        versions = {s.service: s.attributes["network.protocol.version"] for s in forest.spans if s.kind in ("CLIENT", "SERVER")}
        assert versions["shell"] == "2" and versions["leaf"] == "1.0"
        assert next(s for s in forest.spans if s.name == "tls.handshake").attributes["tls.next_protocol"] == "h2"


def test_prior_knowledge(lab):
    """h2c. (One request: curl 7.88 cannot use such a connection twice, with or without us.)"""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(nginx_http2(leaf, False), "front")
    done = lab.run([programs.need("curl"), "-sS", "--http2-prior-knowledge", front.url("/leaf/1")], "shell")
    assert done.stdout == b"ok /leaf/1\n", done
    lab.expect(
        """
        shell CLIENT GET http://127.0.0.1:{front}/leaf/1 200
          shell INTERNAL tcp.connect 127.0.0.1:{front}
          front SERVER GET /leaf/1 200
            front INTERNAL tcp.connect 127.0.0.1:{leaf}
            front CLIENT GET http://backend/leaf/1 200
              leaf SERVER GET /leaf/1 200
        """
    )


@pytest.fixture
def grpc_server(lab):
    if find_spec("grpc") is None:
        pytest.skip("grpcio is not installed")
    return lab.start(lambda lab, name, port: [BIN / "python", programs.PROGRAMS / "grpc_server.py", port], "server")


def call(lab, server, *methods):
    done = lab.run([BIN / "python", programs.PROGRAMS / "grpc_client.py", server.port, *methods], "client")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().split("\n")[:-1]


def test_grpc(lab, grpc_server):
    assert call(lab, grpc_server, "/shop.Cart/Echo", "/shop.Cart/Fail", "/shop.Cart/Count") == ["hello", "NOT_FOUND", "['0', '1', '2']"]
    forest = lab.expect(
        """
        client CLIENT POST http://127.0.0.1:{server}/shop.Cart/Echo 200
          client INTERNAL tcp.connect 127.0.0.1:{server}
          server SERVER POST /shop.Cart/Echo 200

        client CLIENT POST http://127.0.0.1:{server}/shop.Cart/Fail 200 ERROR NOT_FOUND
          server SERVER POST /shop.Cart/Fail 200

        client CLIENT POST http://127.0.0.1:{server}/shop.Cart/Count 200
          server SERVER POST /shop.Cart/Count 200
        """
    )
    if forest:
        clients = [s for s in forest.roots if s.kind == "CLIENT"]
        assert [s.name for s in clients] == ["shop.Cart/Echo", "shop.Cart/Fail", "shop.Cart/Count"]
        assert all(s.attributes["rpc.system.name"] == "grpc" and s.attributes["rpc.method"] == s.name for s in clients)
        assert [s.attributes["rpc.response.status_code"] for s in clients] == ["OK", "NOT_FOUND", "OK"]
        assert clients[1].message == "no such cart"


def test_grpc_from_many_threads(lab, grpc_server):
    """One connection, written by one thread while another reads it: no call and no answer may go unseen."""
    done = lab.run([BIN / "python", programs.PROGRAMS / "grpc_crowd.py", grpc_server.port, 8, 250], "client", timeout=60)
    assert done.stdout == b"2000\n", done.stderr
    if laboratory.BARE:
        return
    received = "otshim_exporter_spans_received_total"
    laboratory.wait_for(lambda: lab.metrics()[received] >= 2 * 2000 + 1, 15, "a span on either side of each call")
    counted = lab.metrics()
    assert counted[received] == 2 * 2000 + 1  # and the connection
    assert not {name: n for name, n in counted.items() if n and any(word in name for word in ("busy", "protocol_lost", "exchange_full"))}
