"""Node.js: whatever the program waits for, its calls are the request's that it works for, and nothing else is."""

import socket
from concurrent.futures import ThreadPoolExecutor

import lab as laboratory
import programs
import pytest
from lab import fetch
from test_languages import KEPT_CONNECTIONS

ONE_CALL = """
    front SERVER GET /fetch/1 200
      front INTERNAL tcp.connect 127.0.0.1:{leaf}
      front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
        leaf SERVER GET /leaf/1 200
"""

MAINS = pytest.mark.parametrize("main", ["server.js", "server.mjs"])


@MAINS
@pytest.mark.parametrize("by", ["get", "fetch"])
def test_calls(lab, main, by):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.node, "front", main=main)
    lab.get(front, fetch(leaf.url("/leaf/1")) + f"&by={by}&later=5")
    forest = lab.expect(ONE_CALL)
    if forest:
        assert {s.attributes["otshim.parent"] for s in forest.spans if s.service == "front" and s.kind != "SERVER"} == {"runtime"}


@MAINS
@pytest.mark.parametrize("by", ["get", "fetch"])
def test_many_at_once(lab, main, by):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.node, "front", main=main)
    ids = laboratory.ids(300)
    path = fetch(leaf.url("/leaf/ID"), ident="ID") + f"&by={by}"
    with ThreadPoolExecutor(2) as both:
        waiting = both.submit(lab.storm, front, path + "&later=3", ids[:150])
        prompt = both.submit(lab.storm, front, path, ids[150:])
        waiting.result(), prompt.result()
    lab.expect_each(KEPT_CONNECTIONS, ids, without=["tcp.connect"])


def test_from_a_worker_thread(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.node, "front", where="thread")
    ids = laboratory.ids(100)
    lab.storm(front, fetch(leaf.url("/leaf/ID"), ident="ID") + "&later=3", ids)
    lab.expect_each(KEPT_CONNECTIONS, ids, without=["tcp.connect"])


def test_after_a_body_that_came_later(lab):
    """The rest of the body is read when the handler has long returned, and after another request was."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.node, "front")
    with socket.create_connection(("127.0.0.1", front.port)) as s:
        s.sendall(f"POST {fetch(leaf.url('/leaf/1'))}&events HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nfirst".encode())
        lab.get(front, fetch(leaf.url("/leaf/2"), ident="2"))
        s.sendall(b"+last")
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
    lab.expect(
        """
        front SERVER POST /fetch/1 200
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
            leaf SERVER GET /leaf/1 200

        front SERVER GET /fetch/2 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/2 200
            leaf SERVER GET /leaf/2 200
        """
    )


def test_upgrade(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.node, "front")
    with socket.create_connection(("127.0.0.1", front.port)) as s:
        s.sendall(f"GET {fetch(leaf.url('/leaf/1'))} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n".encode())
        assert s.recv(4096).startswith(b"HTTP/1.1 101")
    lab.expect(ONE_CALL.replace("/fetch/1 200", "/fetch/1 101"))


def test_child_process(lab):
    front = lab.start(programs.node, "front")
    text = lab.get(front, "/child/1")
    forest = lab.expect("front SERVER GET /child/1 200")
    if forest:
        span = forest.spans[0]
        assert text.split() == [f"00-{span.trace_id}-{span.span_id}-01"] * 2


def test_chunks_both_ways(lab):
    """A body of 2 MB for which curl asks leave (Expect: 100-continue) and sends in chunks, and an answer in chunks over 50 ms."""
    front = lab.start(programs.node, "front")
    body = lab.file("body", "x" * 2_000_000)
    options = ["-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked", "-T", body]
    done = lab.run([programs.need("curl"), "-sS", *options, front.url("/stream/1")], "shell")
    assert done.stdout.endswith(b"piece 4\n2000000 bytes came\n")
    forest = lab.expect(
        """
        shell CLIENT PUT http://127.0.0.1:{front}/stream/1 200 http.request.body.size=2000000 http.response.body.size=59
          shell INTERNAL tcp.connect 127.0.0.1:{front}
          front SERVER PUT /stream/1 200 http.request.body.size=2000000 http.response.body.size=59
        """,
        show=["http.request.body.size", "http.response.body.size"],
    )
    if forest:
        server = forest.roots[0].children[1]
        assert server.end - server.start > 40_000_000


@pytest.mark.parametrize("by", ["get", "fetch"])
def test_upstream_refuses(lab, by):
    front = lab.start(programs.node, "front")
    nobody = laboratory.free_port()
    lab.ports[nobody] = "nobody"
    assert lab.get(front, fetch(f"http://127.0.0.1:{nobody}/") + f"&by={by}", status=502) == "ECONNREFUSED\n"
    lab.expect(
        """
        front SERVER GET /fetch/1 502 ERROR
          front INTERNAL tcp.connect 127.0.0.1:{nobody} ERROR ECONNREFUSED
        """
    )


def test_names(lab):
    """Another thread looks them up, which has no request."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.node, "front")
    lab.get(front, fetch(leaf.url("/leaf/1").replace("127.0.0.1", "localhost")))
    lab.expect(
        """
        front SERVER GET /fetch/1 200
          front INTERNAL dns.lookup localhost
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://localhost:{leaf}/leaf/1 200
            leaf SERVER GET /leaf/1 200
        """
    )


def test_pipelined(lab):
    """Which of two requests on a connection the program works on is not told: their calls are roots. It is once one has come alone again."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.node, "front")
    requests = [
        f"GET {fetch(leaf.url(f'/leaf/{n}'), ident=str(n))}&later=20 HTTP/1.1\r\nHost: h\r\n\r\n".encode() for n in (1, 2, 3)
    ]
    lab.converse(front, [requests[0] + requests[1], requests[2]], 3, pause=0.3)
    lab.expect(
        """
        front SERVER GET /fetch/1 200

        front SERVER GET /fetch/2 200

        front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          leaf SERVER GET /leaf/1 200

        front CLIENT GET http://127.0.0.1:{leaf}/leaf/2 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          leaf SERVER GET /leaf/2 200

        front SERVER GET /fetch/3 200
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/3 200
            leaf SERVER GET /leaf/3 200
        """
    )
