"""Java, PHP and C, each with its usual HTTP server and client."""

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
