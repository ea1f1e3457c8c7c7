"""Node, Java, PHP and C, each with its usual HTTP server and client."""

from concurrent.futures import ThreadPoolExecutor

import lab as laboratory
import pytest
import programs
from lab import fetch

# A server that makes a connection for each call.
ONE_CALL = """
    front SERVER GET /fetch/1 200
      front INTERNAL tcp.connect 127.0.0.1:{leaf}
      front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
        leaf SERVER GET /leaf/1 200
"""
ONE_CALL_EACH = ONE_CALL.replace("/1 ", "/ID ")

# Where connections are kept for the next request, who made them is left out.
KEPT_CONNECTIONS = """
    front SERVER GET /fetch/ID 200
      front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID 200
        leaf SERVER GET /leaf/ID 200
"""


def test_c_thread_per_connection(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.thread_server, "front")
    lab.get(front, fetch(leaf.url("/leaf/1"), leaf.url("/status/2?code=404")))
    lab.expect(
        """
        front SERVER GET /fetch/1 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
            leaf SERVER GET /leaf/1 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/status/2 404 ERROR
            leaf SERVER GET /status/2 404
        """
    )


def test_c_storm(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.thread_server, "front")
    ids = laboratory.ids(400)
    lab.storm(front, fetch(leaf.url("/leaf/ID"), ident="ID"), ids, concurrency=16)
    lab.expect_each(ONE_CALL_EACH, ids)


def test_node(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.node, "front")
    lab.get(front, fetch(leaf.url("/leaf/1"), leaf.url("/leaf/2")))
    lab.expect(
        """
        front SERVER GET /fetch/1 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/1 200
            leaf SERVER GET /leaf/1 200
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/2 200
            leaf SERVER GET /leaf/2 200
        """
    )


def test_node_chunks_both_ways(lab):
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


def test_node_upstream_refuses(lab):
    front = lab.start(programs.node, "front")
    nobody = laboratory.free_port()
    lab.ports[nobody] = "nobody"
    lab.get(front, fetch(f"http://127.0.0.1:{nobody}/"), status=502)
    lab.expect(
        """
        front SERVER GET /fetch/1 502 ERROR
          front INTERNAL tcp.connect 127.0.0.1:{nobody} ERROR ECONNREFUSED
        """
    )


def test_node_storm(lab):
    """Many requests on one thread: a call may be without a parent, never under another's request."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.node, "front")
    ids = laboratory.ids(200)
    lab.storm(front, fetch(leaf.url("/leaf/ID"), ident="ID"), ids)
    lab.expect_each(KEPT_CONNECTIONS, ids, without=["tcp.connect"], may_lack_parents=True)


def test_node_that_waits_before_it_calls(lab):
    """A timer is nothing that libc knows the owner of: right or none, whoever else is being served when it fires."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.node, "front")
    ids = laboratory.ids(400)
    lab.storm(front, fetch(leaf.url("/leaf/ID"), ident="ID") + "&later=3", ids[:200])
    with ThreadPoolExecutor(2) as both:
        waiting = both.submit(lab.storm, front, fetch(leaf.url("/leaf/ID"), ident="ID") + "&later=3", ids[200:300])
        prompt = both.submit(lab.storm, front, fetch(leaf.url("/leaf/ID"), ident="ID"), ids[300:])
        waiting.result(), prompt.result()
    lab.expect_each(KEPT_CONNECTIONS, ids, without=["tcp.connect"], may_lack_parents=True)


def test_java(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.java, "front")
    lab.get(front, fetch(leaf.url("/leaf/1")))
    lab.expect(ONE_CALL)


def test_java_storm(lab):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.java, "front")
    ids = laboratory.ids(200)
    lab.storm(front, fetch(leaf.url("/leaf/ID"), ident="ID"), ids)
    lab.expect_each(KEPT_CONNECTIONS, ids, without=["tcp.connect"])


@pytest.mark.parametrize("by", ["curl", "fopen"])
def test_apache_php(lab, by):
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.apache_php, "front")
    lab.get(front, f"/fetch.php?by={by}&url={leaf.url('/leaf/1')}")
    lab.expect(
        """
        front SERVER GET /fetch.php 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/1/BY 200
            leaf SERVER GET /leaf/1/BY 200
        """.replace("BY", by)
    )


def test_apache_php_storm(lab):
    """Both ways in one request; the id is in the calls only, so that each trace must show its own two and no other's."""
    leaf = lab.start(programs.thread_server, "leaf")
    front = lab.start(programs.apache_php, "front")
    ids = laboratory.ids(60)
    lab.storm(front, f"/fetch.php?url={leaf.url('/leaf/ID')}", ids, concurrency=6)
    lab.expect_each(
        """
        front SERVER GET /fetch.php 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID/curl 200
            leaf SERVER GET /leaf/ID/curl 200
          front INTERNAL tcp.connect 127.0.0.1:{leaf}
          front CLIENT GET http://127.0.0.1:{leaf}/leaf/ID/fopen 200
            leaf SERVER GET /leaf/ID/fopen 200
        """,
        ids,
    )
