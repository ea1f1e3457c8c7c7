"""Python: Flask on gunicorn calling out with requests, and the standard library's http.server with urllib."""

import errno
import socket

import lab as laboratory
import pytest
import programs
from lab import fetch

FETCH = """
    front SERVER GET /fetch/1 200
      front INTERNAL tcp.connect 127.0.0.1:{leaf}
      front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
        leaf SERVER GET /leaf/1 200
"""

FETCH_EACH = FETCH.replace("/1 ", "/ID ")

GUNICORN = {
    "sync": {"kind": "sync", "workers": 2},
    "gthread": {"kind": "gthread", "workers": 1, "threads": 4},
    "gthread-prefork": {"kind": "gthread", "workers": 2, "threads": 3},
}


@pytest.mark.parametrize("how", GUNICORN)
def test_gunicorn_flask_requests(lab, how):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.gunicorn, "front", **GUNICORN[how])
    lab.get(front, fetch(leaf.url("/leaf/1")))
    lab.expect(FETCH)


@pytest.mark.parametrize("how", GUNICORN)
def test_gunicorn_storm(lab, how):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.gunicorn, "front", **GUNICORN[how])
    ids = laboratory.ids(100)
    lab.storm(front, fetch(leaf.url("/leaf/ID"), leaf.url("/leaf/ID"), ident="ID"), ids)
    lab.expect_each(
        """
        front SERVER GET /fetch/ID 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID 200
            leaf SERVER GET /leaf/ID 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID 200
            leaf SERVER GET /leaf/ID 200
        """,
        ids,
    )


def test_gunicorn_unhandled_exception(lab):
    front = lab.start(programs.gunicorn, "front")
    lab.get(front, "/boom/1", status=500)
    lab.expect("front SERVER GET /boom/1 500 ERROR")


def test_gunicorn_upstream_refuses(lab):
    front = lab.start(programs.gunicorn, "front")
    nobody = laboratory.free_port()
    lab.ports[nobody] = "nobody"
    lab.get(front, f"/refused/1?url=http://127.0.0.1:{nobody}/", status=502)
    lab.expect(
        """
        front SERVER GET /refused/1 502 ERROR
          front INTERNAL tcp.connect 127.0.0.1:{nobody} ERROR ECONNREFUSED
        """
    )


def test_requests_by_name_has_the_lookup(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.gunicorn, "front")
    in_vain = tried_before_ipv4(leaf.port)
    lab.get(front, fetch(f"http://localhost:{leaf.port}/leaf/1"))
    lab.expect(
        """
        front SERVER GET /fetch/1 200 server.address=127.0.0.1
          front INTERNAL dns.lookup localhost
        IN_VAIN  front INTERNAL tcp.connect 127.0.0.1:{leaf} server.address=localhost
          front CLIENT GET http://localhost:{leaf}/leaf/1 200 server.address=localhost
            leaf SERVER GET /leaf/1 200 server.address=localhost
        """.replace("IN_VAIN", in_vain),
        show=["server.address"],
    )


def tried_before_ipv4(port):
    """The lines of the addresses that this machine has for localhost ahead of 127.0.0.1, where nobody listens."""
    lines = ""
    try:
        found = socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except socket.gaierror:
        pytest.skip("this machine does not know localhost (no /etc/hosts)")
    except OSError:
        return lines  # no IPv6: requests does not try it
    for family, kind, _, _, address in found:
        if address[0] == "127.0.0.1":
            break
        with socket.socket(family, kind) as s:
            error = errno.errorcode[s.connect_ex(address)]
        lines += f"  front INTERNAL tcp.connect [{address[0]}]:{{leaf}} ERROR {error} server.address=localhost\n        "
    return lines


def test_program_started_by_a_request_continues_its_trace(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.gunicorn, "front")
    programs.need("curl")
    assert lab.get(front, f"/spawn/1?url={leaf.url('/leaf/1')}") == "ok /leaf/1\n"
    lab.expect(
        """
        front SERVER GET /spawn/1 200 process.executable.name=python3.11
          front INTERNAL tcp.connect 127.0.0.1:{leaf} process.executable.name=curl
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200 process.executable.name=curl
            leaf SERVER GET /leaf/1 200 process.executable.name=thread_server
        """,
        show=["process.executable.name"],
    )


def test_http_server_urllib(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.urllib_server, "front")
    lab.get(front, fetch(leaf.url("/leaf/1")))
    lab.expect(FETCH)


def test_http_server_post(lab):
    front = lab.start(programs.urllib_server, "front")
    lab.get(front, "/echo/1", status=201, method="POST", body=b"x" * 100_000)
    lab.expect("front SERVER POST /echo/1 201 http.request.body.size=100000 http.response.body.size=100000",
               show=["http.request.body.size", "http.response.body.size"])


def test_http_server_storm(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.urllib_server, "front")
    ids = laboratory.ids(100)
    lab.storm(front, fetch(leaf.url("/leaf/ID"), ident="ID"), ids)
    lab.expect_each(FETCH_EACH, ids)
